"""Every way in: whatever octets come, a decoder answers with a value or with an error of its own family, and what it took
it can write again. One table of entry points; random octets, and valid ones that were changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fiveg_atsss import BALANCED, CONTAINER, STANDBY
from test_fiveg_key_container import ACK, DELIVERED, DERIVED
from test_fiveg_keys import CHAIN_A, RAND, SET_1, SNN, milenage_of
from test_fiveg_nas_messages import GMM, GSM, GUTI, SUCI
from test_fiveg_pfcp_keywrap import WRAP, WRAPPED
from test_fiveg_pfcp_messages import EXAMPLES, wire
from test_fiveg_sbi_types import EXAMPLES as SBI

from fiveg.aka import AkaError, Usim, authentication_vector, resynchronise
from fiveg.atsss import AtsssContainer, AtsssError, AtsssRule, SteeringInformation
from fiveg.errors import FivegError
from fiveg.key_container import KeyContainer, KeyContainerError
from fiveg.nas import gmm, gsm
from fiveg.nas.envelope import Deframer, EnvelopeBroken, envelope
from fiveg.nas.errors import NasError
from fiveg.nas.identity import IDENTITY
from fiveg.nas_security import NasSecurityContext, NasSecurityError, Role, Sht, header_type, peek
from fiveg.pfcp import message as m
from fiveg.pfcp.codec import Codec, Group, slots_of
from fiveg.pfcp.errors import PfcpError
from fiveg.pfcp.sdf import FlowDescription
from fiveg.pfcp.transaction import Event, Transactions
from fiveg.sbi import multipart, strict
from fiveg.sbi.errors import SbiError

K_AMF = bytes.fromhex(str(CHAIN_A["k_amf"]))
AMF = NasSecurityContext(K_AMF, 0, Role.AMF)
AUTN = authentication_vector(milenage_of(SET_1), 100, RAND, SNN).autn
PLAIN = [message.encode() for message in GMM]
SECURITY_MODE = (gmm.SecurityModeCommand, gmm.SecurityModeComplete)
CIPHERED = [message.encode() for message in GMM if not isinstance(message, SECURITY_MODE)]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A decoder, the family of its errors, valid octets, and how the value is written again (None: it is not)."""

    name: str
    decode: Callable[[bytes], Any]
    family: type[FivegError]
    valid: tuple[bytes, ...]
    encode: Callable[[Any], bytes] | None = None


def deframe(data: bytes) -> list[bytes]:
    return list(Deframer().feed(data))


def flow(data: bytes) -> FlowDescription:
    return FlowDescription.parse(data.decode("latin-1"))


def usim(autn: bytes) -> Any:
    return Usim(milenage_of(SET_1), 99).answer(RAND, autn, SNN)


def open_at_ue(pdu: bytes) -> bytes:
    return NasSecurityContext(K_AMF, 0, Role.UE).unprotect(pdu, "3gpp").plain


def transactions(data: bytes) -> list[Event]:
    engine = Transactions(1)
    engine.request(("192.0.2.1", 8805), m.SessionDeletionRequest(), 7, 0.0)
    return engine.receive(data, ("192.0.2.1", 8805), 0.1)


def body(data: bytes) -> multipart.Body:
    """The content type is the peer's, too: the part before the first zero octet."""
    head, _, rest = data.partition(b"\0")
    return multipart.decode(head.decode("latin-1"), rest)


def pfcp(data: bytes) -> tuple[m.Header, m.Message]:
    return m.decode(data)


def pfcp_again(read: tuple[m.Header, m.Message]) -> bytes:
    header, message = read
    return m.encode(message, header.sequence, header.seid, header.priority)


def ie_codecs() -> dict[str, Codec]:
    """Every codec of an IE that is in any message or group, by where it was found."""
    found: dict[str, Codec] = {}
    todo: list[type[Group]] = list(m.MESSAGES.values())
    while todo:
        group = todo.pop()
        for slot in slots_of(group).values():
            name = f"{group.__name__}.{slot.name}"
            if name not in found:
                found[name] = slot.codec
                if isinstance(slot.codec, type) and issubclass(slot.codec, Group):
                    todo.append(slot.codec)
    return found


MULTIPART = multipart.encode(b'{"a":1}', (multipart.Part("n1", b"\x7e\x00"),))
ENTRIES = [
    Entry("5GMM", gmm.decode, NasError, tuple(PLAIN), lambda x: x.encode()),
    Entry("5GSM", gsm.decode, NasError, tuple(x.encode() for x in GSM), lambda x: x.encode()),
    Entry("identity", IDENTITY.decode, NasError, (SUCI.encode(), GUTI.encode()), IDENTITY.encode),
    Entry("envelope", deframe, EnvelopeBroken, tuple(map(envelope, PLAIN))),
    Entry("key container", KeyContainer.decode, KeyContainerError, tuple(x.encode() for x in (DERIVED, DELIVERED, ACK)),
          KeyContainer.encode),
    Entry("ATSSS container", AtsssContainer.decode, AtsssError, (CONTAINER.encode(),), AtsssContainer.encode),
    Entry("ATSSS rule", AtsssRule.decode, AtsssError, (BALANCED.encode()[2:], STANDBY.encode()[2:])),
    Entry("steering information", SteeringInformation.decode, AtsssError, (bytes.fromhex("00000008010a640001115102"),),
          SteeringInformation.encode),
    Entry("security header", header_type, NasSecurityError, tuple(PLAIN)),
    Entry("peek", peek, NasSecurityError, (AMF.protect(PLAIN[0], "3gpp", Sht.INTEGRITY),)),
    Entry("protected NAS", open_at_ue, NasSecurityError, tuple(AMF.protect(x, "3gpp") for x in CIPHERED)),
    Entry("AUTN", usim, AkaError, (AUTN,)),
    Entry("AUTS", lambda x: resynchronise(milenage_of(SET_1), RAND, x), AkaError,
          (bytes.fromhex("ba853f3c123ccf44e93596e355c6"),)),
    Entry("PFCP", pfcp, PfcpError, tuple(wire(x) for x in EXAMPLES), pfcp_again),
    Entry("PFCP transactions", transactions, PfcpError, tuple(wire(x, 1) for x in EXAMPLES)),
    Entry("wrapped key", lambda x: WRAP.unwrap(x, 1), PfcpError, (WRAPPED,)),
    Entry("flow description", flow, PfcpError, (b"permit out 6 from 10.99.0.0/16 80-90 to assigned",),
          lambda x: x.text().encode()),
    Entry("JSON", strict.parse, SbiError, (b'{"a":[1,"\\u00e4",{"b":null}]}',), strict.dump),
    Entry("multipart", body, SbiError, (MULTIPART[0].encode() + b"\0" + MULTIPART[1],)),
    *(Entry(f"SBI {type(x).__name__}", type(x).parse, SbiError, (x.text(),), lambda x: x.text()) for x in SBI),
]  # fmt: skip
IDS = [entry.name for entry in ENTRIES]


def judge(entry: Entry, data: bytes) -> None:
    try:
        value = entry.decode(data)
    except entry.family as error:
        assert str(error).strip(), "an error that says nothing"
        return
    if entry.encode is not None:
        again = entry.decode(entry.encode(value))
        if again != again:  # NaN would be one; nothing that is read may be
            raise AssertionError("a value that differs from itself")
        assert again == value


def changed(data: st.DataObject, octets: bytes) -> bytes:
    """One to three changes of what a peer, or the way, may do to a message: flips, cuts, doubles, wrong lengths."""
    out = bytearray(octets)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(out) - 1, 0)))
        end = data.draw(st.integers(at, min(len(out), at + 8)))
        match data.draw(st.sampled_from(("set", "cut", "double", "insert", "end"))):
            case "set" if out:
                out[at] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
            case "cut":
                del out[at:end]
            case "double":
                out[at:at] = out[at:end]
            case "insert":
                out[at:at] = data.draw(st.binary(min_size=1, max_size=4))
            case _:
                del out[at:]
    return bytes(out)


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_valid_is_written_as_it_was_read(entry: Entry) -> None:
    for octets in entry.valid:
        value = entry.decode(octets)
        if entry.encode is not None:
            assert entry.encode(value) == octets


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
@settings(max_examples=60, deadline=None)
@given(octets=st.binary(max_size=120))
def test_random(entry: Entry, octets: bytes) -> None:
    judge(entry, octets)
    judge(entry, entry.valid[0][:4] + octets)  # behind a head that is right


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_changed(entry: Entry, data: st.DataObject) -> None:
    judge(entry, changed(data, data.draw(st.sampled_from(entry.valid))))


@pytest.mark.parametrize("name", sorted(ie_codecs()))
@settings(max_examples=25, deadline=None)
@given(octets=st.binary(max_size=60))
def test_every_pfcp_value(name: str, octets: bytes) -> None:
    codec = ie_codecs()[name]
    judge(Entry(name, codec.decode, PfcpError, (), codec.encode), octets)


def test_the_table_has_every_message_and_object() -> None:
    from fiveg.sbi.member import JsonObject

    assert {type(x).__name__ for x in SBI} == {x.__name__ for x in JsonObject.__subclasses__()}
    assert {x.TYPE for x in GMM} == set(gmm.MESSAGES) and {x.TYPE for x in GSM} == set(gsm.MESSAGES)
    assert {x.TYPE for x in EXAMPLES} == set(m.MESSAGES)
    assert {x.__name__ for x in get_args(Event)} >= {"RequestReceived", "RequestFaulty"}


@pytest.mark.parametrize("decode", [lambda x: x[200], lambda x: x.decode(), lambda x: int(x), lambda x: 1 // 0])
def test_canary(decode: Callable[[bytes], Any]) -> None:
    """A decoder with a hole is found: the check can fail."""
    with pytest.raises((IndexError, ValueError, ZeroDivisionError)):
        judge(Entry("a hole", decode, PfcpError, ()), b"\xff")


def test_canary_of_the_round_trip() -> None:
    with pytest.raises(AssertionError):
        judge(Entry("forgets an octet", bytes, PfcpError, (), lambda x: x[:-1]), b"ab")

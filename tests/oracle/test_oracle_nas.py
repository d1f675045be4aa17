"""NAS by our layers, by tshark and by pycrate: the messages of a run, deciphered, and generated ones.

pycrate ends with Release 16 and tells elements apart by the table of each message, as our layers do; tshark gives values.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from drawn_layers import drawn, values_of
from hypothesis import strategies as st
from needs import needs_tun
from oracle_compare import Mismatch, Tally, Values, assert_flips_are_caught, compare, ours
from oracle_pycrate import elements, optional, parse
from oracle_recorded import Recorded
from oracle_tables_5g import NAS
from oracle_tshark import tshark
from test_fiveg_nas_messages import GMM, GSM

from lab.packets import nas_ies, nas_messages
from lab.packets.link import LINK_EXPORTED_PDU
from lab.packets.nas import Nas, NasKeyContainer, NasTransport
from lab.pcapng import PcapngWriter

Pair = tuple[str, Values, Values]


def by_tshark(path: Path, messages: dict[int, bytes], tally: Tally) -> list[Pair]:
    pairs = []
    for frame, theirs in tshark(path, "nas-5gs", NAS).items():
        if frame not in messages:
            continue
        mine = ours([Nas(messages[frame])], NAS)
        compare(f"frame {frame}", mine, theirs, tally)
        pairs.append((f"frame {frame}", mine, theirs))
    return pairs


def exported(messages: list[bytes], path: Path) -> dict[int, bytes]:
    head = struct.pack("!HH", 12, 8) + b"nas-5gs\0" + struct.pack("!HH", 0, 0)
    with path.open("wb") as stream, PcapngWriter(stream) as writer:
        interface = writer.interface(LINK_EXPORTED_PDU, "nas")
        for number, message in enumerate(messages):
            writer.packet(interface, number, head + message)
    return dict(enumerate(messages, 1))


def by_pycrate(message: bytes, tally: Tally) -> Pair:
    """The header, and each optional element, octet by octet; and that nothing of the message is left."""
    layer, read = Nas(message), parse(message)
    mine: Values = {"type": [layer.message_type], "elements": [bytes(ie) for ie in layer.ies], "octets": [message]}
    header = next(iter(read))
    theirs: Values = {"type": [header["Type"].get_val()], "elements": optional(read), "octets": [read.to_bytes()]}
    if layer.epd == 0x2E:
        mine |= {"session": [layer.pdu_session_id], "pti": [layer.pti]}
        theirs |= {"session": [header["PDUSessID"].get_val()], "pti": [header["PTI"].get_val()]}
    compare(layer.name, mine, theirs, tally)
    return layer.name, mine, theirs


# ---- a run -----------------------------------------------------------------------------------------------------------------


@needs_tun
def test_a_run_by_tshark(recorded: Recorded) -> None:
    tally = Tally()
    pairs = by_tshark(recorded.capture, dict(recorded.nas()), tally)
    tally.require(15, [row.theirs for row in NAS if "cause" not in row.theirs])
    assert len({pair[1]["nas_5gs.mm.message_type"][0] for pair in pairs}) >= 9
    assert assert_flips_are_caught(pairs) >= len(NAS) - 2


@needs_tun
def test_a_run_by_pycrate(recorded: Recorded) -> None:
    tally, pairs = Tally(), []
    for _, message in recorded.nas():
        pairs.append(by_pycrate(message, tally))
        layer = Nas(message)
        if isinstance(layer, NasTransport):
            assert elements(parse(message))["PayloadContainer"][2:] == bytes(layer.container[0])
            if layer.container_type == 1:
                pairs.append(by_pycrate(bytes(layer.container[0]), tally))
            else:
                assert isinstance(layer.container[0], NasKeyContainer)
    tally.require(17, ["type", "elements", "octets", "session", "pti"])
    assert {name for name, _, _ in pairs} >= {"REGISTRATION REQUEST", "AUTHENTICATION REQUEST", "SECURITY MODE COMMAND",
                                              "NAS TRANSPORT", "PDU SESSION ESTABLISHMENT ACCEPT"}
    assert assert_flips_are_caught(pairs) == 5


# ---- generated -------------------------------------------------------------------------------------------------------------


def test_every_message_of_our_codec() -> None:
    """Written by fiveg, read by the layers and by pycrate."""
    tally = Tally()
    messages = [m.encode() for m in [*GMM, *GSM]     # without those whose containers are none
                if getattr(m, "atsss", None) != b"\x01\0\0" and getattr(m, "container", None) != b"\x01"]
    pairs = [by_pycrate(message, tally) for message in messages]
    tally.require(30, ["type", "elements", "octets", "session", "pti"])
    assert assert_flips_are_caught(pairs) == 5


# Elements whose inside both readers take as octets, or by the same rules
FREE = {
    0x41: (0x2E, 0x25), 0x42: (0x77,), 0x56: (0x21, 0x20), 0x57: (0x2D,), 0x59: (0x30,), 0x5D: (0x57, 0x36, 0x38),
    0x68: (0x12, 0x58), 0xC1: (0x9, 0xA, 0x55, 0x39), 0xC3: (0x37,), 0xC9: (0x59, 0x55), 0xD1: (0x59,), 0xD3: (0x37, 0xD),
    0xD4: (0x59,),
}
SIZES = {0x20: 16, 0x2D: 16, 0x30: 14, 0x36: 1, 0x37: 1, 0x38: 2, 0x25: 2}


def element(kind: int, tag: int) -> st.SearchStrategy[Any]:
    table = nas_messages.TRANSPORT if kind == 0x68 else {**nas_messages.MM, **nas_messages.SM}[kind][2]
    _, layer, size = table[tag]
    if layer is nas_ies.NasIeTv:
        return st.binary(min_size=size, max_size=size).map(lambda value: layer(tag=tag, value=value))
    if layer is nas_ies.NasIe:
        size = SIZES.get(tag, 3)
        return st.binary(min_size=size, max_size=size).map(lambda value: layer(tag=tag, value=value))
    if layer is nas_ies.NasIeGuti:
        return st.binary(min_size=4, max_size=4).map(lambda tmsi: layer(tag=tag, identity=[nas_ies.NasGuti(tmsi=tmsi)]))
    if layer is nas_ies.NasIeHalf:
        return st.integers(1, 3).map(lambda value: layer(tag=tag, value=value))
    return values_of(layer.__name__).map(lambda values: layer(**{**values, "tag": tag, "more": b""}))


def message_of(kind: int) -> st.SearchStrategy[bytes]:
    layer = NasTransport if kind == 0x68 else nas_messages.MOBILITY_LAYERS.get(kind) or nas_messages.SESSION_LAYERS[kind]
    some = st.sets(st.sampled_from(FREE[kind])).flatmap(
        lambda tags: st.tuples(*[element(kind, tag) for tag in FREE[kind] if tag in tags]))
    mandatory: dict[str, Any] = {"container": [NasKeyContainer()]} if kind == 0x68 else {}
    if kind == 0x41:
        mandatory["identity"] = [nas_ies.NasSuci(output=b"\0\0\0\0\x10")]
    return some.map(lambda ies: bytes(layer(ies=list(ies), **mandatory)))


def test_any_elements(tmp_path: Path) -> None:
    """Messages with any of their elements and any values: told apart by pycrate as by us, and the values by tshark."""
    messages = drawn(st.sampled_from(sorted(FREE)).flatmap(message_of), 80)
    tally = Tally()
    for message in messages:
        by_pycrate(message, tally)
    tally.require(80, ["type", "elements", "octets", "session", "pti"])
    path = tmp_path / "nas.pcapng"
    tally = Tally()
    pairs = by_tshark(path, exported(messages, path), tally)
    tally.require(80, ["nas_5gs.mm.message_type", "nas_5gs.sm.message_type", "nas_5gs.sm.5gsm_cause", "gsm_a.dtap.rand",
                        "gsm_a.dtap.autn", "nas_5gs.5g_tmsi", "nas_5gs.mm.128_5g_ea2", "nas_5gs.mm.5gmm_cause"])
    assert assert_flips_are_caught(pairs) > 30


def test_a_wrong_length_is_told_by_pycrate() -> None:
    """Canary: an element that takes one octet of the next."""
    message = bytes.fromhex("7e0056000200002110") + bytes(15) + bytes.fromhex("2010") + bytes(16)
    by_pycrate(message, Tally())
    table = nas_messages.MM[0x56][2]
    kept = table[0x21]
    try:
        table[0x21] = ("RAND", nas_ies.NasIeTv, 17)
        with pytest.raises(Mismatch, match="elements"):
            by_pycrate(message, Tally())
    finally:
        table[0x21] = kept

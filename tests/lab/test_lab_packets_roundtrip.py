"""Every layer of lab.packets: what is built is dissected into the same values, and built from those again into the same octets."""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest
from drawn_layers import LAYERS, MESSAGES, VARIANTS, built, element, layer_of, value_of, values_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.fields import ConditionalField
from scapy.packet import Packet

import lab.packets
from lab.packets import frames as f
from lab.packets import http3, masque, nas, nas_ies, nas_messages, nas_plain, pfcp, pfcp_access, quic, tls
from lab.packets.fields import Leaf, VarIntField
from lab.packets.quic import ShortHeader


def forget(packet: Any) -> None:
    """A dissected layer keeps its octets; without them it has to be built from its fields."""
    packet.raw_packet_cache = packet.raw_packet_cache_fields = None
    for field in packet.fields_desc:
        value = packet.fields.get(field.name)
        for one in value if isinstance(value, list) else []:
            if isinstance(one, Packet):
                forget(one)
    if isinstance(packet.payload, Packet) and packet.payload.name != "NoPayload":
        forget(packet.payload)


def plain(value: Any) -> Any:
    return [plain(v) for v in value] if isinstance(value, list) else bytes(value) if isinstance(value, Packet) else \
        int(value) if type(value).__name__ == "FlagValue" else \
        ipaddress.ip_address(value) if isinstance(value, str) else value


def check(packet: Any, values: dict[str, Any]) -> None:
    cls = type(packet)
    data = bytes(packet)
    again = cls(data, dcid_length=len(packet.dcid)) if isinstance(packet, ShortHeader) else cls(data)
    if not issubclass(cls, Leaf):
        assert again.haslayer("Padding") == 0
    present = {field.name: not isinstance(field, ConditionalField) or field._evalcond(again) for field in cls.fields_desc}
    for name, value in values.items():
        if present[name]:
            assert plain(again.getfieldval(name)) == plain(value), name
    forget(again)
    assert bytes(again) == data


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_built_is_dissected_and_built_again(name: str) -> None:
    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(values_of(name))
    def round_trip(values: dict[str, Any]) -> None:
        check(layer_of(name)(**values), values)

    round_trip()


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canary: a layer that loses a bit on its way."""
    frame = quic.QuicPathAbandon(path=3, error=7)
    check(frame, {"path": 3, "error": 7})
    with pytest.raises(AssertionError):
        check(frame, {"path": 3, "error": 6})
    real = VarIntField.getfield
    monkeypatch.setattr(VarIntField, "getfield", lambda self, pkt, s: (real(self, pkt, s)[0], real(self, pkt, s)[1] & ~1))
    with pytest.raises(AssertionError):
        check(frame, {})


def test_every_layer_has_a_round_trip_that_draws_something() -> None:
    assert len(LAYERS) > 150
    fixed = [name for name in LAYERS if not [field for field in layer_of(name).fields_desc
                                             if value_of(layer_of(name), field) is not None] and name not in VARIANTS]
    # these have nothing but their kind, or only optional elements (which have tests of their own)
    assert {name for name in fixed if name.startswith("Quic")} == {"QuicPing", "QuicHandshakeDone", "QuicImmediateAck"}


def test_every_code_point_of_the_standards_has_a_layer() -> None:
    """RFC 9000 §19, RFC 9221 §4, RFC 10069 §4; RFC 9000 §18.2 and others' parameters; RFC 9114 §7.2; RFC 9297, RFC 9484."""
    assert set(quic.FRAME_LAYERS) >= {*range(0x1F), 0x30, 0x31, 0x3E, 0x3F, *range(0x3E75, 0x3E7D)}
    assert set(quic.PARAMETER_LAYERS) <= set(tls.TRANSPORT_PARAMETERS) >= {*range(0x12), 0x20, 0x3E}
    assert set(http3.H3_LAYERS) == set(masque.H3_FRAMES)
    assert set(http3.CAPSULE_LAYERS) == set(masque.CAPSULES) == {0, 1, 2, 3}
    assert set(nas_messages.MM) | {0x67, 0x68} == set(nas_plain.MM_NAMES) and set(nas_messages.SM) == set(nas_plain.SM_NAMES)
    assert set(pfcp.VENDOR_LAYERS) == {0x8001, 0x8002, 0x8003, 0x8004}
    assert {layer.__name__ for layer in quic.FRAME_LAYERS.values()} <= set(lab.packets.__all__)
    modules = [nas_messages.MESSAGE_LAYER_NAMES, pfcp_access.ACCESS_LAYER_NAMES, [n for n in vars(nas_ies) if n.startswith("Nas")]]
    assert {name for names in modules for name in names} <= set(lab.packets.__all__)


# ---- optional elements of NAS and PFCP, by each message's own table -----------------------------------------------------------


@pytest.mark.parametrize(("kind", "layer", "table"), MESSAGES, ids=[layer.__name__ for _, layer, _ in MESSAGES])
def test_optional_elements_of_a_message(kind: int, layer: Any, table: Any) -> None:
    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.permutations(sorted(table)).flatmap(lambda tags: st.tuples(*[element(tag, table[tag]) for tag in tags])))
    def round_trip(elements: tuple[Any, ...]) -> None:
        message = layer(ies=list(elements))
        again = nas.Nas(bytes(message))
        assert type(again) is layer and again.message_type == kind
        assert again.ie_names == [table[ie.tag][0] for ie in elements]
        assert [type(ie) for ie in again.ies] == [type(ie) for ie in elements]
        forget(again)
        assert bytes(again) == bytes(message)

    round_trip()


def test_an_element_of_no_table_is_skipped_as_ts_24_007_says() -> None:
    """A half octet, a long one, a short one; then one that the table has."""
    message = nas.Nas(bytes.fromhex("7e0044" "6f" "f3" "7c0002abcd" "6a0101" "5f0121"))
    assert [ie.tag for ie in message.ies] == [15, 0x7C, 0x6A, 0x5F] and message.ie_names[-1] == "T3346"


@given(st.binary(max_size=40), st.sampled_from(sorted({**nas_messages.MM, **nas_messages.SM})))
@settings(max_examples=100, deadline=None)
def test_hostile_elements_never_fall_over(data: bytes, kind: int) -> None:
    """Whatever follows a header becomes elements, or Raw where one is cut off; nothing is lost."""
    head = bytes((0x7E, 0, kind)) if kind in nas_messages.MM else bytes((0x2E, 5, 1, kind))
    message = nas.Nas(head + data)
    assert bytes(message) == head + data
    assert message.show(dump=True)


@pytest.mark.parametrize("name", [*LAYERS, "Nas", "QuicWire"])
def test_hostile_octets_stay_what_they_are(name: str) -> None:
    """Whatever comes: no layer falls over, each can be shown, and no octet is lost or made up."""
    dice = random.Random(name)
    for size in range(1, 40):
        data = bytes(dice.choice((dice.randrange(256), dice.randrange(64), 0, 1, 255)) for _ in range(size))
        layer = layer_of(name)(data)
        assert layer.show(dump=True)
        assert bytes(layer) == data


@pytest.mark.parametrize("kind", sorted(pfcp_access.GROUPED))
def test_grouped_elements_of_pfcp(kind: int) -> None:
    singles = st.sampled_from(sorted(pfcp_access.SINGLE)).map(lambda n: pfcp_access.ACCESS_LAYERS[n].__name__)

    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(singles.flatmap(built), max_size=4))
    def round_trip(elements: list[Any]) -> None:
        group = pfcp_access.ACCESS_LAYERS[kind](IE_list=elements)
        again = type(group)(bytes(group))
        assert [type(ie) for ie in again.IE_list] == [type(ie) for ie in elements]
        forget(again)
        assert bytes(again) == bytes(group)

    round_trip()


def test_frames_of_the_plain_reader_are_those_of_the_layers() -> None:
    assert set(f.READERS) == set(quic.FRAME_LAYERS)

"""Every layer of lab.packets: what is built is dissected into the same values, and built from those again into the same octets."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    ConditionalField,
    FieldListField,
    FlagsField,
    IntField,
    IP6Field,
    IPField,
    MultipleTypeField,
    ShortField,
)
from scapy.packet import Packet

import lab.packets
from lab.packets import frames as f
from lab.packets import http3, masque, nas, nas_ies, nas_messages, nas_plain, pfcp, pfcp_access, quic, tls
from lab.packets.fields import (
    BytesField,
    CountedBytesField,
    CountedVarIntField,
    FlaggedBytesField,
    Leaf,
    SizedIntegerField,
    VarIntCountField,
    VarIntEnumField,
    VarIntField,
)
from lab.packets.varint import VARINT_MAX

varints = st.one_of(st.integers(0, 63), st.integers(0, 16383), st.integers(0, VARINT_MAX))
octets = st.binary(max_size=24)
COMPUTED = {"length", "range_count", "wrapped_key_length", "ue_id_length"}      # left at None: that they are right shows in reading
KIND = {"type", "id", "ietype", "enterprise_id", "message_type", "epd", "security", "tag", "identity", "form", "fixed", "version",
        "long_type", "container_type"}      # what tells a layer from others keeps its default; VARIANTS has the rest
CHOOSERS = {"Nas", "QuicWire", "clear_layer", "PFCP"}                         # no layers of ours: they choose one, or scapy has it
LISTS = {
    ("QuicAck", "ranges"): ["QuicAckRange"], ("QuicPathAck", "ranges"): ["QuicAckRange"],
    ("QuicLong", "frames"): ["QuicCrypto", "QuicNewToken", "QuicConnectionClose"],
    ("QuicShort", "frames"): ["QuicMaxData", "QuicDatagram", "QuicPathNewConnectionId", "QuicMaxPathId"],
    ("TransportParameters", "parameters"): ["TransportParameterInteger", "TransportParameterPreferredAddress",
                                            "TransportParameterVersions"],
    ("TransportParameterPreferredAddress", "value"): ["PreferredAddress"],
    ("TransportParameterVersions", "value"): ["VersionInformation"],
    ("H3Settings", "settings"): ["H3Setting"],
    ("H3Frames", "frames"): ["H3Data", "H3Headers", "H3CancelPush", "H3Settings", "H3PushPromise", "H3Goaway", "H3MaxPushId",
                             "H3Frame"],
    ("CapsuleAddressAssign", "addresses"): ["CapsuleAddress"], ("CapsuleAddressRequest", "addresses"): ["CapsuleAddress"],
    ("CapsuleRouteAdvertisement", "routes"): ["CapsuleRoute"], ("CapsuleDatagram", "datagram"): ["HttpDatagramPayload"],
    ("Capsules", "capsules"): ["CapsuleAddressAssign", "CapsuleDatagram", "CapsuleRouteAdvertisement", "Capsule"],
    ("NasEnvelopes", "pdus"): ["NasEnvelope"], ("NasKeyContainer", "tlvs"): ["NasKeyTlv"],
    ("NasTransport", "container"): ["NasKeyContainer"], ("NasIeGuti", "identity"): ["NasGuti"],
    ("NasIeNasMessage", "message"): ["NasRegistrationRequest"],
    ("NasPduSessionEstablishmentAccept", "ambr"): ["NasAmbr"],
}
ONE = {("TransportParameterPreferredAddress", "value"), ("TransportParameterVersions", "value"), ("NasTransport", "container"),
       ("NasIeGuti", "identity"), ("NasIeNasMessage", "message"), ("NasPduSessionEstablishmentAccept", "ambr"),
       ("CapsuleDatagram", "datagram")}
# Values that hang together, or that decide which others are there
VARIANTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "QuicStream": st.sampled_from([{"type": kind} for kind in range(0x08, 0x10)]),
    "QuicDatagram": st.sampled_from([{"type": 0x30}, {"type": 0x31}]),
    "QuicAck": st.sampled_from([{"type": 0x02}, {"type": 0x03}]),
    "QuicPathAck": st.sampled_from([{"type": 0x3E}, {"type": 0x3F}]),
    "QuicPadding": st.integers(0, 30).map(lambda n: {"more": bytes(n)}),
    "QuicLong": st.integers(0, 3).flatmap(lambda n: st.fixed_dictionaries(
        {"pn_length": st.just(n), "pn": st.binary(min_size=n + 1, max_size=n + 1), "long_type": st.integers(0, 2)})),
    "QuicShort": st.integers(0, 3).flatmap(lambda n: st.fixed_dictionaries(
        {"pn_length": st.just(n), "pn": st.binary(min_size=n + 1, max_size=n + 1)})),
    "QuicProtectedLong": st.integers(0, 2).map(lambda kind: {"long_type": kind}),
    "CapsuleAddress": st.sampled_from([{"version": 4, "address": "10.45.0.2"}, {"version": 6, "address": "fd45::2"}]),
    "CapsuleRoute": st.sampled_from([{"version": 4, "start": "10.0.0.0", "end": "10.255.255.255"},
                                     {"version": 6, "start": "::", "end": "ffff::"}]),
    "H3Goaway": st.just({"more": b""}), "H3CancelPush": st.just({"more": b""}), "H3MaxPushId": st.just({"more": b""}),
    "NasIePduAddress": st.sampled_from([{"type": kind, "more": b""} for kind in (1, 2, 3)]),
    "NasIeDnn": st.lists(st.binary(min_size=1, max_size=20).filter(lambda b: b"." not in b), max_size=3).map(
        lambda labels: {"dnn": b".".join(labels)}),
    "NasSuci": st.just({"supi_format": 0}),
    "NasGuti": st.just({"ones": 15}),
    "NasIdentity": st.sampled_from([{"identity": kind} for kind in (0, 3, 4, 5)]),
    "NasIeTv": st.binary(min_size=1, max_size=1).map(lambda value: {"value": value}),
    "PreferredAddress": st.binary(max_size=20).map(lambda cid: {"cid": cid}),
    "IE_MpquicKey": st.just({}), "IE_NetworkInstanceText": octets.map(lambda text: {"instance": text, "more": b""}),
    "IE_FailedRule": st.integers(0, 6).flatmap(lambda rule: st.fixed_dictionaries(
        {"rule": st.just(rule), "id": st.integers(0, 256 ** pfcp_access.RULE_ID_SIZES.get(rule, 4) - 1), "more": st.just(b"")})),
}
NO_LISTS = {"ies", "IE_list"}           # optional elements: drawn from the message's own table below
LAYERS = sorted(set(lab.packets.__all__) - CHOOSERS)


def layer_of(name: str) -> Any:
    return getattr(lab.packets, name)


def value_of(cls: Any, field: Any) -> st.SearchStrategy[Any] | None:
    """What a field may have; None: it stays at its default."""
    if isinstance(field, ConditionalField):
        field = field.fld
    name = field.name
    if name in KIND or name in COMPUTED or isinstance(field, VarIntCountField | http3.ValueLengthField | MultipleTypeField):
        return None
    names = LISTS.get((cls.__name__, name))
    if names is not None:
        several = st.lists(st.one_of([st.deferred(lambda n=n: built(n)) for n in names]), max_size=3)
        return several.map(lambda found: found[:1]) if (cls.__name__, name) in ONE else several
    if name == "ies" and not isinstance(field, BytesField):
        return st.just([])
    if name == "identity" or name == "IE_list":
        return None
    if isinstance(field, VarIntField | CountedVarIntField):
        return varints if not isinstance(field, VarIntEnumField) else None
    if isinstance(field, CountedBytesField | FlaggedBytesField):
        return octets
    if isinstance(field, nas_ies.LabelsField | quic.PaddingField | SizedIntegerField):
        return None
    if isinstance(field, BytesField):
        size = field._size
        return st.binary(min_size=size, max_size=size) if isinstance(size, int) else octets
    if isinstance(field, BitField | BitEnumField | FlagsField):
        return st.integers(0, (1 << field.size) - 1)
    for kind, bits in ((ByteField, 8), (ShortField, 16), (IntField, 32)):
        if isinstance(field, kind):
            return st.integers(0, (1 << bits) - 1)
    if isinstance(field, IP6Field):
        return st.integers(0, 2**128 - 1).map(lambda n: str(ipaddress.IPv6Address(n)))
    if isinstance(field, IPField):
        return st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
    if isinstance(field, FieldListField):
        return st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3)
    return None


def values_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    cls = layer_of(name)
    drawn = {field.name: value for field in cls.fields_desc if (value := value_of(cls, field)) is not None}
    return st.builds(lambda values, variant: {**values, **variant}, st.fixed_dictionaries(drawn), VARIANTS.get(name, st.just({})))


def built(name: str) -> st.SearchStrategy[Any]:
    """A layer that may stand in a list: one whose end follows from itself."""
    if name in ("QuicDatagram", "QuicStream"):
        return values_of(name).map(lambda values: layer_of(name)(**{**values, "type": layer_of(name)().type}))
    if name == "NasEnvelope":
        return octets.filter(bool).map(lambda data: nas.NasEnvelope() / b"\x7e\0\x43".__add__(data))
    return values_of(name).map(lambda values: layer_of(name)(**values))


def forget(packet: Any) -> None:
    """A dissected layer keeps its octets; without them it has to be built from its fields."""
    packet.raw_packet_cache = packet.raw_packet_cache_fields = None
    for field in packet.fields_desc:
        value = packet.fields.get(field.name)
        for element in value if isinstance(value, list) else []:
            if isinstance(element, Packet):
                forget(element)
    if isinstance(packet.payload, Packet) and packet.payload.name != "NoPayload":
        forget(packet.payload)


def plain(value: Any) -> Any:
    return [plain(v) for v in value] if isinstance(value, list) else bytes(value) if isinstance(value, Packet) else \
        int(value) if type(value).__name__ == "FlagValue" else \
        ipaddress.ip_address(value) if isinstance(value, str) else value


def check(packet: Any, values: dict[str, Any]) -> None:
    cls = type(packet)
    data = bytes(packet)
    again = cls(data)
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
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
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


def element(tag: int, entry: tuple[str, Any, int]) -> st.SearchStrategy[Any]:
    _, layer, size = entry
    if layer is nas_ies.NasIeTv:
        return st.binary(min_size=size, max_size=size).map(lambda value: layer(tag=tag, value=value))
    return values_of(layer.__name__).map(lambda values: layer(**{**values, "tag": tag}))


MESSAGES = [(kind, nas_messages.MOBILITY_LAYERS[kind], table) for kind, (_, _, table) in nas_messages.MM.items() if table]
MESSAGES += [(kind, nas_messages.SESSION_LAYERS[kind], table) for kind, (_, _, table) in nas_messages.SM.items() if table]
MESSAGES += [(0x68, nas.NasTransport, nas_messages.TRANSPORT)]


@pytest.mark.parametrize(("kind", "layer", "table"), MESSAGES, ids=[layer.__name__ for _, layer, _ in MESSAGES])
def test_optional_elements_of_a_message(kind: int, layer: Any, table: Any) -> None:
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
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
@settings(max_examples=300, deadline=None)
def test_hostile_elements_never_fall_over(data: bytes, kind: int) -> None:
    """Whatever follows a header becomes elements, or Raw where one is cut off; nothing is lost."""
    head = bytes((0x7E, 0, kind)) if kind in nas_messages.MM else bytes((0x2E, 5, 1, kind))
    message = nas.Nas(head + data)
    assert bytes(message) == head + data
    assert message.show(dump=True)


@pytest.mark.parametrize("kind", sorted(pfcp_access.GROUPED))
def test_grouped_elements_of_pfcp(kind: int) -> None:
    singles = st.sampled_from(sorted(pfcp_access.SINGLE)).map(lambda n: pfcp_access.ACCESS_LAYERS[n].__name__)

    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
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

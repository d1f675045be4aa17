"""hypothesis strategies for the layers of lab.packets: values for every field that a layer lets one choose."""

from __future__ import annotations

import ipaddress
from typing import Any, TypeVar

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

import lab.packets
from lab.packets import http3, nas, nas_ies, nas_messages, pfcp_access, quic
from lab.packets.fields import (
    BytesField,
    CountedBytesField,
    CountedVarIntField,
    FlaggedBytesField,
    SizedIntegerField,
    VarIntCountField,
    VarIntEnumField,
    VarIntField,
)
from lab.packets.varint import VARINT_MAX

T = TypeVar("T")
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


def element(tag: int, entry: tuple[str, Any, int]) -> st.SearchStrategy[Any]:
    _, layer, size = entry
    if layer is nas_ies.NasIeTv:
        return st.binary(min_size=size, max_size=size).map(lambda value: layer(tag=tag, value=value))
    return values_of(layer.__name__).map(lambda values: layer(**{**values, "tag": tag}))


MESSAGES = [(kind, nas_messages.MOBILITY_LAYERS[kind], table) for kind, (_, _, table) in nas_messages.MM.items() if table]
MESSAGES += [(kind, nas_messages.SESSION_LAYERS[kind], table) for kind, (_, _, table) in nas_messages.SM.items() if table]
MESSAGES += [(0x68, nas.NasTransport, nas_messages.TRANSPORT)]


def drawn(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """So many examples, always the same ones: for readers that are asked once for all of them."""
    out: list[T] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(example: T) -> None:
        out.append(example)

    collect()
    return out


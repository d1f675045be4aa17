"""PFCP messages: our vectors, round trips, and what a peer may get wrong."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp import values as v
from fiveg.pfcp.codec import RawIe, ie_encode, ies_split, slots_of
from fiveg.pfcp.codes import (
    ApplyAction,
    Cause,
    DestinationInterface,
    IeType,
    InterfaceType,
    KeyEvent,
    KeyFlags,
    KeyReason,
    MpquicControl,
    MultipathApplicable,
    NodeReportType,
    PdnType,
    Priority,
    ProxyType,
    ReportFlags,
    ReportType,
    RuleKind,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    TransportMode,
    UpFeature,
)
from fiveg.pfcp.errors import (
    ConditionalIeMissing,
    HeaderError,
    IeIncorrect,
    InvalidLength,
    MandatoryIeMissing,
    PfcpError,
    UnknownMessage,
    VersionNotSupported,
)
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyCapability, MpquicKeyReport, MpquicKeyRequest

WRAPPED = bytes.fromhex("577bf2df6985c586e1a64fddae5f711251b7d15fb226c1f1273ea3099c742af6c08971c981ee28cb")


def establishment() -> m.SessionEstablishmentRequest:
    """The rules of one MA session with MPQUIC-IP (TS 29.244 §5.20.1, §5.20.2A)."""
    uplink = [
        r.CreatePdr(
            pdr_id=i,
            precedence=100,
            pdi=r.Pdi(source_interface=SourceInterface.ACCESS, network_instance=name, interface_type=kind),
            far_id=1,
            multipath_applicable=MultipathApplicable.MPQUIC,
        )
        for i, name, kind in ((1, "3gpp", InterfaceType.N3_3GPP), (2, "wifi", InterfaceType.N3_UNTRUSTED_NON_3GPP))
    ]
    downlink = r.CreatePdr(
        pdr_id=3,
        precedence=100,
        pdi=r.Pdi(
            source_interface=SourceInterface.CORE,
            ue_ip_address=v.UeIpAddress(IPv4Address("10.45.0.2"), IPv6Address("fd45::"), destination=True),
            sdf_filters=(v.SdfFilter("permit out ip from any to assigned"),),
        ),
        mar_id=1,
    )

    def far(number: int, to: DestinationInterface, name: str | None = None) -> r.CreateFar:
        parameters = r.ForwardingParameters(destination_interface=to, network_instance=name)
        return r.CreateFar(far_id=number, apply_action=ApplyAction.FORW, forwarding=parameters)

    return m.SessionEstablishmentRequest(
        node_id=v.NodeId(IPv4Address("10.90.0.11")),
        cp_f_seid=v.FSeid(7, IPv4Address("10.90.0.11")),
        create_pdrs=(*uplink, downlink),
        create_fars=(
            far(1, DestinationInterface.N6_LAN),
            far(2, DestinationInterface.ACCESS, "3gpp"),
            far(3, DestinationInterface.ACCESS, "wifi"),
        ),
        create_mars=(
            r.CreateMar(
                mar_id=1,
                functionality=SteeringFunctionality.MPQUIC_IP,
                mode=SteeringMode.LOAD_BALANCING,
                access_3gpp=r.AccessForwarding(far_id=2, weight=30),
                access_non_3gpp=r.AccessForwarding(far_id=3, weight=70),
                thresholds=v.Thresholds(80, 5),
                transport_mode=TransportMode.DATAGRAM_1,
            ),
        ),
        pdn_type=PdnType.IPV4V6,
        dnn="internet",
        s_nssai=v.SNssai(1),
        provide_atsss=r.ProvideAtsssControl(mpquic=MpquicControl.CONNECT_IP),
    )


EXAMPLES: list[m.Message] = [
    establishment(),
    m.SessionEstablishmentResponse(
        node_id=v.NodeId("upf.local"),
        cause=Cause.ACCEPTED,
        up_f_seid=v.FSeid(0x0102030405060708, IPv4Address("10.90.0.20")),
        atsss_parameters=r.AtsssControlParameters(
            mpquic=r.MpquicParameters(
                addresses=(v.MpquicAddress(ProxyType.CONNECT_IP, 4433, IPv4Address("10.100.0.1"), IPv6Address("fd64::1")),),
                link_specific=v.LinkSpecificAddress(IPv4Address("10.1.0.2"), None, IPv4Address("10.2.0.2"), None),
            )
        ),
    ),
    m.SessionModificationRequest(
        key=MpquicKey(1, 3600, (7).to_bytes(8, "big"), WRAPPED, flags=KeyFlags.END_OLD_NOW),
        update_mars=(r.UpdateMar(mar_id=1, update_access_3gpp=r.UpdateAccessForwarding()),),
        remove_pdrs=(r.RemovePdr(pdr_id=4),),
    ),
    m.SessionModificationResponse(
        cause=Cause.RULE_FAILURE,
        failed_rule=v.FailedRule(RuleKind.MAR, 9),
        key_report=MpquicKeyReport(KeyEvent.INSTALLED, 1),
    ),
    m.SessionDeletionRequest(),
    m.SessionDeletionResponse(cause=Cause.SESSION_CONTEXT_NOT_FOUND),
    m.SessionReportRequest(
        report_type=ReportType.UISR,
        key_reports=(MpquicKeyReport(KeyEvent.IN_USE, 1), MpquicKeyReport(KeyEvent.SPENT, 1)),
    ),
    m.SessionReportResponse(cause=Cause.ACCEPTED),
    m.AssociationSetupRequest(
        node_id=v.NodeId(IPv6Address("fd00::1")),
        recovery_time_stamp=0xE9A1B2C3,
        cp_features=b"\x00",
        key_capability=MpquicKeyCapability(),
    ),
    m.AssociationSetupResponse(
        node_id=v.NodeId(IPv4Address("10.90.0.20")),
        cause=Cause.ACCEPTED,
        recovery_time_stamp=0xE9A1B2D4,
        up_features=frozenset({UpFeature.MPQUIC_IP, UpFeature.UEIP}),
        key_capability=MpquicKeyCapability(),
    ),
    m.HeartbeatRequest(recovery_time_stamp=1),
    m.HeartbeatResponse(recovery_time_stamp=2),
    m.AssociationUpdateRequest(node_id=v.NodeId("upf"), up_features=frozenset({UpFeature.FTUP}), release_request=b"\x01"),
    m.AssociationUpdateResponse(node_id=v.NodeId("smf"), cause=Cause.ACCEPTED),
    m.AssociationReleaseRequest(node_id=v.NodeId("smf")),
    m.AssociationReleaseResponse(node_id=v.NodeId("smf"), cause=Cause.NO_ESTABLISHED_ASSOCIATION),
    m.NodeReportRequest(node_id=v.NodeId("upf"), report_type=NodeReportType.UPFR),
    m.NodeReportResponse(node_id=v.NodeId("smf"), cause=Cause.MANDATORY_IE_INCORRECT, offending_ie=IeType.NODE_REPORT_TYPE),
    m.VersionNotSupportedResponse(),
]


def wire(message: m.Message, sequence: int = 5) -> bytes:
    return m.encode(message, sequence, 0x0102030405060708 if message.SESSION else None)


def test_key_request_vector() -> None:
    request = m.SessionReportRequest(
        report_type=ReportType.UISR, flags=ReportFlags(0), key_request=MpquicKeyRequest(KeyReason.INITIAL)
    )
    expected = "21380022010203040506070800000500002700014000a1000100800100087ed9010100000000"
    assert wire(request).hex() == expected
    assert m.decode(bytes.fromhex(expected))[1] == request


def test_key_and_report_vectors() -> None:
    key = MpquicKey(1, 3600, (7).to_bytes(8, "big"), WRAPPED)
    assert ie_encode(IeType.MPQUIC_KEY, key.encode()).hex() == (
        "8002003f7ed901000000000100000e1001080000000000000007" + "28" + WRAPPED.hex()
    )
    report = MpquicKeyReport(KeyEvent.IN_USE, 1)
    assert ie_encode(IeType.MPQUIC_KEY_REPORT, report.encode()).hex() == "8003000c7ed901020000000100000000"


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda x: type(x).__name__)
def test_round_trip(message: m.Message) -> None:
    header, back = m.decode(wire(message))
    assert back == message
    assert (header.type, header.sequence) == (message.TYPE, 5)


def test_feature_bits_stand_where_the_specification_has_them() -> None:
    octets = v.UpFeatures().encode(frozenset({UpFeature.MPQUIC_IP, UpFeature.MPQUIC_UDP, UpFeature.UEIP}))
    assert octets.hex() == "00000400000080000010"


def test_flag_orders_of_f_seid_and_mpquic_address_differ() -> None:
    ipv4 = IPv4Address("1.2.3.4")
    assert v.FSeid(1, ipv4).encode()[0] == 2
    assert v.UeIpAddress(ipv4).encode()[0] == 2
    assert v.FTeid(1, ipv4).encode()[0] == 1
    assert v.MpquicAddress(ProxyType.CONNECT_IP, 1, ipv4).encode()[0] == 1
    assert v.LinkSpecificAddress(ipv4).encode()[0] == 1


def body(message: m.Message) -> tuple[m.Header, bytes]:
    return m.header_decode(wire(message))


def session(kind: int, octets: bytes) -> bytes:
    head = bytes(8) + b"\x00\x00\x05\x00"
    return bytes((0x21, kind)) + (len(head) + len(octets)).to_bytes(2, "big") + head + octets


def test_missing_mandatory_ie_has_cause_66_and_names_it() -> None:
    for ie in (IeType.NODE_ID, IeType.F_SEID, IeType.CREATE_PDR, IeType.CREATE_FAR):
        header, octets = body(establishment())
        kept = b"".join(ie_encode(raw.type, raw.value) for raw in m_split(octets) if raw.type != ie)
        with pytest.raises(MandatoryIeMissing) as caught:
            m.body_decode(header, kept)
        assert (caught.value.cause, caught.value.ie) == (Cause.MANDATORY_IE_MISSING, ie)


def m_split(octets: bytes) -> list[RawIe]:
    return list(ies_split(octets))


def test_mpquic_mar_without_transport_mode_has_cause_67() -> None:
    mar = r.CreateMar(
        mar_id=1,
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode.ACTIVE_STANDBY,
        access_3gpp=r.AccessForwarding(far_id=1, priority=Priority.ACTIVE),
    )
    with pytest.raises(ConditionalIeMissing) as caught:
        r.CreateMar.decode(mar.encode())
    assert caught.value.ie == IeType.TRANSPORT_MODE


EMPTY_ALLOWED = {IeType.PROVIDE_ATSSS_CONTROL, IeType.ATSSS_CONTROL_PARAMETERS}
"""Groups whose members are all optional: empty is well-formed."""


@pytest.mark.parametrize("cls", m.MESSAGES.values(), ids=lambda c: c.__name__)
def test_ie_of_length_zero_is_refused(cls: type[m.Message]) -> None:
    for ie in set(slots_of(cls)) - EMPTY_ALLOWED:
        with pytest.raises(PfcpError):
            cls.decode(ie_encode(ie, b""))


@pytest.mark.parametrize(
    ("ie", "value"),
    [
        (IeType.STEERING_MODE, b"\x0f"),
        (IeType.STEERING_FUNCTIONALITY, b"\x05"),
        (IeType.TRANSPORT_MODE, b"\x03"),
    ],
)
def test_unknown_enumeration_is_refused(ie: IeType, value: bytes) -> None:
    mar = establishment().create_mars[0].encode()
    changed = b"".join(ie_encode(x.type, value if x.type == ie else x.value) for x in m_split(mar))
    with pytest.raises(IeIncorrect) as caught:
        r.CreateMar.decode(changed)
    assert caught.value.ie == ie


def test_unknown_interfaces_are_refused() -> None:
    with pytest.raises(IeIncorrect):
        r.Pdi.decode(ie_encode(IeType.SOURCE_INTERFACE, b"\x99"))
    with pytest.raises(IeIncorrect):
        r.ForwardingParameters.decode(ie_encode(IeType.DESTINATION_INTERFACE, b"\x99"))


def test_length_beyond_the_message_is_refused() -> None:
    with pytest.raises(InvalidLength):
        m.decode(session(50, bytes.fromhex("003c00ff00")))
    with pytest.raises(InvalidLength):
        m.decode(session(50, bytes.fromhex("0001000800380010000100")))


def test_thousand_levels_of_nesting_are_bounded() -> None:
    nested = b""
    for _ in range(1000):
        nested = ie_encode(IeType.CREATE_PDR, nested)
    with pytest.raises(PfcpError):
        m.decode(session(50, nested))


def test_unknown_and_foreign_ies_are_skipped_and_of_a_repeated_one_the_first_counts() -> None:
    request = m.HeartbeatRequest(recovery_time_stamp=9)
    extra = bytes.fromhex("7fff0001aa" + "8001000328af01")
    header, octets = body(request)
    assert m.body_decode(header, extra + octets + ie_encode(IeType.RECOVERY_TIME_STAMP, bytes(4))) == request


def test_longer_value_than_known_is_read_as_far_as_known() -> None:
    assert m.HeartbeatRequest.decode(ie_encode(IeType.RECOVERY_TIME_STAMP, bytes.fromhex("00000009ff"))) == (
        m.HeartbeatRequest(recovery_time_stamp=9)
    )


def test_headers_that_cannot_be_answered() -> None:
    good = wire(m.HeartbeatRequest(recovery_time_stamp=1))
    for bad in (b"", good[:3], good + b"\x00", good[:-1], b"\x21" + good[1:], b"\x24" + good[1:]):
        with pytest.raises(HeaderError):
            m.decode(bad)
    with pytest.raises(VersionNotSupported):
        m.decode(b"\x40" + good[1:])
    with pytest.raises(UnknownMessage):
        m.decode(good[:1] + b"\xfe" + good[2:])


def test_every_request_has_a_rejection() -> None:
    for kind in m.REQUESTS:
        answer = m.rejection(kind, MandatoryIeMissing("x", ie=60), v.NodeId("upf"), 1)
        assert kind + 1 == answer.TYPE
        assert m.decode(wire(answer))[1] == answer


def test_wrapped_key_is_not_in_the_representation() -> None:
    assert WRAPPED.hex() not in repr(MpquicKey(1, 3600, bytes(8), WRAPPED))
    assert "577b" not in repr(MpquicKey(1, 3600, bytes(8), WRAPPED)) and "wrapped" not in repr(EXAMPLES[2])


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(sorted(m.MESSAGES)))
def test_garbage_only_ever_gives_pfcp_errors(octets: bytes, kind: int) -> None:
    try:
        message = m.MESSAGES[kind].decode(octets)  # type: ignore[index]
    except PfcpError:
        return
    assert m.MESSAGES[kind].decode(message.encode()) == message  # type: ignore[index]


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_mutated_messages_give_pfcp_errors_or_round_trip(data: st.DataObject) -> None:
    octets = bytearray(wire(data.draw(st.sampled_from(EXAMPLES))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(octets))))
    try:
        header, message = m.decode(bytes(octets[:cut]))
    except PfcpError:
        return
    assert m.decode(m.encode(message, header.sequence, header.seid))[1] == message


addresses = st.one_of(st.none(), st.integers(0, 2**32 - 1).map(IPv4Address))
addresses6 = st.one_of(st.none(), st.integers(0, 2**128 - 1).map(IPv6Address))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2**64 - 1), addresses, addresses6, st.booleans(), st.integers(0, 100))
def test_values_round_trip(seid: int, ipv4: IPv4Address | None, ipv6: IPv6Address | None, flag: bool, n: int) -> None:
    if ipv4 is None and ipv6 is None:
        ipv4 = IPv4Address(0)
    for value in (
        v.FSeid(seid, ipv4, ipv6),
        v.FTeid(seid & 0xFFFFFFFF, ipv4, ipv6),
        v.UeIpAddress(ipv4, ipv6, flag, n if flag else None, n),
        v.LinkSpecificAddress(ipv4, ipv6, None, ipv6),
        v.MpquicAddress(ProxyType.CONNECT_IP, n + 1, ipv4, ipv6),
        v.OuterHeaderCreation(None if flag else n, ipv4, ipv6, n if flag else None),
        v.Thresholds(n, n if flag else None),
        v.SdfFilter("permit out ip from any to assigned", (n, 255), seid & 0xFFFF, n, n if flag else None),
        v.BitRate(n, seid & 0xFFFFFFFFFF),
        v.GateStatus(flag, not flag),
        MpquicKeyReport(KeyEvent.BINDER_FAILURE, n, n),
        MpquicKeyRequest(KeyReason.LIFETIME, n),
    ):
        assert type(value).decode(value.encode()) == value
        assert type(value).decode(value.encode() + b"\xaa") == value


def test_what_has_no_encoding_is_named_and_not_shown() -> None:
    for message, ie in (
        (m.HeartbeatRequest(recovery_time_stamp=1 << 32), IeType.RECOVERY_TIME_STAMP),
        (m.SessionModificationRequest(remove_pdrs=(r.RemovePdr(pdr_id=-1),)), IeType.PDR_ID),
        (m.SessionModificationRequest(cp_f_seid=v.FSeid(1 << 64, IPv4Address(0))), IeType.F_SEID),
        (m.SessionReportRequest(report_type=ReportType(0)), IeType.REPORT_TYPE),
    ):
        with pytest.raises(PfcpError) as caught:
            wire(message)
        assert caught.value.ie == ie
    update = r.UpdateQer(qer_id=1, mbr=v.BitRate(1 << 40, 0))  # an OverflowError inside
    with pytest.raises(IeIncorrect) as caught:
        update.encode()
    assert caught.value.ie == IeType.MBR and str(1 << 40) not in str(caught.value)


def test_a_datagram_full_of_rules_is_read_in_their_order() -> None:
    """As many as a datagram holds: the work grows with their number, not with its square."""
    rules = tuple(r.RemovePdr(pdr_id=n) for n in range(6000))
    message = m.SessionModificationRequest(remove_pdrs=rules)
    assert m.decode(wire(message))[1] == message


def test_a_field_says_which_ie_it_is() -> None:
    """The table of a message comes from its fields: mandatory, optional, repeated; a group and a single value."""
    slots = slots_of(m.SessionEstablishmentRequest)
    assert {ie: (s.many, s.mandatory) for ie, s in slots.items()} | {
        IeType.NODE_ID: (False, True),
        IeType.CREATE_PDR: (True, True),
        IeType.CREATE_MAR: (True, False),
        IeType.APN_DNN: (False, False),
    } == {ie: (s.many, s.mandatory) for ie, s in slots.items()}
    assert slots[IeType.CREATE_PDR].codec is r.CreatePdr and list(slots)[:2] == [IeType.NODE_ID, IeType.F_SEID]
    assert set(slots_of(r.CreateMar)) >= {IeType.ACCESS_3GPP, IeType.ACCESS_NON_3GPP}  # one class, two IEs

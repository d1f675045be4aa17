"""A UPF's PFCP agent without network: a fake clock, a data path that records, and an SMF made of the same codec."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp import values as v
from fiveg.pfcp.codes import (
    ApplyAction,
    Cause,
    DestinationInterface,
    InterfaceType,
    MpquicControl,
    MultipathApplicable,
    Priority,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    TransportMode,
)
from fiveg.pfcp.keywrap import N4KeyWrap
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyCapability
from fiveg.pfcp.transaction import Peer, Transactions
from node.counters import Counters
from node.events import EventList, Events
from node.secrets import Secret
from upf.config import AccessConfig, N4Config, ProxyConfig, RekeyConfig, UpfConfig
from upf.errors import DatapathError
from upf.pfcp_agent import PfcpAgent
from upf.rules import RuleSet
from upf.session import Session
from upf.steering import Steering

SMF: Peer = ("10.90.0.11", 8805)
OTHER_SMF: Peer = ("10.90.0.12", 8805)
STRANGER: Peer = ("10.90.0.66", 8805)
K_N4 = b"\x11" * 32
UP_RECOVERY = 0xE9A1B2D4
CP_RECOVERY = 0xE9A1B2C3
CP_SEID = 0x77
KEY = bytes(range(32))
ACCESSES = {"3gpp": "3gpp", "wifi": "non-3gpp"}


def config() -> UpfConfig:
    return UpfConfig(
        node="upf",
        n4=N4Config("10.90.0.20", Path("key"), (SMF[0], OTHER_SMF[0])),
        accesses=(
            AccessConfig("3gpp", "3gpp", "10.1.0.2/24", "10.1.0.1/24", "fd01::2/64", "fd01::1/64"),
            AccessConfig("wifi", "non-3gpp", "10.2.0.2/24", "10.2.0.1/24", "fd02::2/64", "fd02::1/64"),
        ),
        proxy=ProxyConfig("10.100.0.1", "fd64::1"),
        rekey=RekeyConfig(packets=5000),
    )


@dataclass
class Recorder:
    """A data path that says what it was told, and fails when asked to."""

    fail: bool = False
    carried: int = 0
    sessions: dict[int, list[Steering]] = field(default_factory=dict)
    installed: list[int] = field(default_factory=list)
    dropped: int = 0
    """how often it was told that no key waits any more"""
    ended: list[int] = field(default_factory=list)

    def session_open(self, session: Session, rules: RuleSet, steering: list[Steering]) -> None:
        self.session_change(session, rules, steering)

    def session_change(self, session: Session, rules: RuleSet, steering: list[Steering]) -> None:
        if self.fail:
            raise DatapathError("told to fail")
        self.sessions[session.seid] = steering

    def session_close(self, session: Session) -> None:
        del self.sessions[session.seid]

    def keys_changed(self, session: Session) -> None:
        if session.keys.next is None:
            self.dropped += 1
        else:
            self.installed.append(session.keys.next.generation)

    def connection_end(self, session: Session, generation: int) -> None:
        self.ended.append(generation)

    def packets(self, session: Session) -> int:
        return self.carried


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.datapath = Recorder()
        self.events = EventList()
        self.counters = Counters()
        self.transactions = Transactions(1)
        numbers = iter(range(1, 10**6))
        self.agent = PfcpAgent(
            config(),
            Secret(K_N4),
            UP_RECOVERY,
            self.transactions,
            self.datapath,
            Events(self.events),
            self.counters,
            lambda size: (0xA0000000 + next(numbers)).to_bytes(size, "big"),
        )
        self.sequence = 1000
        self.silent = False
        self.requests: list[m.Message] = []
        """Requests of the UPF seen so far by `ask`."""

    def raw(self, data: bytes, peer: Peer = SMF) -> list[tuple[m.Header, m.Message]]:
        """Give a datagram; what the UPF sends for it."""
        self.agent.receive(data, peer, self.now)
        return self.take()

    def take(self) -> list[tuple[m.Header, m.Message]]:
        return [m.decode(data) for data, _ in self.transactions.datagrams()]

    def settle(self) -> list[m.Message]:
        """Accept the session reports that wait to be sent; they are returned."""
        sent = self.take()
        for header, message in sent:
            if isinstance(message, m.SessionReportRequest):
                self.raw(m.encode(m.SessionReportResponse(cause=Cause.ACCEPTED), header.sequence, header.seid))
        return [message for _, message in sent]

    def ask(self, message: m.Message, seid: int | None = None, peer: Peer = SMF) -> m.Message:
        """A request of the SMF and its response; session reports of the UPF are accepted, unless the SMF is silent."""
        self.sequence += 1
        answer: m.Message | None = None
        for header, sent in self.raw(m.encode(message, self.sequence, seid), peer):
            if header.sequence == self.sequence and not header.request:
                answer = sent
            elif header.request:
                self.requests.append(sent)
                if not self.silent:
                    self.raw(m.encode(m.SessionReportResponse(cause=Cause.ACCEPTED), header.sequence, header.seid))
        assert answer is not None, "no response"
        return answer

    def associate(self, recovery: int = CP_RECOVERY, peer: Peer = SMF, keys: bool = True) -> m.Message:
        return self.ask(
            m.AssociationSetupRequest(
                node_id=v.NodeId(IPv4Address(peer[0])),
                recovery_time_stamp=recovery,
                key_capability=MpquicKeyCapability() if keys else None,
            ),
            peer=peer,
        )

    def establish(self, request: m.SessionEstablishmentRequest | None = None) -> Session:
        """Association and session; the session at the UPF."""
        if not self.agent.associations:
            self.associate()
        answer = self.ask(request or establishment(), 0)
        assert isinstance(answer, m.SessionEstablishmentResponse) and answer.up_f_seid is not None, answer
        return self.agent.sessions[answer.up_f_seid.seid]

    def modify(self, session: Session, peer: Peer = SMF, **what: object) -> m.SessionModificationResponse:
        answer = self.ask(m.SessionModificationRequest(**what), session.seid, peer)  # type: ignore[arg-type]
        assert isinstance(answer, m.SessionModificationResponse)
        return answer

    def advance(self, seconds: float) -> list[tuple[m.Header, m.Message]]:
        self.now += seconds
        self.agent.advance(self.now)
        return self.take()


def key_ie(session: Session, generation: int = 1, key: bytes = KEY, lifetime: int = 3600, **more: object) -> MpquicKey:
    wrap = N4KeyWrap(K_N4, CP_RECOVERY, UP_RECOVERY, session.seid)
    return MpquicKey(generation, lifetime, bytes(8), wrap.wrap(key, generation), **more)  # type: ignore[arg-type]


def far(number: int, to: DestinationInterface, name: str | None = None) -> r.CreateFar:
    parameters = r.ForwardingParameters(destination_interface=to, network_instance=name)
    return r.CreateFar(far_id=number, apply_action=ApplyAction.FORW, forwarding=parameters)


def uplink(number: int, name: str, kind: InterfaceType) -> r.CreatePdr:
    return r.CreatePdr(
        pdr_id=number,
        precedence=100,
        pdi=r.Pdi(source_interface=SourceInterface.ACCESS, network_instance=name, interface_type=kind),
        far_id=1,
        multipath_applicable=MultipathApplicable.MPQUIC,
    )


def downlink(number: int, mar_id: int, *flows: str, precedence: int = 100) -> r.CreatePdr:
    return r.CreatePdr(
        pdr_id=number,
        precedence=precedence,
        pdi=r.Pdi(
            source_interface=SourceInterface.CORE,
            ue_ip_address=v.UeIpAddress(IPv4Address("10.45.0.2"), IPv6Address("fd45::"), destination=True),
            sdf_filters=tuple(v.SdfFilter(f) for f in flows),
        ),
        mar_id=mar_id,
    )


def balancing(number: int, near: int = 30, far_weight: int = 70) -> r.CreateMar:
    return r.CreateMar(
        mar_id=number,
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode.LOAD_BALANCING,
        access_3gpp=r.AccessForwarding(far_id=2, weight=near),
        access_non_3gpp=r.AccessForwarding(far_id=3, weight=far_weight),
        transport_mode=TransportMode.DATAGRAM_1,
    )


def standby(number: int) -> r.CreateMar:
    return r.CreateMar(
        mar_id=number,
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode.ACTIVE_STANDBY,
        access_3gpp=r.AccessForwarding(far_id=2, priority=Priority.STANDBY),
        access_non_3gpp=r.AccessForwarding(far_id=3, priority=Priority.ACTIVE),
        transport_mode=TransportMode.DATAGRAM_1,
    )


def establishment(**change: object) -> m.SessionEstablishmentRequest:
    """A MA session with MPQUIC-IP over both accesses, weights 30 and 70."""
    values: dict[str, object] = {
        "node_id": v.NodeId(IPv4Address(SMF[0])),
        "cp_f_seid": v.FSeid(CP_SEID, IPv4Address(SMF[0])),
        "create_pdrs": (
            uplink(1, "3gpp", InterfaceType.N3_3GPP),
            uplink(2, "wifi", InterfaceType.N3_UNTRUSTED_NON_3GPP),
            downlink(3, 1),
        ),
        "create_fars": (
            far(1, DestinationInterface.N6_LAN),
            far(2, DestinationInterface.ACCESS, "3gpp"),
            far(3, DestinationInterface.ACCESS, "wifi"),
        ),
        "create_mars": (balancing(1),),
        "provide_atsss": r.ProvideAtsssControl(mpquic=MpquicControl.CONNECT_IP),
    }
    return m.SessionEstablishmentRequest(**{**values, **change})  # type: ignore[arg-type]

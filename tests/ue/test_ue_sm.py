"""The MA PDU session at the UE: what the network accepts it with is taken whole, or refused by name."""

from ipaddress import IPv4Address

import pytest

from fiveg.atsss import AtsssContainer, AtsssRule, ProxyEntry, SteeringInformation
from fiveg.nas.causes import GsmCause
from fiveg.nas.gsm import (
    EstablishmentAccept,
    EstablishmentRequest,
    GsmStatus,
    PduAddress,
    SessionAmbr,
    SessionType,
    decode,
)
from fiveg.pfcp.codes import ProxyType
from node.counters import Counters
from node.events import EventList, Events
from ue.config import SessionConfig
from ue.sm import LAST_PTI, SmClient
from ue.sm_table import State

PSI = 5
ATSSS = AtsssContainer(
    (AtsssRule(1, 1, load_3gpp=30),),
    SteeringInformation((ProxyEntry(IPv4Address("10.100.0.1"), None, 4433, ProxyType.CONNECT_IP),)),
).encode()


class Timer:
    def cancel(self):
        pass


class Host:
    def __init__(self):
        self.sent, self.sessions, self.up = [], [], ["3gpp"]

    def send_transport(self, message, *, prefer=None, avoid=None):
        self.sent.append(decode(message.payload))
        return prefer or "3gpp"

    def accesses(self):
        return self.up

    def session_changed(self, session):
        self.sessions.append(session)


class Rig:
    def __init__(self):
        self.host, self.events, self.counters, self.timers = Host(), EventList(), Counters(), []
        self.sm = SmClient(SessionConfig(), 2, self.host, Events(self.events), self.counters, self.after)

    def after(self, delay, call):
        self.timers.append(call)
        return Timer()

    def ask(self):
        self.sm.registered("3gpp")
        self.timers.pop()()
        return self.host.sent[-1].pti

    def accept(self, pti, ipv4="10.45.0.2", iid=bytes(7) + b"\x05", access="3gpp", atsss=ATSSS):
        message = EstablishmentAccept(
            pdu_session_id=PSI,
            pti=pti,
            session_type=SessionType.IPV4V6,
            ambr=SessionAmbr.mbps(10, 10),
            address=PduAddress(IPv4Address(ipv4), iid),
            dnn="internet",
            atsss=atsss,
        )
        self.sm.received(access, PSI, message.encode())


@pytest.mark.parametrize("ipv4", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1"])
def test_an_address_that_no_tun_can_have_is_refused_before_a_key_is_spent_on_it(ipv4):
    rig = Rig()
    rig.accept(rig.ask(), ipv4)
    assert rig.sm.state is State.INACTIVE and rig.host.sessions == []
    assert rig.counters.get("sm.refused.bad_address") == 1 and isinstance(rig.host.sent[-1], GsmStatus)
    rig.timers.pop()()  # it is asked for again, later
    rig.accept(rig.host.sent[-1].pti)
    assert rig.sm.state is State.ACTIVE and rig.host.sessions[0].ipv4 == IPv4Address("10.45.0.2")


@pytest.mark.parametrize("octets", [ATSSS[:-1], ATSSS + ATSSS], ids=["cut", "twice"])
def test_a_session_with_rules_that_cannot_be_is_refused_with_a_cause(octets):
    """R-110: no session, no steering by half of the rules; the network is told."""
    rig = Rig()
    rig.accept(rig.ask(), atsss=octets)
    assert rig.sm.state is State.INACTIVE and rig.host.sessions == [] and rig.sm.session is None
    answer = rig.host.sent[-1]
    assert isinstance(answer, GsmStatus) and answer.cause == GsmCause.PROTOCOL_ERROR
    assert rig.counters.get("sm.refused.malformed") == 1


def test_over_the_second_access_the_session_keeps_its_address():
    rig = Rig()
    rig.accept(rig.ask())
    rig.host.up.append("non-3gpp")
    rig.sm.registered("non-3gpp")
    second = rig.host.sent[-1]
    assert isinstance(second, EstablishmentRequest)
    rig.accept(second.pti, "10.45.0.99", access="non-3gpp")
    assert rig.counters.get("sm.refused.address_changed") == 1
    assert [s.ipv4 for s in rig.host.sessions] == [IPv4Address("10.45.0.2")] and rig.sm.state is State.ACTIVE
    rig.accept(second.pti, access="non-3gpp")
    assert len(rig.host.sessions) == 1


def test_ptis_go_round_without_one_that_waits():
    """A request over the second access that is never answered keeps its PTI: the next ones must differ."""
    rig = Rig()
    rig.sm._last_pti = LAST_PTI - 1
    rig.sm._second_pti = rig.sm._next_pti()
    assert rig.sm._second_pti == LAST_PTI
    assert [rig.sm._next_pti() for _ in range(3)] == [1, 2, 3]

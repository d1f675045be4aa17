"""What the network, or who plays it, may send: nothing escapes, nothing is applied that was not verified."""

import random

import pytest
from ue_rig import config
from ue_script import OPC, SUPI, K

from fiveg import keys
from fiveg.aka import authentication_vector
from fiveg.milenage import Milenage
from fiveg.nas.gmm import (
    AuthenticationReject,
    AuthenticationRequest,
    AuthenticationResponse,
    DlNasTransport,
    IdentityRequest,
    IdentityResponse,
    PayloadType,
    RegistrationAccept,
    RegistrationReject,
    RegistrationRequest,
    SecurityModeCommand,
    SecurityModeReject,
    decode,
)
from fiveg.nas.identity import Guti
from fiveg.nas_security import COUNT_LIMIT, NasSecurityContext, Role, Sht, header_type
from node.counters import Counters
from node.events import EventList, Events
from node.subscriber import load_subscriber
from ue.nas_client import NasClient
from ue.registration import CAPABILITY
from ue.registration_table import State

SNN = keys.snn("001", "01")
GUTI = Guti("001", "01", 1, 1, 0, b"\x01\x02\x03\x04")


class User:
    def __init__(self):
        self.calls = []

    def registered(self, access):
        self.calls.append(("registered", access))

    def context_changed(self):
        self.calls.append(("context_changed",))

    def sm(self, access, psi, payload):
        self.calls.append(("sm", access, psi, payload))

    def key(self, access, psi, payload, *, key_allowed):
        self.calls.append(("key", access, psi, payload, key_allowed))

    def not_forwarded(self, kind, psi):
        self.calls.append(("not_forwarded", kind, psi))


class Timer:
    def cancel(self):
        pass


class Network:
    """One access of a UE, and the AMF's side of it without a socket."""

    def __init__(self, directory):
        made = config(directory, {"3gpp": 1, "non-3gpp": 2})
        self.user, self.events, self.counters = User(), EventList(), Counters()
        self.client = NasClient(
            made, load_subscriber(made.subscriber), self.user, Events(self.events), self.counters, after=lambda d, c: Timer()
        )
        self.link = self.client.links[0]
        self.sent, self.aborted = [], 0
        self.link.send = lambda pdu: self.sent.append(pdu) or True
        self.link.abort = self.abort
        self.registration = self.client._registrations[self.link]
        self.vector = authentication_vector(Milenage(K, OPC), 0x1000, bytes(range(16)), SNN)
        self.security = None

    def abort(self):
        self.aborted += 1

    def hear(self, message):
        self.client.received(self.link, message if isinstance(message, bytes) else message.encode())

    def challenge(self, ngksi=0):
        return AuthenticationRequest(ngksi=ngksi, abba=keys.ABBA, rand=self.vector.rand, autn=self.vector.autn)

    def command(self, ciphering=2, integrity=2, capability=CAPABILITY, ngksi=0):
        k_amf = keys.k_amf(self.vector.k_seaf, SUPI, keys.ABBA)
        self.security = NasSecurityContext(k_amf, 0, Role.AMF, ciphering=ciphering if ciphering in (0, 2) else 2)
        message = SecurityModeCommand(ciphering=ciphering, integrity=integrity, ngksi=ngksi, capability=capability, rinmr=True)
        return self.security.protect(message.encode(), "3gpp", Sht.INTEGRITY_NEW)

    def secured(self, message, sht=Sht.CIPHERED, access="3gpp"):
        return self.security.protect(message.encode(), access, sht)

    def register(self, ciphering=2):
        self.client.connected(self.link)
        self.hear(self.challenge())
        self.hear(self.command(ciphering))
        self.hear(self.secured(RegistrationAccept(accesses=frozenset(("3gpp",)), guti=GUTI)))
        assert self.registration.state is State.REGISTERED


@pytest.fixture
def network(tmp_path):
    return Network(tmp_path)


def test_the_whole_registration(network):
    network.client.connected(network.link)
    request = decode(network.sent[0])
    assert isinstance(request, RegistrationRequest) and request.capability == b"\xa0\x20"
    network.hear(network.challenge())
    assert network.vector.matches(decode(network.sent[1]).res_star)
    network.hear(network.command())
    complete = decode(network.security.unprotect(network.sent[2], "3gpp").plain)
    assert complete.nas_message == request
    network.hear(network.secured(RegistrationAccept(accesses=frozenset(("3gpp",)), guti=GUTI)))
    assert network.client.guti == GUTI and network.user.calls == [("registered", "3gpp")]


def test_only_the_suci_is_told_to_just_anybody(network):
    network.client.connected(network.link)
    network.hear(IdentityRequest(kind=3))  # IMEI
    assert len(network.sent) == 1 and network.counters.get("nas.plain_not_allowed") == 1
    network.hear(IdentityRequest.suci())
    assert isinstance(decode(network.sent[1]), IdentityResponse)


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"capability": b"\x80\x20"}, 23),  # bidding down: not what we sent
        ({"integrity": 0}, 24),
        ({"ciphering": 1}, 24),
        ({"ngksi": 3}, 24),
    ],
)
def test_a_weaker_security_mode_is_refused_and_a_right_one_may_follow(network, more, cause):
    network.client.connected(network.link)
    network.hear(network.challenge())
    network.hear(network.command(**more))
    refusal = decode(network.sent[-1])
    assert isinstance(refusal, SecurityModeReject) and refusal.cause == cause
    assert network.client.security is None and network.registration.state is State.CHALLENGED
    network.hear(network.command())
    assert header_type(network.sent[-1]) is Sht.CIPHERED_NEW


def test_a_security_mode_with_a_wrong_mac_changes_nothing(network):
    network.client.connected(network.link)
    network.hear(network.challenge())
    pdu = bytearray(network.command())
    pdu[3] ^= 1
    network.hear(bytes(pdu))
    assert network.client.security is None and network.counters.get("nas.wrong_mac") == 1


def test_a_challenge_again_is_answered_alike(network):
    network.client.connected(network.link)
    network.hear(network.challenge())
    network.hear(network.challenge())
    first, second = (decode(pdu) for pdu in network.sent[1:])
    assert isinstance(first, AuthenticationResponse) and first == second


def test_plain_messages_after_security_are_dropped(network):
    network.register()
    before = len(network.sent)
    for message in (RegistrationReject(cause=3), AuthenticationReject(), IdentityRequest.suci(), network.challenge()):
        network.hear(message)
    assert network.counters.get("nas.plain_after_security") == 4
    assert len(network.sent) == before and not network.aborted and network.registration.state is State.REGISTERED


def container(payload=b"k", kind=PayloadType.MPQUIC_KEY, **more):
    return DlNasTransport(payload_type=kind, payload=payload, pdu_session_id=5, **more)


def test_a_key_container_comes_ciphered_or_not_at_all(network):
    network.register()
    network.hear(container())
    network.hear(network.secured(container(), Sht.INTEGRITY))
    network.hear(network.secured(container(), Sht.CIPHERED_NEW))
    assert [c for c in network.user.calls if c[0] == "key"] == []
    pdu = network.secured(container())
    network.hear(pdu)
    network.hear(pdu)  # a replay
    assert [c for c in network.user.calls if c[0] == "key"] == [("key", "3gpp", 5, b"k", True)]
    assert network.counters.get("nas.replayed") == 1


def test_with_nea0_no_key_itself_is_taken(network):
    network.register(ciphering=0)
    network.hear(network.secured(container()))
    assert network.user.calls[-1] == ("key", "3gpp", 5, b"k", False)


def test_the_other_access_s_counts_do_not_open_here(network):
    network.register()
    network.hear(network.secured(container(), access="non-3gpp"))
    assert network.counters.get("nas.wrong_mac") == 1 and network.user.calls[-1][0] == "registered"


def test_when_no_count_is_left_the_ue_authenticates_anew(network):
    """Nothing is sent under a COUNT twice, and nothing is raised into whoever sends (timers, verbs)."""
    network.register()
    security = network.client.security
    next(iter(security._counts.values())).send = COUNT_LIMIT
    sent = len(network.sent)
    assert network.registration.send_secure(container()) is False
    assert network.counters.get("nas.count_exhausted") == 1 and network.aborted == 1 and len(network.sent) == sent
    network.client.lost(network.link)
    network.client.connected(network.link)
    request = decode(network.sent[-1])
    assert isinstance(request, RegistrationRequest) and request.identity == network.client.suci


def test_an_access_that_cannot_move_to_the_new_context_begins_again(network):
    """Registered with the context before, and the network gave no GUTI with the new one: it must not hold the turn for ever."""
    network.register()
    other = network.client._registrations[network.client.links[1]]
    other.state, other.context = State.REGISTERED, object()
    aborted = []
    other.link.abort = lambda: aborted.append(True)
    network.client.guti = None
    network.client.turn(other)
    assert aborted and network.client._authenticating is None


def test_mutations_of_every_message_in_every_state(tmp_path):
    chance = random.Random(24501)
    for state in ("waiting", "challenged", "secured", "registered"):
        directory = tmp_path / state
        directory.mkdir()
        network = Network(directory)
        network.client.connected(network.link)
        plain = [network.challenge(), IdentityRequest.suci(), RegistrationReject(cause=3), AuthenticationReject(), container()]
        seeds = [m.encode() for m in plain] + [network.command()]
        if state != "waiting":
            network.hear(network.challenge())
        if state in ("secured", "registered"):
            network.hear(network.command())
        if state == "registered":
            network.hear(network.secured(RegistrationAccept(accesses=frozenset(("3gpp",)), guti=GUTI)))
        security, users = network.client.security, list(network.user.calls)
        for _ in range(1500):
            pdu = bytearray(chance.choice(seeds))
            for _ in range(chance.randint(1, 4)):
                if not pdu:
                    break
                at = chance.randrange(len(pdu))
                match chance.randrange(3):
                    case 0:
                        pdu[at] ^= 1 << chance.randrange(8)
                    case 1:
                        del pdu[at:]
                    case _:
                        pdu[at:at] = chance.randbytes(chance.randint(1, 3))
            network.hear(bytes(pdu))
        if state == "registered":
            assert network.registration.state is State.REGISTERED and network.client.security is security
            assert network.user.calls == users
            network.hear(network.secured(container(b"after")))
            assert network.user.calls[-1] == ("key", "3gpp", 5, b"after", True)

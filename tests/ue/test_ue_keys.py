"""The UE's key slot, and the key containers that fill it."""

import pytest

from fiveg.key_container import KeyCause, KeyContainer, KeyContainerType
from fiveg.keys import fingerprint, k_mpquic, psk_identity
from node.counters import Counters
from node.events import EventList, Events
from node.secrets import Secret
from ue.config import KeyConfig
from ue.key_client import REQUEST_REPEATS, KeyClient
from ue.key_store import TABLE, Action, Event, KeyStore, State, step

A, B, C = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
K_AMF, P0 = bytes([7] * 32), bytes([9] * 32)
PSI = 5


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_state_has_an_answer_and_none_goes_back_to_held_but_by_a_new_key(state, event):
    after, action = step(state, event)
    assert (after is State.HELD) == (event is Event.NEW or (state is State.HELD and after is state))
    assert ((state, event) in TABLE) == (action is not Action.IGNORE)


def test_the_newest_generation_alone_is_held():
    store = KeyStore(Clock())
    assert store.provision(3, A, 60) is Action.INSTALL
    slot = store.usable()
    assert (slot.generation, slot.identity, slot.fingerprint) == (3, psk_identity(A), fingerprint(A))
    assert store.provision(3, A, 60) is Action.ACKNOWLEDGE
    assert store.provision(3, B, 60) is Action.REJECT_MISMATCH
    assert store.provision(2, B, 60) is Action.REJECT_STALE
    assert store.usable() is slot and slot.key.reveal() == A
    assert store.provision(4, B, 60) is Action.INSTALL
    assert not slot.key and store.usable().key.reveal() == B


def test_a_spent_key_makes_no_second_connection_and_is_wiped():
    store = KeyStore(Clock())
    store.provision(1, A, 60)
    slot = store.usable()
    store.spent(slot)
    assert store.usable() is None and not slot.key and store.last_spent is None
    assert store.provision(1, A, 60) is Action.ACKNOWLEDGE and store.usable() is None
    assert store.revoke(1) is Action.WIPE_AND_END and store.state is State.OVER


def test_a_spent_key_is_kept_when_it_is_to_be_probed():
    store = KeyStore(Clock(), keep_spent=True)
    store.provision(1, A, 60)
    store.spent(store.usable())
    assert store.last_spent.key.reveal() == A and store.usable() is None


def test_a_key_whose_time_is_over_makes_no_connection():
    clock = Clock()
    store = KeyStore(clock)
    store.provision(1, A, 60)
    clock.now += 60
    assert store.usable() is None and store.state is State.OVER and not store.slot.key


def test_a_key_revoked_or_refused_opens_nothing():
    store = KeyStore(Clock())
    store.provision(1, A, 60)
    assert store.revoke(2) is Action.IGNORE and store.revoke(1) is Action.WIPE and store.usable() is None
    assert store.provision(1, A, 60) is Action.REJECT_STALE
    store.provision(2, B, 60)
    store.refused(store.usable())
    assert store.usable() is None and store.state is State.REFUSED


class Host:
    def __init__(self):
        self.k_amf, self.supi = Secret(K_AMF), "imsi-001010000000001"
        self.known, self.sent, self.installed, self.revoked, self.refusals = True, [], [], [], []
        self.access = "3gpp"

    def session_known(self, psi):
        return self.known

    def send_container(self, psi, octets, *, prefer, avoid):
        self.sent.append((psi, KeyContainer.decode(octets), prefer, avoid))
        return self.access

    def key_installed(self, slot):
        self.installed.append(slot.generation)

    def key_revoked(self, generation):
        self.revoked.append(generation)

    def request_refused(self, cause):
        self.refusals.append(cause)


class Timers:
    def __init__(self):
        self.waiting = []

    def __call__(self, delay, call):
        timers = self

        class Timer:
            def cancel(self):
                timers.waiting = [w for w in timers.waiting if w[2] is not self]

        timer = Timer()
        self.waiting.append((delay, call, timer))
        return timer

    def fire(self):
        delay, call, _ = self.waiting.pop(0)
        call()
        return delay


class Kit:
    def __init__(self, **config):
        self.store, self.host, self.timers = KeyStore(Clock()), Host(), Timers()
        self.events, self.counters = EventList(), Counters()
        self.client = KeyClient(
            PSI, KeyConfig(**config), self.store, self.host, Events(self.events), self.counters, self.timers
        )

    def provision(self, generation=1, psi=PSI, key_allowed=True, transaction=21, **tlvs):
        octets = KeyContainer(
            type=KeyContainerType.PROVISION, transaction=transaction, generation=generation, lifetime=60, **tlvs
        ).encode()
        self.client.received("non-3gpp", psi, octets, key_allowed=key_allowed)
        return self.host.sent[-1][1] if self.host.sent else None


def test_a_key_is_acknowledged_with_its_fingerprint_over_the_access_it_came():
    kit = Kit()
    ack = kit.provision(key=A)
    assert (ack.type, ack.transaction, ack.generation) == (KeyContainerType.ACK, 21, 1)
    assert ack.fingerprint.hex() == fingerprint(A) and kit.host.sent[0][2] == "non-3gpp"
    assert kit.provision(key=A).type is KeyContainerType.ACK and kit.host.installed == [1]
    assert kit.events.of("key_received") == [{"generation": 1, "fingerprint": fingerprint(A)}]


@pytest.mark.parametrize("bind", ["none", "session"])
def test_p0_and_our_own_k_amf_make_the_key(bind):
    kit = Kit(fc="ff01", bind=bind)
    ack = kit.provision(p0=P0)
    session = (PSI, kit.host.supi) if bind == "session" else None
    expected = k_mpquic(K_AMF, P0, fc=b"\xff\x01", session=session)
    assert ack.fingerprint.hex() == fingerprint(expected) and kit.store.usable().key.reveal() == expected


@pytest.mark.parametrize(
    ("cause", "prepare", "more"),
    [
        (KeyCause.UNKNOWN_SESSION, None, {"key": A, "psi": 6}),
        (KeyCause.UNKNOWN_SESSION, lambda kit: setattr(kit.host, "known", False), {"key": A}),
        (KeyCause.NO_SECURITY_CONTEXT, None, {"key": A, "key_allowed": False}),
        (KeyCause.NO_SECURITY_CONTEXT, lambda kit: setattr(kit.host, "k_amf", None), {"p0": P0}),
        (KeyCause.STALE_GENERATION, None, {"key": A, "generation": 2}),
        (KeyCause.FINGERPRINT_MISMATCH, None, {"key": A, "generation": 3}),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(cause, prepare, more):
    kit = Kit()
    kit.provision(3, key=B)
    if prepare is not None:
        prepare(kit)
    before = kit.store.usable()
    answer = kit.provision(**{"generation": 4} | more)
    assert (answer.type, answer.cause) == (KeyContainerType.REJECT, cause)
    assert kit.store.usable() is before and before.key.reveal() == B
    assert kit.host.installed == [3] and sum(v for k, v in kit.counters.snapshot().items()) == 1


def test_p0_alone_is_taken_without_ciphering():
    kit = Kit()
    assert kit.provision(p0=P0, key_allowed=False).type is KeyContainerType.ACK


GOOD = KeyContainer(type=KeyContainerType.PROVISION, transaction=21, generation=2, key=A, lifetime=60).encode()


@pytest.mark.parametrize(
    "octets",
    [GOOD[:-1], GOOD[:8], GOOD[:7], GOOD + b"\xff", GOOD + GOOD[7:42], GOOD[:3] + bytes(4) + GOOD[7:]],
    ids=["cut", "cut in the key's tag", "head alone", "one octet more", "key twice", "generation 0"],
)
def test_a_malformed_key_is_refused_with_a_cause_and_the_old_one_stays(octets):
    """R-109: by its head it is a PROVISION, so the AMF learns at once that it is not taken."""
    kit = Kit()
    kit.provision(key=B)
    kit.client.received("3gpp", PSI, octets, key_allowed=True)
    psi, answer, prefer, _ = kit.host.sent[-1]
    assert (psi, answer.type, answer.cause, prefer) == (PSI, KeyContainerType.REJECT, KeyCause.UNSUPPORTED, "3gpp")
    assert (answer.transaction, answer.generation) == (21, int.from_bytes(octets[3:7], "big"))
    assert kit.counters.get("key.malformed_container") == 1 and kit.host.installed == [1]
    assert kit.store.usable().key.reveal() == B


def test_what_is_no_key_by_its_head_is_counted_and_not_answered():
    """An answer to a broken answer would be answered again."""
    kit = Kit()
    refusal = KeyContainer(type=KeyContainerType.REJECT, transaction=1, generation=1, cause=KeyCause.NO_RESOURCES).encode()
    for octets in (b"", b"\x01\x01\x15", b"\x02" + bytes(20), bytes(100), refusal[:-1]):
        kit.client.received("3gpp", PSI, octets, key_allowed=True)
    assert kit.counters.get("key.malformed_container") == 5 and not kit.host.sent
    assert kit.store.usable() is None


def test_a_request_repeats_over_another_access_and_ends():
    kit = Kit()
    assert kit.client.request() and not kit.client.request()
    for expected in REQUEST_REPEATS:
        assert kit.timers.fire() == expected
    asked = [(c.type, c.transaction, avoid) for _, c, _, avoid in kit.host.sent]
    assert asked == [(KeyContainerType.REQUEST, 1, None)] + [(KeyContainerType.REQUEST, 1, "3gpp")] * 3
    assert kit.host.refusals == [0] and not kit.timers.waiting


def test_a_request_is_answered_by_a_key_or_a_reject():
    kit = Kit()
    kit.client.request()
    kit.provision(key=A)
    assert not kit.timers.waiting
    kit.client.request()
    reject = KeyContainer(
        type=KeyContainerType.REJECT, transaction=2, generation=1, cause=KeyCause.NO_RESOURCES
    ).encode()
    kit.client.received("3gpp", PSI, reject, key_allowed=True)
    assert kit.host.refusals == [4] and not kit.timers.waiting
    kit.client.received("3gpp", PSI, reject, key_allowed=True)
    assert kit.counters.get("key.stale_reject") == 1


def test_a_revoked_key_ends_its_connection():
    kit = Kit()
    kit.provision(key=A)
    kit.store.spent(kit.store.usable())
    revoke = KeyContainer(type=KeyContainerType.REVOKE, transaction=21, generation=1).encode()
    kit.client.received("3gpp", PSI, revoke, key_allowed=True)
    assert kit.host.revoked == [1]
    kit.client.received("3gpp", PSI, revoke, key_allowed=True)
    assert kit.host.revoked == [1] and kit.counters.get("key.stale_revoke") == 1


def test_nothing_that_is_shown_holds_a_key():
    kit = Kit()
    kit.provision(key=A)
    shown = repr(kit.events.items) + repr(kit.store.slot) + repr(kit.store.slot.key)
    assert A.hex() not in shown and psk_identity(A).hex() not in shown

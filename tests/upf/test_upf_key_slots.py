"""Key slots and the key request's table: every cell."""

from __future__ import annotations

import pytest

from fiveg.pfcp.codes import KeyReason
from node.secrets import Secret
from upf.errors import KeyRefused
from upf.key_request import BACKOFF_FIRST, BACKOFF_LONGEST, TABLE, Event, KeyRequester, State
from upf.key_slots import KeySlot, KeySlots


def slot(generation: int, lifetime: int = 100) -> KeySlot:
    return KeySlot(generation, Secret(bytes([generation]) * 32), b"id%d" % generation, f"{generation:08x}", lifetime, 0.0)


def test_key_is_spent_and_wiped_by_its_connection() -> None:
    keys = KeySlots()
    keys.install(slot(1))
    held = keys.lookup(b"id1", 1.0)
    assert held is not None and keys.lookup(b"id2", 1.0) is None
    assert keys.spend(b"id1") is held and len(held.key) == 0
    assert keys.lookup(b"id1", 1.0) is None and keys.is_spent(b"id1")
    assert keys.spend(b"id1") is None


def test_rotation_moves_next_to_current_to_previous() -> None:
    keys = KeySlots()
    for generation in (1, 2):
        keys.install(slot(generation))
        keys.spend(b"id%d" % generation)
    assert keys.current is not None and keys.previous is not None
    assert (keys.current.generation, keys.previous.generation, keys.next) == (2, 1, None)
    keys.ended(1)
    assert keys.previous is None and keys.current is not None
    keys.ended(2)
    assert keys.current is None


def test_generations_only_rise_and_superseded_key_is_wiped() -> None:
    keys = KeySlots()
    first = slot(3)
    keys.install(first)
    for generation in (3, 2):
        with pytest.raises(KeyRefused):
            keys.install(slot(generation))
    assert keys.next is first
    keys.install(slot(4))
    assert len(first.key) == 0 and keys.is_spent(b"id3")


def test_expired_key_makes_no_connection() -> None:
    keys = KeySlots()
    held = slot(1, lifetime=60)
    keys.install(held)
    assert keys.expire(59.9) is None and keys.lookup(b"id1", 59.9) is held
    assert keys.lookup(b"id1", 60.0) is None
    assert keys.expire(60.0) == 1 and len(held.key) == 0  # a look before does not hide its end
    assert keys.expire(60.0) is None


def test_revoked_generation_cannot_come_again() -> None:
    keys = KeySlots()
    keys.install(slot(1))
    keys.revoke(1)
    assert keys.next is None
    with pytest.raises(KeyRefused):
        keys.check(1)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_cell_of_the_request(state: State, event: Event) -> None:
    requester = KeyRequester()
    requester.state = state
    asks = requester.step(event, 10.0)
    if (state, event) not in TABLE:
        assert requester.state is state and not asks and requester.due is None
        return
    assert requester.state is TABLE[state, event][0]
    assert asks == (requester.state is State.ASKING)
    assert (requester.due is not None) == (requester.state in (State.WAITING, State.BACKOFF))


def test_back_off_doubles_to_its_limit_and_a_quiet_minute_resets_it() -> None:
    requester = KeyRequester()
    assert requester.need(KeyReason.INITIAL, 0.0)
    assert not requester.need(KeyReason.LIFETIME, 0.0) and requester.reason is KeyReason.INITIAL
    waits = []
    for _ in range(10):
        requester.step(Event.REFUSED, 0.0)
        assert requester.due is not None
        waits.append(requester.due)
        requester.step(Event.TIMER, 0.0)
    assert waits[:3] == [BACKOFF_FIRST, 2 * BACKOFF_FIRST, 4 * BACKOFF_FIRST] and waits[-1] == BACKOFF_LONGEST
    requester.step(Event.KEY, 0.0)
    assert requester.need(KeyReason.LIFETIME, BACKOFF_LONGEST + 1)
    requester.step(Event.REFUSED, 0.0)
    assert requester.due == BACKOFF_FIRST


def test_keys_that_do_not_last_are_asked_for_ever_more_slowly() -> None:
    """A UE that closes each connection as soon as it is made, and always gets its key at once."""
    requester, now, asked = KeyRequester(), 0.0, []
    asks = requester.need(KeyReason.INITIAL, now)
    while now < 200:
        if asks:
            asked.append(now)
            requester.step(Event.ACCEPTED, now)
            requester.step(Event.KEY, now)
            asks = requester.need(KeyReason.RESTART, now)
        else:
            assert requester.due is not None
            now = requester.due
            asks = requester.step(Event.TIMER, now)
    assert asked[:5] == [0.0, 1.0, 3.0, 7.0, 15.0] and len(asked) < 10

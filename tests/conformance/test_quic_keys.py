"""Key update and the limits of the AEAD (RFC 9001 §6)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import HANDSHAKE, INITIAL, ONE_RTT, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)
KEY_UPDATE_ERROR, AEAD_LIMIT_REACHED = 0x0E, 0x0F


def received(peer: RawPeer) -> int:
    return peer.counter("packets_received")


def reserve(peer: RawPeer, path: int = 0) -> int:
    """A packet number that is sent later, or never."""
    space = peer.spaces[ONE_RTT, path]
    space.next_pn += 1
    return space.next_pn - 1


def test_no_update_before_the_handshake_is_confirmed() -> None:
    """RFC 9001 §6.1: though a packet of the phase was acknowledged."""
    with RawPeer("client") as peer:
        peer.start_client()
        peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
        peer.deliver(peer.seal_long(HANDSHAKE, peer.crypto(b"server finished")))
        peer.engine_sends(MAX_DATA)
        peer.run(SECOND)
        assert 0x10 in [frame.kind for p in peer.packets if p.level == ONE_RTT for frame in p.frames]
        assert lib.conn_key_update(peer.node.endpoint, peer.conn) == -lib.ENGINE_E_STATE
        peer.send(0, f.frame(f.HANDSHAKE_DONE))
        peer.run(SECOND)
        assert lib.conn_key_update(peer.node.endpoint, peer.conn) == 0


def test_a_second_update_before_the_first_was_acknowledged(two: RawPeer) -> None:
    """RFC 9001 §6.2: of the peer, on whatever path; after the acknowledgement it is none."""
    two.run(SECOND)
    two.answers = False
    two.send(0, PING, generation=1)
    two.send(1, PING, generation=2)
    assert two.error == KEY_UPDATE_ERROR


@both
def test_an_update_after_the_acknowledgement_is_followed(role: Role) -> None:
    """RFC 9001 §6.2: without the acknowledgement of our own packets, and with old keys still kept."""
    with RawPeer(role) as peer:
        peer.connect()
        for generation in (1, 2, 3):
            peer.generation = generation
            peer.send(0, PING)
            peer.run(100 * MS)
        assert peer.error is None
        assert [e.a for e in peer.events(lib.EVENT_KEY_PHASE)] == [1, 2, 3]


@pytest.mark.parametrize("path", [0, 1])
def test_older_keys_behind_newer_ones(two: RawPeer, path: int) -> None:
    """RFC 9001 §6.4: a higher packet number of the same path with older keys, while those are kept; a lower one is only late."""
    two.run(SECOND)
    late = reserve(two, path)
    two.send(path, PING, generation=1)
    before = received(two)
    two.send(path, PING, pn=late, generation=0)
    two.send(1 - path, PING, generation=0)  # this path has seen none of the new phase
    assert two.error is None and received(two) == before + 2
    two.send(path, PING, generation=0)
    assert two.error == KEY_UPDATE_ERROR


def test_newer_keys_before_older_ones(two: RawPeer) -> None:
    """RFC 9001 §6.4, the other way round: a lower packet number with keys newer than those of a higher one."""
    two.run(SECOND)
    late = reserve(two)
    two.send(0, PING, generation=1)
    two.run(100 * MS)
    two.send(0, PING, pn=late, generation=2)
    assert two.error == KEY_UPDATE_ERROR


def test_old_keys_are_kept_for_three_pto(two: RawPeer) -> None:
    """RFC 9001 §6.5: and no longer. Of the slowest path: RFC 10069 §2.5."""
    two.run(SECOND)
    late = [reserve(two), reserve(two)]
    pto = max(p.pto for p in two.paths().values())
    two.send(0, PING, generation=1)
    two.generation = 1
    two.run(3 * pto - 5 * MS)
    before = received(two)
    two.send(0, PING, pn=late[0], generation=0)
    assert received(two) == before + 1
    two.run(pto)
    before = received(two), two.counter("auth_failed")
    two.send(0, PING, pn=late[1], generation=0)
    assert (received(two), two.counter("auth_failed")) == (before[0], before[1] + 1)


def test_a_forged_phase_changes_nothing(two: RawPeer) -> None:
    """RFC 9001 §6.3: a trial that fails leaves keys, phase and connection as they were; both before and just after an update."""
    two.run(SECOND)
    for generation in (0, 1):
        two.generation = generation
        two.send(0, PING)
        phases = len(two.events(lib.EVENT_KEY_PHASE))
        for claimed in (generation + 1, generation + 2, generation + 3):
            forged = two.seal(0, PING, generation=claimed)
            two.deliver(forged[:-1] + bytes([forged[-1] ^ 1]))
        assert len(two.events(lib.EVENT_KEY_PHASE)) == phases and two.error is None
        two.send(0, PING)
    assert two.error is None


@both
def test_keys_are_updated_before_their_limit(role: Role) -> None:
    """RFC 9001 §6.6: by the engine itself; the peer need not ask."""
    with RawPeer(role, key_update_packets=50) as peer:
        peer.connect()
        for _ in range(100):
            peer.engine_sends(MAX_DATA)
            peer.run(10 * MS)
            peer.generation = max(p.generation for p in peer.packets)
        assert peer.error is None and peer.generation >= 1
        assert next(e.b for e in peer.events(lib.EVENT_KEY_PHASE)) == 0


@both
def test_forgeries_are_counted_over_all_keys_and_paths(role: Role) -> None:
    """RFC 9001 §6.6: the limit of the suite, here a smaller one of the configuration."""
    with RawPeer(role, close_after_forgeries=20) as peer:
        peer.connect()
        peer.open_path()
        peer.run(SECOND)
        failed = 0
        for turn in range(20):
            assert peer.error is None, turn
            path = turn % 2
            forged = peer.seal(path, PING)
            peer.deliver(forged[:-1] + bytes([forged[-1] ^ 1]), link=path)
            if turn == 9:
                peer.generation = 1
                peer.send(0, PING)
                peer.run(SECOND)
            failed += 1
        assert failed == 20 and peer.error == AEAD_LIMIT_REACHED

"""One set of keys and one key phase for all paths (RFC 10069 §2.5, §7.3; RFC 9001 §6)."""

from __future__ import annotations

import frames as f
from raw_peer import ONE_RTT, RawPeer

from native import lib
from native.sim import MS, SECOND

MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)


def update(peer: RawPeer) -> int:
    result = int(lib.conn_key_update(peer.node.endpoint, peer.conn))
    peer.flush()
    return result


def largest_pto(peer: RawPeer) -> int:
    return max(p.pto for p in peer.paths().values())


def test_a_new_update_waits_three_of_the_largest_pto_after_the_confirming_ack(two: RawPeer) -> None:
    """MP-16: the new phase was seen two PTO before its acknowledgement came; the wait counts from the latter."""
    two.run(SECOND)
    two.answers = False
    assert update(two) == 0
    two.generation = 1
    two.send(0, PING)  # follows; acknowledges nothing
    pto = largest_pto(two)
    two.run(2 * pto)
    wait = 3 * largest_pto(two)
    two.send(0, two.ack(0))
    two.run(wait - MS)
    assert update(two) == -lib.ENGINE_E_STATE
    two.run(2 * MS)
    assert update(two) == 0


def test_the_phase_is_the_connections(two: RawPeer) -> None:
    """MP-17: the peer's update on one path holds for all; late packets of the old phase on others still open: on one that has seen
    the new phase, and on one that has not."""
    two.open_path(2)
    two.run(SECOND)
    two.deaf.add(2)
    late = {}
    for path in (0, 2):
        slow = two.spaces[ONE_RTT, path]
        late[path], slow.next_pn = slow.next_pn, slow.next_pn + 1
    two.generation = 1
    at = two.mark()
    two.send(1, PING)
    two.run(50 * MS)
    two.engine_sends(MAX_DATA, path=0)
    assert two.events(lib.EVENT_KEY_PHASE)
    assert {p.generation for p in two.packets[at:]} == {1}
    for path, pn in late.items():
        before = two.counter("packets_received")
        two.send(path, f.frame(f.PADDING), pn=pn, generation=0)
        assert two.counter("packets_received") == before + 1


def test_an_update_is_confirmed_by_an_ack_of_the_phase_on_any_path(two: RawPeer) -> None:
    """MP-18: packets of the new phase do not confirm it, however long ago; an acknowledgement does, on whatever path."""
    two.run(SECOND)
    two.answers = False
    assert update(two) == 0
    two.generation = 1
    two.send(0, PING)
    two.run(4 * largest_pto(two))
    assert update(two) == -lib.ENGINE_E_STATE
    two.engine_sends(MAX_DATA, path=1)
    two.send(0, two.ack(1))
    two.run(4 * largest_pto(two))
    assert update(two) == 0


def test_packets_of_all_paths_count_for_the_aead_limit() -> None:
    """MP-92: half of the limit on each of two paths is the limit; those of a tunnel count alike."""
    for role in ("client", "server"):
        with RawPeer(role, close_after_packets=200) as peer:  # type: ignore[arg-type]
            peer.connect()
            peer.open_path()
            for _ in range(130):
                if peer.error is None:
                    peer.engine_sends(MAX_DATA, path=0)
                if peer.error is None:
                    peer.engine_sends(MAX_DATA, path=1)
            assert peer.error == 0x0F
            by_path = [sum(p.path == path for p in peer.packets if p.level == ONE_RTT) for path in (0, 1)]
            assert max(by_path) < 150 and 195 <= sum(by_path) <= 205
        with RawPeer(role, close_after_packets=200) as peer:  # type: ignore[arg-type]
            peer.connect()
            peer.open_path()
            peer.tunnel(mode=lib.STEER_LOAD_BALANCING, weight=[50, 50])
            for _ in range(250):
                if peer.error is None:
                    peer.inner()
                    peer.run(MS)
            assert peer.error == 0x0F

"""Connection IDs per path: issued, numbered, retired, replaced, refused (RFC 10069 §2.2, §3.2, §4.4, §4.5, §4.7)."""

from __future__ import annotations

from typing import Any

import frames as f
import pytest
from raw_peer import ONE_RTT, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)
FRAME_ENCODING_ERROR, PROTOCOL_VIOLATION, CONNECTION_ID_LIMIT_ERROR = 0x07, 0x0A, 0x09
ISSUES = (f.NEW_CONNECTION_ID, f.PATH_NEW_CONNECTION_ID)
RETIRES = (f.RETIRE_CONNECTION_ID, f.PATH_RETIRE_CONNECTION_ID)


def retired(peer: RawPeer, since: int = 0) -> list[tuple[int, int]]:
    return [(frame.path, frame.fields["sequence"]) for frame in peer.frames(*RETIRES, since=since)]


def test_the_limit_of_active_cids_is_each_paths(peer: RawPeer) -> None:
    """MP-08: four on every path are allowed; the fifth on one is not."""
    for path in range(4):
        peer.send(0, *(peer.cid_frame(path, sequence) for sequence in range(1, 4)))
    assert peer.error is None
    peer.send(0, peer.cid_frame(2, 4))
    assert peer.error == CONNECTION_ID_LIMIT_ERROR


def test_the_cid_of_preferred_address_is_number_one_of_path_zero() -> None:
    """MP-10: it is retired with the others of path 0, and number 1 is taken. The engine does not go to the address: it need not."""
    cid = b"prefered"
    params: dict[str, Any] = {"preferred_cid_length": 8, "preferred_cid": cid.ljust(20, b"\0"), "preferred_token": bytes(16)}
    with RawPeer("client", params=params) as peer:
        peer.connect(paths=1)
        peer.send(0, peer.cid_frame(0, 2, retire=2))
        assert sorted(retired(peer)) == [(0, 0), (0, 1)] and peer.error is None
    with RawPeer("client", params=params) as peer:
        peer.connect(paths=1)
        peer.send(0, peer.cid_frame(0, 1))
        assert peer.error == PROTOCOL_VIOLATION


@both
def test_other_paths_use_frames_with_a_path(role: Role) -> None:
    """MP-38: NEW_CONNECTION_ID and RETIRE_CONNECTION_ID are for path 0 alone."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.send(0, peer.cid_frame(1, 2, retire=1))
        issued = peer.frames(*ISSUES)
        plain = [frame.data for frame in issued if frame.kind == f.NEW_CONNECTION_ID]
        assert {frame.path for frame in issued if frame.kind == f.PATH_NEW_CONNECTION_ID} >= {1, 2, 3}
        assert len(plain) == 1  # number 1 of path 0, two being issued for each path
        assert [(frame.kind, frame.path) for frame in peer.frames(*RETIRES)] == [(f.PATH_RETIRE_CONNECTION_ID, 1)]


def test_both_frames_share_path_zeros_numbers(peer: RawPeer) -> None:
    """MP-39: a CID given by the one frame is retired by the other; the same number by both frames must be the same CID."""
    peer.send(0, peer.cid_frame(0, 1))
    two = peer.cid_of(0, 2)
    peer.cids[two] = (0, 2)
    at = peer.mark()
    peer.send(0, f.new_cid(0, 2, 2, two, peer.token_of(two)))  # PATH_NEW_CONNECTION_ID for path 0
    assert sorted(retired(peer, at)) == [(0, 0), (0, 1)]
    assert peer.error is None
    peer.send(0, f.new_cid(None, 2, 0, b"another!", bytes(16)))
    assert peer.error == PROTOCOL_VIOLATION


@both
def test_numbers_start_at_zero_on_each_path(role: Role) -> None:
    """MP-40."""
    with RawPeer(role) as peer:
        peer.connect()
        lowest = {path: min(s for p, s in peer.engine_cids if p == path) for path, _ in peer.engine_cids}
        assert lowest == {0: 0, 1: 0, 2: 0, 3: 0}


@both
def test_every_possible_path_has_a_cid_before_it_is_used(role: Role) -> None:
    """MP-41: lowest path first, without holes."""
    with RawPeer(role) as peer:
        peer.connect(paths=0)
        order = [frame.path for frame in peer.frames(f.PATH_NEW_CONNECTION_ID)]
        assert order == sorted(order) and set(order) == {1, 2, 3}


def test_a_cid_that_is_there_already_is_a_violation(peer: RawPeer) -> None:
    """MP-43, receiving: known from another path."""
    cid = peer.cid_of(1, 0)
    peer.send(0, f.new_cid(2, 2, 0, cid, peer.token_of(cid)))
    assert peer.error == PROTOCOL_VIOLATION


@both
def test_no_cid_above_the_peers_limit(role: Role) -> None:
    """MP-44: until MAX_PATH_ID allows it."""
    with RawPeer(role, params={"initial_max_path_id": 1}) as peer:
        peer.connect(paths=1)
        assert {frame.path for frame in peer.frames(f.PATH_NEW_CONNECTION_ID)} == {1}
        peer.send(0, f.frame(f.MAX_PATH_ID, 2))
        assert {frame.path for frame in peer.frames(f.PATH_NEW_CONNECTION_ID)} == {1, 2}


def test_rotation_stays_on_the_path(two: RawPeer) -> None:
    """MP-46: the peer retires what is in use; the next packets go to the new CID of the same path."""
    two.send(0, two.cid_frame(1, 2, retire=2))
    at = two.mark()
    two.engine_sends(MAX_DATA, path=1)
    two.engine_sends(MAX_DATA, path=0)
    assert [(p.path, two.cids[p.dcid]) for p in two.packets[at:]] == [(1, (1, 2)), (0, (0, 0))]


def test_a_retired_cid_is_replaced(two: RawPeer) -> None:
    """MP-47."""
    at = two.mark()
    two.send(0, f.frame(f.PATH_RETIRE_CONNECTION_ID, 1, 0))
    assert [(x.path, x.fields["sequence"]) for x in two.frames(*ISSUES, since=at)] == [(1, 2)]


def test_an_opening_that_lacks_a_cid_says_so() -> None:
    """MP-48: PATH_CIDS_BLOCKED with the next number expected."""
    with RawPeer("client") as peer:
        peer.connect(paths=0)
        assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
        assert [x.fields for x in peer.frames(f.PATH_CIDS_BLOCKED)] == [{"path": 1, "sequence": 0}]
        peer.send(0, peer.cid_frame(1, 0))
        assert peer.engine_opens() == 1


def test_a_path_survives_the_loss_of_all_its_cids(two: RawPeer) -> None:
    """MP-49: packet numbers, RTT and window go on with the replacements."""
    before = two.paths()[1]
    two.send(0, f.frame(f.PATH_RETIRE_CONNECTION_ID, 1, 0), f.frame(f.PATH_RETIRE_CONNECTION_ID, 1, 1))
    two.run(1000 * MS)  # what is under way to the old ones is taken until then
    received = two.paths()[1].packets_received
    at = two.mark()
    two.send(1, PING)  # to the newest CID, with the next packet number
    two.run(50 * MS)
    after = two.paths()[1]
    assert after.packets_received == received + 1
    assert (after.state, after.cwnd, after.rtt_smoothed) == (before.state, before.cwnd, before.rtt_smoothed)
    last = two.spaces[ONE_RTT, 1].next_pn - 1
    assert any(last in frame.acked for frame in two.frames(f.PATH_ACK, since=at) if frame.path == 1)


def test_bad_lengths_and_numbers_of_a_new_cid(peer: RawPeer) -> None:
    """MP-76."""
    for cid, sequence, retire in ((b"", 2, 0), (b"12345678", 2, 3), (bytes(21), 2, 0)):
        with RawPeer(peer.role) as other:
            other.connect()
            other.send(0, f.new_cid(1, sequence, retire, cid, bytes(16)))
            assert other.error == FRAME_ENCODING_ERROR


def test_retire_prior_to_is_the_paths_and_comes_first(two: RawPeer) -> None:
    """MP-77: with the limit reached, retiring makes the room; a number below comes too late and is retired at once."""
    two.send(0, *(two.cid_frame(1, s) for s in (2, 3)), *(two.cid_frame(2, s) for s in (2, 3)))
    at = two.mark()
    two.send(0, two.cid_frame(1, 10, retire=10))
    assert two.error is None
    assert sorted(retired(two, at)) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    at = two.mark()
    two.send(0, two.cid_frame(1, 7))
    assert retired(two, at) == [(1, 7)]


@pytest.mark.parametrize(("path", "sequence"), [(1, 9), (1, 0)], ids=["never issued", "in use"])
def test_retiring_what_cannot_be_retired(two: RawPeer, path: int, sequence: int) -> None:
    """MP-78: a number never issued on that path, though on another; and the CID of the packet that says so."""
    cid = two.engine_cids[1, 0]
    for extra in range(2, 12) if sequence == 9 else ():
        two.send(0, f.frame(f.RETIRE_CONNECTION_ID, extra - 1))
    two.send(1, f.frame(f.PATH_RETIRE_CONNECTION_ID, path, sequence), cid=cid)
    assert two.error == PROTOCOL_VIOLATION


@both
def test_blocked_beyond_our_limit_is_a_violation(role: Role) -> None:
    """MP-82; at the limit and below it is none."""
    for payload in (f.frame(f.PATHS_BLOCKED, 4), f.frame(f.PATH_CIDS_BLOCKED, 4, 0)):
        with RawPeer(role) as peer:
            peer.connect()
            peer.send(0, f.frame(f.PATHS_BLOCKED, 3), f.frame(f.PATHS_BLOCKED, 1), f.frame(f.PATH_CIDS_BLOCKED, 3, 0))
            assert peer.error is None
            peer.send(0, payload)
            assert peer.error == PROTOCOL_VIOLATION


def test_cids_blocked_with_a_future_number_is_a_violation(peer: RawPeer) -> None:
    """MP-83."""
    following = 1 + max(s for p, s in peer.engine_cids if p == 2)
    peer.send(0, f.frame(f.PATH_CIDS_BLOCKED, 2, following))
    assert peer.error is None
    peer.send(0, f.frame(f.PATH_CIDS_BLOCKED, 2, following + 1))
    assert peer.error == PROTOCOL_VIOLATION


@pytest.mark.parametrize("lack", ["path", "cid"])
def test_blocked_is_told_once_and_repeated_only_while_it_is_true(lack: str) -> None:
    """MP-84: another attempt says nothing new; lost and still blocked, it goes again; lost and no longer blocked, or acknowledged,
    it does not."""
    kind = f.PATHS_BLOCKED if lack == "path" else f.PATH_CIDS_BLOCKED
    for still in (True, False):
        with RawPeer("client", params={"initial_max_path_id": 1 if lack == "path" else 3}) as peer:
            peer.connect(paths=1)
            peer.open_path()
            peer.answers = False
            at = peer.mark()
            assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
            assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
            assert [x.path for x in peer.frames(kind, since=at)] == [1 if lack == "path" else 2]
            if not still:
                peer.send(0, f.frame(f.MAX_PATH_ID, 2) if lack == "path" else peer.cid_frame(2, 0))
            lose_first(peer, at)
            assert len(peer.frames(kind, since=at)) == (2 if still else 1)
            peer.answers = True
            peer.run(SECOND)
            count = len(peer.frames(kind, since=at))
            peer.run(3 * SECOND)
            assert len(peer.frames(kind, since=at)) == count


def lose_first(peer: RawPeer, at: int) -> None:
    """The engine's first packet after `at` is lost: packets behind it are acknowledged."""
    first = peer.packets[at]
    for _ in range(4):
        peer.engine_sends(MAX_DATA, path=first.path)
    later = [p.pn for p in peer.packets[at + 1 :] if p.path == first.path and p.level == ONE_RTT]
    peer.send(first.path, peer.ack(first.path, *later))
    peer.run(MS)

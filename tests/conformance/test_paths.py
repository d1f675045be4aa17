"""The life of a path: opened, validated, moved, abandoned, forgotten (RFC 10069 §2.2, §3.1, §3.4, §7)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import CLIENT_ADDRESS, ONE_RTT, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)
PROTOCOL_VIOLATION, NO_VIABLE_PATH = 0x0A, 0x10
ELSEWHERE = ("10.100.0.9", 4433)
CHALLENGE = f.frame(f.PATH_CHALLENGE) + b"validate"


def abandons(peer: RawPeer, since: int = 0) -> list[tuple[int, int, int]]:
    """The engine's PATH_ABANDON frames: path that carried it, path named, error code."""
    return [(p.path, x.path, x.fields["code"]) for p, x in peer.found(f.PATH_ABANDON, since=since)]


# ---- opening


def test_a_peer_that_does_not_move_is_not_asked_to() -> None:
    """MP-09: disable_active_migration forbids paths to the address of the handshake, even when path 0 is gone; not to others."""
    with RawPeer("client", params={"disable_active_migration": 1}) as peer:
        peer.connect()
        assert peer.engine_opens() == -lib.ENGINE_E_STATE
        assert peer.engine_opens(remote=ELSEWHERE) == 1
        peer.link_of[1] = 1
        peer.run(100 * MS)
        peer.engine_abandons(0)
        peer.send(1, f.frame(f.PATH_ABANDON, 0, 0))
        peer.run(3 * SECOND)
        assert peer.engine_opens() == -lib.ENGINE_E_STATE
        assert peer.error is None


def test_a_server_opens_no_path() -> None:
    """MP-21, as server: not even when all is there for it."""
    with RawPeer("server") as peer:
        peer.connect()
        assert peer.engine_opens() == -lib.ENGINE_E_STATE
        peer.run(SECOND)
        assert {p.path for p in peer.packets} == {0}


def test_a_client_takes_no_path_that_a_server_opens() -> None:
    """MP-21, as client: the packet is dropped by name."""
    with RawPeer("client") as peer:
        peer.connect()
        dropped = peer.counter("cid_unroutable_link")
        peer.send(1, CHALLENGE, link=1, pad=1200)
        peer.run(SECOND)
        assert peer.counter("cid_unroutable_link") == dropped + 1
        assert set(peer.paths()) == {0} and peer.error is None
        assert {p.path for p in peer.packets} == {0}


def test_a_path_needs_cids_of_both_and_both_limits() -> None:
    """MP-22: the peer's limit is 1 (though it gave a CID for path 2); then the peer's CID for path 3 lacks; then all is there."""
    with RawPeer("client", params={"initial_max_path_id": 1}) as peer:
        peer.connect(paths=2)
        peer.open_path(1)
        assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
        peer.send(0, f.frame(f.MAX_PATH_ID, 3))
        assert peer.engine_opens() == 2
        assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
        peer.send(0, peer.cid_frame(3, 0))
        assert peer.engine_opens() == 3


def test_a_new_path_has_an_unused_id_and_a_fresh_cid() -> None:
    """MP-23."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.open_path(1)
        used = {p.dcid for p in peer.packets}
        at = peer.mark()
        peer.open_path(2)
        opened = [p for p in peer.packets[at:] if p.path == 2]
        assert opened and not used & {p.dcid for p in opened}


def test_path_ids_are_used_in_order_and_taken_in_any() -> None:
    """MP-42: a client's own ids go upwards; a server accepts the highest first."""
    with RawPeer("client") as peer:
        peer.connect()
        assert [peer.engine_opens() for _ in range(3)] == [1, 2, 3]
    with RawPeer("server") as peer:
        peer.connect()
        peer.open_path(3)
        peer.open_path(1)
        assert set(peer.paths()) == {0, 1, 3} and peer.error is None


def test_the_end_of_the_ids_is_told() -> None:
    """MP-45: MAX_PATH_ID where our own limit binds (then the path can be opened), PATHS_BLOCKED where the peer's does."""
    with RawPeer("client", initial_max_path_id=1) as peer:
        peer.connect(paths=1)
        peer.open_path()
        assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
        assert [x.path for x in peer.frames(f.MAX_PATH_ID)] == [2]
        peer.send(0, peer.cid_frame(2, 0))
        assert peer.engine_opens() == 2
    with RawPeer("client", params={"initial_max_path_id": 1}) as peer:
        peer.connect()
        peer.open_path()
        assert peer.engine_opens() == -lib.ENGINE_E_LIMIT
        assert [x.path for x in peer.frames(f.PATHS_BLOCKED)] == [1]
        assert peer.frames(f.MAX_PATH_ID) == []


@both
def test_answers_use_a_cid_of_the_same_path(role: Role) -> None:
    """MP-24."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.open_path()
        at = peer.mark()
        pn = peer.send(1, MAX_DATA)
        peer.run(100 * MS)
        answer = next(p for p, x in peer.found(f.PATH_ACK, since=at) if x.path == 1 and pn in x.acked)
        assert peer.cids[answer.dcid][0] == 1


# ---- validation


def test_a_client_validates_a_new_path() -> None:
    """MP-25: PATH_CHALLENGE comes first, and nothing is valid before its answer."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.deaf.add(1)
        at = peer.mark()
        assert peer.engine_opens() == 1
        challenges = [x for p, x in peer.found(f.PATH_CHALLENGE, since=at) if p.path == 1]
        assert len(challenges) == 1
        assert not peer.paths()[1].validated
        peer.send(1, f.frame(f.PATH_RESPONSE) + challenges[0].data, link=1)
        assert peer.paths()[1].validated


def test_a_server_validates_the_address_of_a_new_path() -> None:
    """MP-26: without an answer no data goes there; an address that was validated on another path is known."""
    with RawPeer("server") as peer:
        peer.connect()
        peer.deaf.add(1)
        peer.send(1, CHALLENGE, link=1, pad=1200)
        peer.run(300 * MS)
        assert [p for p, _ in peer.found(f.PATH_CHALLENGE) if p.path == 1]
        assert not peer.paths()[1].validated
        allowed = {f.PATH_CHALLENGE, f.PATH_RESPONSE, f.PATH_ACK, f.PADDING}
        assert {x.kind for p in peer.packets if p.path == 1 for x in p.frames} <= allowed
    with RawPeer("server") as peer:
        peer.connect()
        peer.open_path(1)
        at = peer.mark()
        peer.deaf.add(2)
        peer.send(2, PING, link=1)
        assert peer.paths()[2].validated
        assert not [p for p, _ in peer.found(f.PATH_CHALLENGE, since=at) if p.path == 2]


def test_before_validation_three_times_what_came_is_the_most() -> None:
    """MP-27: at every moment, by bytes of that path."""
    with RawPeer("server") as peer:
        peer.connect()
        peer.deaf.add(1)
        received = sent = 0

        def count(packet: object) -> None:
            nonlocal sent
            if packet.path == 1:  # type: ignore[attr-defined]
                sent += packet.size  # type: ignore[attr-defined]
                assert sent <= 3 * received, (sent, received)

        peer.on_packet = count
        for size in (60, 40, 300, 40, 1200):
            received += size
            peer.send(1, PING, link=1, pad=size)
            peer.run(200 * MS)
        assert sent > 0


@both
def test_a_challenge_is_answered_on_its_path(role: Role) -> None:
    """MP-28."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.open_path()
        at = peer.mark()
        peer.send(1, f.frame(f.PATH_CHALLENGE) + b"12345678", pad=1200)
        answers = [(p.path, p.link) for p, x in peer.found(f.PATH_RESPONSE, since=at) if x.data == b"12345678"]
        assert answers == [(1, 1)]


def test_a_path_may_begin_without_a_challenge() -> None:
    """MP-29."""
    with RawPeer("server") as peer:
        peer.connect()
        pn = peer.send(1, MAX_DATA, link=1, pad=100)
        assert [e.path for e in peer.events(lib.EVENT_PATH_PEER_OPENED)] == [1]
        peer.run(SECOND)
        assert any(pn in x.acked for x in peer.frames(f.PATH_ACK) if x.path == 1)
        assert peer.paths()[1].validated


@both
def test_a_path_is_valid_once_it_carried_1200_octets(role: Role) -> None:
    """MP-30: every challenge is padded; where the 3x limit kept it small, a padded one follows before the path is used."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.link_of[1] = 1
        if role == "client":
            assert peer.engine_opens() == 1
        else:
            peer.send(1, PING, link=1)  # a small packet: its answer is small, too
        peer.run(SECOND)
        sizes = [p.size for p, _ in peer.found(f.PATH_CHALLENGE) if p.path == 1]
        assert peer.paths()[1].validated
        assert sizes[-1] >= 1200 and (role == "server") == (sizes[0] < 1200)


def test_a_path_that_is_not_wanted_is_refused_elsewhere() -> None:
    """MP-31: beyond what is validated at a time, PATH_ABANDON on another path (PATH_RESOURCE_LIMIT_REACHED)."""
    with RawPeer("server", initial_max_path_id=12, params={"initial_max_path_id": 12}) as peer:
        peer.connect(paths=12)
        for path in range(1, 13):
            peer.deaf.add(path)
            peer.send(path, PING, link=1, remote=("10.9.0.1", 1000 + path))
        refused = abandons(peer)
        assert refused and {(over, code) for over, _, code in refused} == {(0, 0x3E75)}
        assert {path for _, path, _ in refused} == set(range(9, 13))


def test_an_answer_waits_for_the_cid_it_needs() -> None:
    """MP-32: the peer opened a path before it gave a CID for it."""
    with RawPeer("server") as peer:
        peer.connect(paths=2)
        peer.send(3, CHALLENGE, link=1, pad=1200)
        peer.run(50 * MS)
        assert not [p for p in peer.packets if p.path == 3] and peer.error is None
        peer.send(0, peer.cid_frame(3, 0))
        assert [x.data for p, x in peer.found(f.PATH_RESPONSE) if p.path == 3] == [b"validate"]


def test_path_ack_is_taken_on_any_path(two: RawPeer) -> None:
    """MP-33."""
    two.deaf.add(1)
    at = two.mark()
    two.engine_sends(MAX_DATA, path=1, token=77)
    two.send(0, two.ack(1, next(p.pn for p in two.packets[at:] if p.path == 1)))
    assert 77 in [e.token for e in two.events(lib.EVENT_ACKED)] and two.error is None


def test_failed_validation_is_told_and_burns_the_id() -> None:
    """MP-34: challenges with new data each time, then PATH_ABANDON on another path, then the next id."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.deaf.add(1)
        assert peer.engine_opens() == 1
        peer.run(20 * SECOND, lambda: bool(abandons(peer)))
        data = [x.data for p, x in peer.found(f.PATH_CHALLENGE) if p.path == 1]
        assert len(data) >= 3 and len(set(data)) == len(data)
        assert [(over, path) for over, path, _ in abandons(peer)] == [(0, 1)]
        assert 1 not in peer.paths() and peer.error is None
        peer.open_path(2)


def test_any_frame_may_come_first_and_other_paths_stay_as_they_are() -> None:
    """MP-35."""
    with RawPeer("server") as peer:
        peer.connect()
        before = peer.paths()[0]
        peer.link_of[1] = 1
        peer.send(1, MAX_DATA, f.frame(f.DATAGRAM_LENGTH, 2) + b"\x07x", link=1)
        peer.run(SECOND)
        after = peer.paths()[0]
        assert MAX_DATA in [e.data for e in peer.events(lib.EVENT_FRAME)]
        assert (after.link, after.remote.port, after.state) == (before.link, before.remote.port, before.state)
        assert not peer.events(lib.EVENT_PATH_REMOTE_CHANGED)
        assert peer.paths()[1].validated


def test_another_address_on_a_path_moves_that_path_alone() -> None:
    """MP-36: validated first, with CIDs of that path only."""
    with RawPeer("server") as peer:
        peer.connect()
        peer.open_path()
        new = peer.address_of[1] = ("10.2.0.2", 50123)
        at = peer.mark()
        peer.send(1, MAX_DATA)
        peer.run(SECOND)
        asked = [(p.path, p.remote) for p, _ in peer.found(f.PATH_CHALLENGE, since=at)]
        assert set(asked) == {(1, new), (1, CLIENT_ADDRESS[1])} and asked.count((1, CLIENT_ADDRESS[1])) == 1
        assert [e.path for e in peer.events(lib.EVENT_PATH_REMOTE_CHANGED)] == [1]
        assert (peer.paths()[1].remote.port, peer.paths()[0].remote.port) == (50123, CLIENT_ADDRESS[0][1])


def test_validated_migration_resets_rtt_and_window_of_its_path_alone() -> None:
    """MP-85; another CID alone resets nothing."""
    with RawPeer("server") as peer:
        peer.connect()
        peer.open_path()
        for path in (0, 1):
            for _ in range(20):
                peer.engine_sends(MAX_DATA, path=path)
        first = {path: info.rtt_smoothed for path, info in peer.paths().items()}
        peer.send(1, MAX_DATA, cid=peer.engine_cids[1, 0])
        assert {path: info.rtt_smoothed for path, info in peer.paths().items()} == first
        peer.answers = False
        peer.address_of[1] = ("10.2.0.2", 50123)
        peer.send(1, MAX_DATA, pad=1200)
        challenge = peer.frames(f.PATH_CHALLENGE)[-1]
        peer.send(1, f.frame(f.PATH_RESPONSE) + challenge.data)
        assert peer.events(lib.EVENT_PATH_REMOTE_CHANGED)
        assert peer.paths()[0].rtt_smoothed == first[0] and peer.paths()[1].rtt_min == 0


# ---- abandoning


def test_leaving_a_path_is_told(two: RawPeer) -> None:
    """MP-52: with the reason that was given."""
    two.engine_abandons(1, 0x3E76)
    assert [(path, code) for _, path, code in abandons(two)] == [(1, 0x3E76)]


def test_nothing_goes_out_on_an_abandoned_path(two: RawPeer) -> None:
    """MP-53: no answer, no acknowledgement, no CONNECTION_CLOSE; the peer's connection IDs are forgotten with their tokens."""
    two.engine_abandons(1)
    at = two.mark()
    two.deliver(b"\x41" + two.engine_cids[1, 0] + bytes(22) + two.token_of(two.cid_of(1, 0)), 1)
    assert two.error is None
    two.send(1, MAX_DATA, CHALLENGE)
    two.run(100 * MS)
    lib.conn_close(two.node.endpoint, two.conn, 0, 0, 0, b"", 0)
    two.run(100 * MS)
    assert {p.path for p in two.packets[at:]} == {0}


def test_abandonment_is_told_on_another_path_and_taken_from_its_own(two: RawPeer) -> None:
    """MP-54."""
    two.engine_abandons(1)
    assert [(over, path) for over, path, _ in abandons(two)] == [(0, 1)]
    with RawPeer(two.role) as other:
        other.connect()
        other.open_path()
        other.send(1, f.frame(f.PATH_ABANDON, 1, 0))
        assert [(over, path) for over, path, _ in abandons(other)] == [(0, 1)]


def test_abandonment_is_mirrored_once_and_at_once(two: RawPeer) -> None:
    """MP-55."""
    now = two.now
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0x3E))
    assert [(x.path, p.time) for p, x in two.found(f.PATH_ABANDON)] == [(1, now)]
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0x3E))
    two.run(SECOND)
    assert len(abandons(two)) == 1
    assert two.events(lib.EVENT_PATH_ABANDONED)[0].b == 1


def test_late_packets_of_an_abandoned_path_are_known_for_three_pto(two: RawPeer) -> None:
    """MP-56: read, no stateless reset; afterwards the state is gone."""
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0))
    keep = 3 * max(p.pto for p in two.paths().values())
    two.run(keep - 5 * MS)
    received = two.counter("packets_received")
    two.send(1, PING)
    assert two.counter("cid_unknown") == 0 and two.counter("reset_sent") == 0
    assert two.counter("packets_received") > received


def test_a_path_never_used_can_be_abandoned() -> None:
    """MP-57: mirrored, no error; the id is burnt at both ends."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.send(0, f.frame(f.PATH_ABANDON, 1, 0x3E))
        assert peer.error is None and [path for _, path, _ in abandons(peer)] == [1]
        assert peer.engine_opens() == 2
    with RawPeer("server") as peer:
        peer.connect()
        peer.send(0, f.frame(f.PATH_ABANDON, 1, 0x3E))
        assert peer.error is None and [path for _, path, _ in abandons(peer)] == [1]
        peer.send(1, CHALLENGE, link=1, pad=1200)
        peer.run(SECOND)
        assert not [p for p in peer.packets if p.path == 1]


def test_a_peer_that_never_mirrors_has_time(two: RawPeer) -> None:
    """MP-58: for three PTO its packets are still read; the connection lives on."""
    two.engine_abandons(1)
    two.run(3 * max(p.pto for p in two.paths().values()))
    received = two.counter("packets_received")
    two.send(1, PING)
    assert two.counter("packets_received") > received and two.counter("cid_unknown") == 0
    two.run(20 * SECOND)
    assert two.error is None


def test_cids_for_an_abandoned_path_are_ignored(two: RawPeer) -> None:
    """MP-59: as many as the peer likes; the id is not used again."""
    two.engine_abandons(1)
    two.send(0, *(two.cid_frame(1, sequence) for sequence in range(10, 19)))
    assert two.error is None
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0))
    two.run(5 * SECOND)
    two.send(0, *(two.cid_frame(1, sequence) for sequence in range(20, 29)))
    assert two.error is None
    if two.role == "client":
        assert two.engine_opens() == 2


def test_the_end_of_the_last_path_is_the_connections(peer: RawPeer) -> None:
    """MP-60: CONNECTION_CLOSE, and it does go out."""
    at = peer.mark()
    peer.send(0, f.frame(f.PATH_ABANDON, 0, 0))
    assert peer.error == NO_VIABLE_PATH
    assert [x.fields["code"] for x in peer.frames(f.CLOSE, since=at)] == [NO_VIABLE_PATH]


def test_a_stateless_reset_on_one_path_ends_the_connection(two: RawPeer) -> None:
    """MP-61: only with the token of a CID in use."""
    used, old = two.cid_of(1, 2), two.cid_of(1, 0)
    two.send(0, two.cid_frame(1, 2, retire=2))
    head = b"\x41" + two.engine_cids[1, 0] + bytes(22)
    two.deliver(head + two.token_of(old), 1)
    assert two.error is None
    two.deliver(head + two.token_of(used), 1)
    assert two.events(lib.EVENT_CLOSED)[0].token == lib.CLOSE_RESET


def test_what_came_on_an_abandoned_path_is_acknowledged_elsewhere(two: RawPeer) -> None:
    """MP-62: at once, what came before and what comes late."""
    early = two.send(1, MAX_DATA)
    at = two.mark()
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0))
    late = two.send(1, MAX_DATA)
    acked = {(p.path, pn) for p, x in two.found(f.PATH_ACK, since=at) if x.path == 1 for pn in x.acked}
    assert {(0, early), (0, late)} <= acked


def test_what_a_path_had_in_flight_is_lost_with_it(two: RawPeer) -> None:
    """MP-63: its frames come back as lost, once."""
    two.deaf.add(1)
    two.engine_sends(MAX_DATA, path=1, token=77)
    two.engine_abandons(1)
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0))
    two.run(10 * SECOND)
    assert [e.token for e in two.events(lib.EVENT_LOST)].count(77) == 1
    assert 77 not in [e.token for e in two.events(lib.EVENT_ACKED)]


def test_frames_of_a_forgotten_path_are_ignored(two: RawPeer) -> None:
    """MP-64."""
    two.engine_abandons(1)
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0))
    two.run(5 * SECOND)
    for payload in (
        f.ack(0, path=1),
        f.ack(0, path=1, ecn=(1, 0, 0)),
        f.frame(f.PATH_ABANDON, 1, 0),
        f.frame(f.PATH_STATUS_BACKUP, 1, 9),
        f.frame(f.PATH_STATUS_AVAILABLE, 1, 10),
        two.cid_frame(1, 30),
        f.frame(f.PATH_RETIRE_CONNECTION_ID, 1, 0),
        f.frame(f.PATH_CIDS_BLOCKED, 1, 0),
    ):
        two.send(0, payload)
        assert two.error is None, payload


@pytest.mark.parametrize("kind", ["ack", "abandon", "backup", "available", "new cid", "retire cid"])
@both
def test_paths_beyond_our_limit_are_violations(role: Role, kind: str) -> None:
    """MP-66: one above the limit that we announced."""
    payload = {
        "ack": f.ack(0, path=4),
        "abandon": f.frame(f.PATH_ABANDON, 4, 0),
        "backup": f.frame(f.PATH_STATUS_BACKUP, 4, 0),
        "available": f.frame(f.PATH_STATUS_AVAILABLE, 4, 0),
        "new cid": f.new_cid(4, 0, 0, b"12345678", bytes(16)),
        "retire cid": f.frame(f.PATH_RETIRE_CONNECTION_ID, 4, 0),
    }[kind]
    with RawPeer(role, params={"initial_max_path_id": 9}) as peer:
        peer.connect()
        peer.send(0, payload)
        assert peer.error == PROTOCOL_VIOLATION


def test_abandonment_that_was_lost_is_repeated(two: RawPeer) -> None:
    """MP-69."""
    two.answers = False
    at = two.mark()
    two.engine_abandons(1)
    carrier = next(p.pn for p, _ in two.found(f.PATH_ABANDON, since=at))
    for _ in range(5):
        two.engine_sends(MAX_DATA, path=0)
    later = [p.pn for p in two.packets[at:] if p.path == 0 and p.level == ONE_RTT and p.pn > carrier]
    two.send(0, two.ack(0, *later))
    assert [path for _, path, _ in abandons(two)] == [1, 1]


def test_unknown_reasons_of_abandonment_are_told(two: RawPeer) -> None:
    """MP-70."""
    two.send(0, f.frame(f.PATH_ABANDON, 1, 0x123456789))
    assert [(e.path, e.a, e.b) for e in two.events(lib.EVENT_PATH_ABANDONED)] == [(1, 0x123456789, 1)]
    assert two.error is None


# ---- limits


@pytest.mark.parametrize("limit", [2, 1 << 32], ids=["below the parameter", "above 2^32-1"])
@both
def test_a_bad_max_path_id_is_a_violation(role: Role, limit: int) -> None:
    """MP-79."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.send(0, f.frame(f.MAX_PATH_ID, limit))
        assert peer.error == PROTOCOL_VIOLATION


def test_a_max_path_id_that_raises_nothing_is_ignored(peer: RawPeer) -> None:
    """MP-80: below an earlier one, though not below the parameter."""
    peer.send(0, f.frame(f.MAX_PATH_ID, 6))
    peer.send(0, f.frame(f.MAX_PATH_ID, 4))
    assert peer.error is None and peer.stats().max_path_id_remote == 6


def test_only_the_newest_max_path_id_is_repeated(two: RawPeer) -> None:
    """MP-81: two paths go, two limits are announced and both lost; the second alone comes again."""
    two.open_path(2)
    two.answers = False
    at = two.mark()
    two.engine_abandons(1)
    two.engine_abandons(2)
    first = {x.path: p.pn for p, x in two.found(f.MAX_PATH_ID, since=at)}
    assert set(first) == {4, 5}
    for _ in range(5):
        two.engine_sends(MAX_DATA, path=0)
    later = [p.pn for p in two.packets[at:] if p.path == 0 and p.pn > max(first.values())]
    two.send(0, two.ack(0, *later))
    assert [x.path for x in two.frames(f.MAX_PATH_ID, since=at)] == [4, 5, 5]


def test_validations_at_a_time_are_bounded() -> None:
    """MP-91: eight; the ninth path gets no challenge and no state."""
    with RawPeer("server", initial_max_path_id=12, params={"initial_max_path_id": 12}) as peer:
        peer.connect(paths=12)
        for path in range(1, 13):
            peer.deaf.add(path)
            peer.send(path, CHALLENGE, link=1, remote=("10.9.0.1", 1000 + path), pad=1200)
        assert {p.path for p, _ in peer.found(f.PATH_CHALLENGE)} == set(range(1, 9))
        assert set(peer.paths()) == set(range(9))

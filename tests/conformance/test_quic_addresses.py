"""Who is where: address validation, tokens, path validation, migration and NAT rebinding (RFC 9000 §8, §9)."""

from __future__ import annotations

from collections.abc import Callable

import frames as f
import pytest
from crafted import long_packet, short_packet, unread
from raw_peer import CLIENT_ADDRESS, HANDSHAKE, HELLO, INITIAL, ONE_RTT, RawPeer, Role

from native import lib
from native.sim import ANY, MS, SECOND, check

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)
HOME = CLIENT_ADDRESS[0]
NEW = ("10.1.0.2", 50123)
ELSEWHERE = ("10.1.0.77", 40000)
FLIGHT = 6000  # octets of a server's Handshake flight that three times a ClientHello does not hold


def server_speaks(peer: RawPeer) -> None:
    """The server has a long flight to send."""
    for offset in range(15, FLIGHT, 1000):
        frame = f.frame(f.CRYPTO, offset, 1000) + bytes(1000)
        check(lib.conn_frame_send(peer.node.endpoint, peer.conn, HANDSHAKE, ANY, frame, len(frame), 0, 1))
    peer.run(20 * MS)


def sent(peer: RawPeer) -> int:
    """Octets of UDP payload that the engine sent."""
    sizes = {(p.time, p.level, p.pn): p.size for p in peer.packets}
    coalesced = {(p.time, p.size) for p in peer.packets if p.level == INITIAL}
    return sum(size for (time, level, _), size in sizes.items() if level == INITIAL or (time, size) not in coalesced)


def first_datagram(peer: RawPeer) -> int:
    """Engine as server, one ClientHello came; its size."""
    peer._initial_keys(b"first dc")
    datagram = peer.seal_long(INITIAL, peer.crypto(HELLO).ljust(1170, b"\0"), b"first dc")
    peer.deliver(datagram)
    peer.conn = peer.node.connections()[0]
    return len(datagram)


# ---- before validation


def test_a_handshake_packet_validates_the_address() -> None:
    """RFC 9000 §8.1: until then three times what came; afterwards all."""
    with RawPeer("server") as peer:
        came = first_datagram(peer)
        server_speaks(peer)
        assert 2 * came < sent(peer) <= 3 * came
        peer.deliver(long_packet(peer, HANDSHAKE, PING + bytes(3)))
        peer.run(20 * MS)
        assert sent(peer) > FLIGHT


def test_octets_from_elsewhere_do_not_count_for_an_address() -> None:
    """RFC 9000 §8: the limit is that of what came from this address."""
    with RawPeer("server") as peer:
        came = first_datagram(peer)
        server_speaks(peer)
        for _ in range(5):
            peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0")), remote=ELSEWHERE)
            peer.run(20 * MS)
        assert sent(peer) <= 3 * came
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0")))
        peer.run(20 * MS)
        assert sent(peer) > 3 * came


def retry_parts(packet: bytes) -> tuple[bytes, bytes]:
    """SCID and token of a Retry."""
    at = 6 + packet[5]
    scid = packet[at + 1 : at + 1 + packet[at]]
    return scid, packet[at + 1 + len(scid) : -16]


def test_the_token_of_a_retry_validates_the_address() -> None:
    """RFC 9000 §8.1.2."""
    with RawPeer("server", retry_half_open=1) as peer:
        read = peer._read
        out = unread(peer)
        peer.start_server()
        assert peer.conn == 0 and peer.counter("retry_sent") == 1
        scid, token = retry_parts(out[0][0])
        peer._read = read  # type: ignore[method-assign]
        peer.start_server(scid, token=token)
        assert peer.conn
        server_speaks(peer)
        assert sent(peer) > FLIGHT


def test_the_token_of_new_token_validates_the_address_of_a_later_connection() -> None:
    """RFC 9000 §8.1.3."""
    with RawPeer("server") as first:
        first.node.close()
        with RawPeer("server", retry_half_open=2) as peer:
            peer.connect()
            token = peer.frames(f.NEW_TOKEN)[-1].data
            check(lib.conn_close(peer.node.endpoint, peer.conn, 0, 0, 0, b"", 0))
            peer.run(10 * SECOND)
            assert peer.node.connections() == []
            again = RawPeer.__new__(RawPeer)
            again.__dict__.update(first.__dict__)
            again.node, again.handshake, again.now = peer.node, peer.handshake, peer.now
            for value in (0, None):
                again.start_server(b"later dc", token=token if value is None else b"")
                if value == 0:
                    came = 1250
                    server_speaks(again)
                    assert sent(again) <= 3 * came
                    check(lib.conn_close(again.node.endpoint, again.conn, 0, 0, 0, b"", 0))
                    again.run(SECOND)
                    again.packets.clear()
                    again.spaces.clear()
                    again.engine_cids.clear()
            server_speaks(again)
            assert sent(again) > FLIGHT


# ---- path validation


@both
def test_every_challenge_is_new(role: Role) -> None:
    """RFC 9000 §8.2.1: nobody can guess one, nor answer it with an old answer."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.answers = False
        if role == "client":
            assert peer.engine_opens() == 1
        else:
            peer.send(1, PING, link=1, pad=1200)
        peer.run(3 * SECOND)
        seen = [frame.data for frame in peer.frames(f.PATH_CHALLENGE)]
        assert len(seen) >= 3 and len(set(seen)) == len(seen) and bytes(8) not in seen


def test_challenge_and_answer_fill_a_datagram(two: RawPeer) -> None:
    """RFC 9000 §8.2.1, §8.2.2."""
    two.send(1, f.frame(f.PATH_CHALLENGE) + b"question", pad=1200)
    asked = [p.size for p, _ in two.found(f.PATH_CHALLENGE)]
    answered = [p.size for p, frame in two.found(f.PATH_RESPONSE) if frame.data == b"question"]
    assert asked and len(answered) == 1 and min(asked + answered) >= 1200


@pytest.mark.parametrize("pad", [0, 100, 400, 1200])
def test_an_answer_to_another_address_is_no_amplification(pad: int) -> None:
    """RFC 9000 §8.2.2: the address is not known to be the peer's; three times the question is the most."""
    with RawPeer("server") as peer:
        peer.connect()
        at = peer.mark()
        packet = peer.seal(0, (f.frame(f.PATH_CHALLENGE) + b"question").ljust(max(9, pad - 29), b"\0"))
        peer.deliver(packet, remote=ELSEWHERE)
        [(answer, frame)] = list(peer.found(f.PATH_RESPONSE, since=at))
        assert (answer.remote, frame.data) == (ELSEWHERE, b"question")
        assert answer.size <= 3 * len(packet) and answer.size >= min(1200, 2 * len(packet))


# ---- migration


def moved(peer: RawPeer, path: int = 0) -> tuple[str, int]:
    remote = peer.paths()[path].remote
    return ".".join(str(remote.ip[i]) for i in range(4)), remote.port


@pytest.fixture
def server() -> object:
    with RawPeer("server") as peer:
        peer.connect()
        peer.run(SECOND)
        yield peer


def test_probing_packets_move_nothing(server: RawPeer) -> None:
    """RFC 9000 §9.1, §9.2: PATH_CHALLENGE, PATH_RESPONSE, NEW_CONNECTION_ID and PADDING."""
    server.answers = False
    probing = f.frame(f.PATH_CHALLENGE) + b"question" + f.frame(f.PATH_RESPONSE) + b"nobody's" + server.cid_frame(0, 1)
    server.send(0, probing, remote=NEW, pad=1200)
    assert moved(server) == HOME
    server.send(0, MAX_DATA, remote=NEW)
    assert moved(server) == NEW


def test_only_the_newest_packet_moves_a_path(server: RawPeer) -> None:
    """RFC 9000 §9.3: what comes late comes from where the peer was."""
    late = short_packet(server, 0, MAX_DATA)
    server.send(0, MAX_DATA)
    server.answers = False
    server.deliver(late, remote=NEW)
    assert moved(server) == HOME


def test_nothing_moves_during_the_handshake() -> None:
    """RFC 9000 §9: the handshake's answers go where its first packet came from."""
    with RawPeer("server") as peer:
        first_datagram(peer)
        before = peer.counter("packets_received")
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0")), remote=NEW)
        peer.run(SECOND)
        assert peer.counter("packets_received") == before + 1
        assert {p.remote for p in peer.packets} == {HOME}


def challenges(peer: RawPeer, since: int) -> list[tuple[str, int]]:
    return [p.remote for p, _ in peer.found(f.PATH_CHALLENGE, since=since)]


def test_the_address_that_was_left_is_asked(server: RawPeer) -> None:
    """RFC 9000 §9.3.3: the answer of a peer that never moved brings the path back before the new address is valid."""
    server.answers = False
    at = server.mark()
    server.send(0, MAX_DATA, remote=NEW, pad=1200)
    assert sorted(challenges(server, at)) == [HOME, NEW]
    asked = next(frame for p, frame in server.found(f.PATH_CHALLENGE, since=at) if p.remote == HOME)
    server.send(0, f.frame(f.PATH_RESPONSE) + asked.data, server.ack(0))
    assert moved(server) == HOME
    server.run(5 * SECOND)
    assert moved(server) == HOME and not server.events(lib.EVENT_PATH_REMOTE_CHANGED)


def test_who_comes_back_is_asked_again(server: RawPeer) -> None:
    """RFC 9000 §9.3: an address that was valid before the last migration is not valid for ever."""
    server.address_of[0] = NEW
    server.send(0, MAX_DATA)
    server.run(SECOND)
    assert len(server.events(lib.EVENT_PATH_REMOTE_CHANGED)) == 1
    server.answers = False
    at = server.mark()
    server.send(0, MAX_DATA, remote=HOME, pad=1200)
    assert HOME in challenges(server, at)
    answer = next(frame.data for p, frame in server.found(f.PATH_CHALLENGE, since=at) if p.remote == HOME)
    assert len(server.events(lib.EVENT_PATH_REMOTE_CHANGED)) == 1
    server.send(0, f.frame(f.PATH_RESPONSE) + answer, remote=HOME)
    assert len(server.events(lib.EVENT_PATH_REMOTE_CHANGED)) == 2


def test_an_address_that_does_not_answer_is_left_again(server: RawPeer) -> None:
    """RFC 9000 §9.3.2; the path is as before."""
    server.answers = False
    server.send(0, MAX_DATA, remote=NEW, pad=1200)
    assert moved(server) == NEW
    server.run(10 * SECOND)
    assert server.error is None and moved(server) == HOME


def test_a_client_s_answer_to_a_challenge_is_no_mere_probe() -> None:
    """RFC 9000 §9.3.3: so that a server that was made to look elsewhere comes back."""
    with RawPeer("client") as peer:
        peer.connect()
        at = peer.mark()
        peer.send(0, f.frame(f.PATH_CHALLENGE) + b"question", pad=1200)
        kinds = [{frame.kind for frame in p.frames} for p, _ in peer.found(f.PATH_RESPONSE, since=at)]
        assert len(kinds) == 1 and f.PATH_ACK in kinds[0]


# ---- connection IDs of moving clients


def dcids(peer: RawPeer, since: int) -> set[tuple[int, int]]:
    return {peer.cids[p.dcid] for p in peer.packets[since:] if p.level == ONE_RTT}


def test_a_client_that_hides_is_helped(server: RawPeer) -> None:
    """RFC 9000 §9.5: from a new address to a new CID, and the answers have one too; with the old one, they may keep theirs."""
    server.send(0, server.cid_frame(0, 1))
    server.answers = False
    used = max(s for p, s in server.engine_cids if p == 0)
    at = server.mark()
    server.send(0, MAX_DATA, remote=NEW, cid=server.engine_cids[0, used])
    server.run(50 * MS)
    assert dcids(server, at) == {(0, 0)}
    server.send(0, f.frame(f.RETIRE_CONNECTION_ID, 0), remote=NEW)
    newest = max(s for p, s in server.engine_cids if p == 0)
    assert newest != used
    at = server.mark()
    server.send(0, MAX_DATA, remote=HOME, cid=server.engine_cids[0, newest])
    server.run(50 * MS)
    assert dcids(server, at) == {(0, 1)}
    assert {x.fields["sequence"] for x in server.frames(f.RETIRE_CONNECTION_ID)} == {0}


def rotated(peer: RawPeer, act: Callable[[], object]) -> set[tuple[int, int]]:
    """The peer's CIDs that the engine sends to after `act`, on paths 0 and 1."""
    act()
    peer.flush()
    at = peer.mark()
    for path in (0, 1):
        peer.engine_sends(MAX_DATA, path=path)
    return dcids(peer, at)


def test_rotation_on_request(two: RawPeer) -> None:
    """RFC 9000 §5.1.2: another CID of this path, and the old one is retired; without another, the peer is told."""
    at = two.mark()
    assert rotated(two, lambda: lib.path_cid_rotate(two.node.endpoint, two.conn, 1)) == {(0, 0), (1, 1)}
    assert [(x.path, x.fields["sequence"]) for x in two.frames(f.PATH_RETIRE_CONNECTION_ID, since=at)] == [(1, 0)]
    at = two.mark()
    assert lib.path_cid_rotate(two.node.endpoint, two.conn, 1) == -lib.ENGINE_E_LIMIT
    two.flush()
    assert [x.fields for x in two.frames(f.PATH_CIDS_BLOCKED, since=at)] == [{"path": 1, "sequence": 2}]
    two.send(0, two.cid_frame(1, 2))
    assert rotated(two, lambda: lib.path_cid_rotate(two.node.endpoint, two.conn, 1)) == {(0, 0), (1, 2)}
    assert lib.path_cid_rotate(two.node.endpoint, two.conn, 3) == -lib.ENGINE_E_STATE
    assert lib.path_cid_rotate(two.node.endpoint, two.conn, 9) == -lib.ENGINE_E_HANDLE


def test_another_socket_another_cid() -> None:
    """RFC 9000 §9.5: a client sends from two addresses to two CIDs."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.open_path()
        again = lambda: lib.endpoint_link_set(peer.node.endpoint, 1, lib.ACCESS_NON_3GPP)  # noqa: E731
        assert rotated(peer, again) == {(0, 0), (1, 1)}

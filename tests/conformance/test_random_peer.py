"""A peer that knows the protocol and keeps to nothing: any multipath frame with small numbers on any path, at any time, in both
roles. Whatever it does, the engine sends only what opens and parses, uses no packet number twice, counts its octets in flight,
and ends, if it ends, with an error that the peer earned."""

from __future__ import annotations

import frames as f
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_peer import ONE_RTT, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

PATH = st.integers(0, 3)
SMALL = st.integers(0, 6)
EARNED = {0x00, 0x07, 0x09, 0x0A, 0x0E, 0x10}  # what a peer can cause (0: silence); INTERNAL_ERROR is none of them

FRAMES = st.one_of(
    st.builds(lambda path, n: ("frame", f.frame(f.PATH_ABANDON, path, n)), st.integers(1, 3), SMALL),
    st.builds(lambda kind, path, n: ("frame", f.frame(kind, path, n)), st.sampled_from([0x3E76, 0x3E77]), PATH, SMALL),
    st.builds(lambda path, n: ("frame", f.frame(f.PATH_RETIRE_CONNECTION_ID, path, n)), PATH, SMALL),
    st.builds(lambda path, n: ("frame", f.frame(f.PATH_CIDS_BLOCKED, path, n)), PATH, SMALL),
    st.builds(lambda kind, n: ("frame", f.frame(kind, n)), st.sampled_from([f.MAX_PATH_ID, f.PATHS_BLOCKED]), st.integers(2, 7)),
    st.builds(lambda path, n, retire: ("cid", path, n, retire), PATH, SMALL, SMALL),
    st.builds(lambda path, n: ("ack", path, n), PATH, SMALL),
    st.just(("frame", f.frame(f.PATH_CHALLENGE) + b"12345678")),
    st.just(("frame", f.frame(0x10, 4096))),
)
STEPS = st.one_of(
    st.builds(lambda over, what: ("send", over, what), PATH, FRAMES),
    st.builds(lambda over, what: ("send", over, what), PATH, FRAMES),
    st.builds(lambda ms: ("time", ms), st.sampled_from([1, 30, 200, 2000])),
    st.builds(lambda path: ("deaf", path), PATH),
    st.builds(lambda path: ("hears", path), PATH),
    st.builds(lambda path: ("moves", path), PATH),
    st.builds(lambda link: ("opens", link), st.integers(0, 1)),
    st.builds(lambda path, code: ("abandons", path, code), PATH, SMALL),
    st.builds(lambda path, available: ("status", path, available), PATH, st.booleans()),
    st.builds(lambda path: ("speaks", path), st.sampled_from([0, 1, 2, 0xFFFFFFFF])),
    st.just(("update",)),
    st.just(("datagram",)),
)


def step(peer: RawPeer, action: tuple) -> None:  # type: ignore[type-arg]
    engine, conn = peer.node.endpoint, peer.conn
    match action:
        case ("send", over, what):
            match what:
                case ("frame", payload):
                    pass
                case ("cid", path, sequence, retire):
                    payload = peer.cid_frame(path, sequence, min(retire, sequence))
                case ("ack", path, count):
                    got = sorted(peer.spaces[ONE_RTT, path].received)[-count - 1 :]
                    payload = f.ack(*got, path=path) if got else f.frame(f.PING)
            if any(path == over for path, _ in peer.engine_cids):
                peer.send(over, payload, pad=1200 if over else 0)
        case ("time", ms):
            peer.run(ms * MS)
        case ("deaf", path):
            peer.deaf.add(path)
        case ("hears", path):
            peer.deaf.discard(path)
        case ("moves", path):
            peer.address_of[path] = ("10.7.0.1", 1000 + len(peer.packets) % 3000)
        case ("opens", link):
            peer.engine_opens(link)
        case ("abandons", path, code):
            lib.path_abandon(engine, conn, path, code)
        case ("status", path, available):
            lib.path_status_set(engine, conn, path, available)
        case ("speaks", path):
            lib.conn_frame_send(engine, conn, ONE_RTT, path, b"\x10\x50\x00", 3, 7, 0)
        case ("update",):
            if lib.conn_key_update(engine, conn) == 0:
                peer.generation += 1
        case ("datagram",):
            lib.conn_datagram_send(engine, conn, b"\x07" + bytes(900), 901)
    peer.flush()


@pytest.mark.parametrize("role", ["client", "server"])
@given(steps=st.lists(STEPS, min_size=12, max_size=50), seed=st.integers(1, 1 << 20))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_peer_that_keeps_to_nothing(role: Role, steps: list[tuple], seed: int) -> None:  # type: ignore[type-arg]
    with RawPeer(role, seed) as peer:
        peer.connect(paths=2)
        peer.open_path(1)
        peer.open_path(2)
        for action in steps:
            if peer.error is not None:
                break
            step(peer, action)
            for info in peer.paths().values():
                assert info.bytes_in_flight < 1 << 20
        assert peer.error is None or peer.error in EARNED, hex(peer.error)
        peer.answers = False
        peer.run(200 * SECOND)
        assert len(peer.events(lib.EVENT_CLOSED)) == len(peer.events(lib.EVENT_GONE)) == 1
        assert peer.node.connections() == []

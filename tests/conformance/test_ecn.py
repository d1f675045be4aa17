"""What a peer may say of ECN (RFC 9000 §13.4.2.1): each disagreement ends the marking of that path, by name, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import frames as f
import pytest
from raw_peer import ONE_RTT, RawPeer

from native import lib
from native.sim import MS

MAX_DATA = f.frame(0x10, 4096)
Counts = tuple[int, int, int]


@pytest.fixture(params=["client", "server"])
def peer(request: pytest.FixtureRequest) -> Iterator[RawPeer]:
    """A raw peer that reports truthfully, until it does not; path 1 is open."""
    with RawPeer(request.param) as p:
        p.reports_ecn = True
        p.connect()
        p.open_path()
        for path in (0, 1):
            for _ in range(12):
                p.engine_sends(MAX_DATA, path=path)
            assert p.paths()[path].ecn_state == lib.ECN_CAPABLE
            assert p.paths()[path].ecn_marked == p.ecn_counts(path)[0] >= 12
        yield p


def some(peer: RawPeer, count: int = 8, path: int = 1) -> Counts:
    """The engine sends `count` marked packets that are not acknowledged yet; the counts that would be true."""
    peer.deaf.add(path)
    at = peer.mark()
    for _ in range(count):
        peer.engine_sends(MAX_DATA, path=path)
    sent = [p for p in peer.packets[at:] if p.path == path]
    assert len(sent) >= count and {p.ecn for p in sent} == {2}
    return peer.ecn_counts(path)


LIES: dict[str, tuple[int, Callable[[Counts], Counts | None]]] = {
    "ecn_missing": (lib.ECN_MISSING, lambda true: None),
    "ecn_bleached": (lib.ECN_BLEACHED, lambda true: (true[0] - 1, 0, 0)),
    "ecn_remarked": (lib.ECN_REMARKED, lambda true: (true[0] - 1, 1, 0)),
    "ecn_excess": (lib.ECN_EXCESS, lambda true: (true[0] + 1, 0, 0)),
    "ecn_decreased": (lib.ECN_DECREASED, lambda true: (true[0] - 10, 0, 10)),
}


@pytest.mark.parametrize("name", LIES)
def test_counts_that_disagree_end_the_marking_of_their_path(peer: RawPeer, name: str) -> None:
    failure, lie = LIES[name]
    peer.send(0, peer.ack(1, ecn=lie(some(peer))))
    path = peer.paths()[1]
    assert (path.ecn_state, path.ecn_failure) == (lib.ECN_FAILED, failure)
    assert {n: v for n, v in peer.node.counters().items() if n.startswith("ecn_")} == {name: 1}
    assert path.congestion_events == 0 and not peer.stats().closing  # a failure of the network is no fault of the peer
    for which, ecn in ((1, 0), (0, 2)):
        at = peer.mark()
        peer.engine_sends(MAX_DATA, path=which)
        assert {p.ecn for p in peer.packets[at:] if p.path == which} == {ecn}


def test_counts_that_agree_are_taken(peer: RawPeer) -> None:
    """The canary of the lies above."""
    peer.send(0, peer.ack(1, ecn=some(peer)))
    assert peer.paths()[1].ecn_state == lib.ECN_CAPABLE
    assert not [n for n in peer.node.counters() if n.startswith("ecn_")]


def test_ce_is_congestion_once_a_round_trip_and_on_its_path(peer: RawPeer) -> None:
    window = [peer.paths()[path].cwnd for path in (0, 1)]
    true = some(peer)
    sent = sorted(p.pn for p in peer.packets if p.level == ONE_RTT and p.path == 1)
    peer.send(0, peer.ack(1, *sent[:-3], ecn=(true[0] - 4, 0, 1)))
    reduced = peer.paths()[1]
    assert reduced.cwnd == int(window[1] * 0.7) and reduced.congestion_events == 1 and reduced.ecn_ce == 1
    peer.send(0, peer.ack(1, *sent, ecn=(true[0] - 4, 0, 4)))  # more marks in packets sent before it was heard
    assert peer.paths()[1].congestion_events == 1 and peer.paths()[1].ecn_ce == 4
    peer.now += MS
    true = some(peer)
    peer.send(0, peer.ack(1, ecn=(true[0] - 5, 0, 5)))
    assert peer.paths()[1].congestion_events == 2
    assert peer.paths()[0].cwnd == window[0] and peer.paths()[0].congestion_events == 0


def test_ack_that_raises_nothing_is_not_judged(peer: RawPeer) -> None:
    """It may be older than the counts already known (RFC 9000 §13.4.2.1)."""
    true = some(peer)
    sent = sorted(p.pn for p in peer.packets if p.level == ONE_RTT and p.path == 1)
    peer.send(0, peer.ack(1, sent[-1], ecn=true))
    peer.send(0, peer.ack(1, *sent[:-1], ecn=(1, 0, 0)))
    assert peer.paths()[1].ecn_state == lib.ECN_CAPABLE


def test_marks_are_no_longer_sent_to_an_address_that_bleaches_but_again_to_a_new_one() -> None:
    with RawPeer("server") as peer:
        peer.reports_ecn = True
        peer.connect()
        peer.send(0, peer.ack(0, ecn=(some(peer, path=0)[0] - 1, 0, 0)))
        peer.deaf.clear()
        assert peer.paths()[0].ecn_state == lib.ECN_FAILED
        peer.address_of[0] = ("10.1.0.9", 40009)  # NAT rebinding
        peer.send(0, MAX_DATA)
        peer.run(200 * MS)
        assert peer.paths()[0].ecn_state in (lib.ECN_TESTING, lib.ECN_UNKNOWN, lib.ECN_CAPABLE)

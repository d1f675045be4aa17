"""Loss recovery by the letter (RFC 9002): RTT, persistent congestion, windows after an event, spurious losses. The peer says
exactly what arrived and when; what the engine makes of it is compared with the RFC's arithmetic in integers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import frames as f
import pytest
from raw_peer import ONE_RTT, RawPeer, Role

from native import lib
from native.sim import ACTIVE_3GPP, MS

MAX_DATA = f.frame(0x10, 4096)
MAX_ACK_DELAY = 25 * MS
RTT = 20 * MS


class Path:
    """Path 1 of an engine, to whose packets the peer answers only when the test says so."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer
        peer.deaf.add(1)

    def __getattr__(self, name: str) -> int:
        return int(getattr(self.peer.paths()[1], name))

    def send(self) -> int:
        """One ack-eliciting packet now; its number."""
        at = self.peer.mark()
        self.peer.engine_sends(MAX_DATA, path=1)
        return max(p.pn for p in self.peer.packets[at:] if p.path == 1)

    def unacked(self) -> list[int]:
        return sorted(p.pn for p in self.peer.packets if p.level == ONE_RTT and p.path == 1)

    def ack(self, *pns: int, delay: int = 0) -> None:
        self.peer.send(0, f.ack(*pns, path=1, delay=delay // 1000 >> 3))

    def round_trips(self, count: int = 12) -> None:
        """So many samples of exactly RTT: the variance goes towards zero."""
        for _ in range(count):
            pn = self.send()
            self.peer.now += RTT
            check_advance(self.peer)
            self.ack(pn)

    def updated(self, latest: int, delay: int = 0) -> tuple[int, int]:
        """smoothed_rtt and rttvar after another sample (RFC 9002 §5.3)."""
        smoothed, var, least = self.rtt_smoothed, self.rtt_var, min(self.rtt_min, latest)
        delay = min(delay, MAX_ACK_DELAY)
        adjusted = latest - delay if latest >= least + delay else latest
        return (7 * smoothed + adjusted) // 8, (3 * var + abs(smoothed - adjusted)) // 4


def check_advance(peer: RawPeer) -> None:
    assert lib.endpoint_advance(peer.node.endpoint, peer.now) == 0
    peer.flush()


@pytest.fixture(params=["client", "server"])
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    with RawPeer(request.param, congestion_control=lib.CC_NEWRENO) as peer:
        peer.connect()
        peer.open_path()
        made = Path(peer)
        peer.send(0, peer.ack(1))
        made.round_trips()
        yield made


@pytest.mark.parametrize("delay", [0, 5 * MS, 20 * MS, 40 * MS, 400 * MS])
def test_rtt_is_adjusted_by_the_delay_that_was_promised_at_most(path: Path, delay: int) -> None:
    """§5.3: not below the minimum, and beyond max_ack_delay it is the path's."""
    pn = path.send()
    path.peer.now += RTT + delay
    expected = path.updated(RTT + delay, delay)
    path.ack(pn, delay=delay)  # no timer has run: the path is active
    assert (path.rtt_smoothed, path.rtt_var) == expected
    assert path.rtt_latest == RTT + delay


def test_only_the_largest_and_only_once_gives_a_sample(path: Path) -> None:
    """§5.1"""
    pns = [path.send() for _ in range(3)]
    path.peer.now += RTT
    path.ack(pns[2])
    before = path.rtt_smoothed, path.rtt_latest
    path.peer.now += 5 * MS
    path.ack(*pns)  # newly acknowledges the older ones, its largest is known
    assert (path.rtt_smoothed, path.rtt_latest) == before


def test_an_ack_of_acknowledgements_alone_gives_no_sample(path: Path) -> None:
    """§5.1: the peer may have waited with it for as long as it liked."""
    at = path.peer.mark()
    for _ in range(2):
        path.peer.send(1, f.frame(f.PING))
    own = [p for p in path.peer.packets[at:] if p.path == 1]
    assert own and not any(p.eliciting for p in own)
    before = path.rtt_smoothed, path.rtt_latest
    path.peer.now += 5 * RTT
    path.ack(*(p.pn for p in own))
    assert (path.rtt_smoothed, path.rtt_latest) == before


def test_a_delay_that_cannot_be_true_is_not_subtracted(path: Path) -> None:
    """§5.3: no sample goes below the minimum for what the peer says."""
    pn = path.send()
    path.peer.now += RTT + 5 * MS
    expected = path.updated(RTT + 5 * MS, 20 * MS)
    path.ack(pn, delay=20 * MS)
    assert (path.rtt_smoothed, path.rtt_var) == expected


def test_a_packet_is_lost_three_behind(path: Path) -> None:
    """§6.1.1"""
    pns = [path.send() for _ in range(5)]
    path.peer.now += RTT
    path.ack(pns[2])
    assert path.packets_lost == 0
    path.ack(pns[3])
    assert path.packets_lost == 1
    path.ack(pns[4])
    assert path.packets_lost == 2


def test_a_packet_is_lost_an_eighth_of_a_round_trip_late(path: Path) -> None:
    """§6.1.2: by a timer, without another acknowledgement."""
    pns = [path.send() for _ in range(2)]
    path.peer.now += RTT
    path.ack(pns[1])
    path.peer.run(RTT // 8 - MS // 10)
    assert path.packets_lost == 0
    path.peer.run(MS // 5)
    assert path.packets_lost == 1


def test_an_ack_held_back_by_an_outage_is_no_sample(path: Path) -> None:
    """A path that did not answer: how long its last ACK was under way is the length of the outage."""
    path.send()
    path.peer.run(1400 * MS)
    assert path.state == lib.PATH_FAILED
    before = path.rtt_smoothed, path.rtt_var
    last = path.unacked()[-1]
    path.peer.run(400 * MS, lambda: path.unacked()[-1] != last)
    last = path.unacked()[-1]
    path.peer.now += 450 * MS
    path.ack(last, delay=430 * MS)
    assert path.state == lib.PATH_ACTIVE and (path.rtt_smoothed, path.rtt_var) == before
    pn = path.send()
    path.peer.now += 3 * RTT
    expected = path.updated(3 * RTT)
    path.ack(pn)
    assert (path.rtt_smoothed, path.rtt_var) == expected  # the next one counts


def test_a_new_path_does_not_begin_with_the_length_of_an_outage() -> None:
    """Its first ACK came late for the path was cut while it was validated; once the UE showed an RTT of 1450 ms for that."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.deaf.add(1)
        peer.link_of[1] = 1
        peer.engine_opens()
        peer.run(50 * MS)
        first = min(p.pn for p in peer.packets if p.path == 1)
        peer.now += 1400 * MS
        challenge = next(x for p, x in peer.found(f.PATH_CHALLENGE) if p.path == 1)
        peer.send(1, f.frame(f.PATH_RESPONSE) + challenge.data, f.ack(first, path=1, delay=(1430 * MS) // 1000 >> 3), pad=1200)
        info = peer.paths()[1]
        assert info.validated and info.rtt_smoothed == info.rtt_min <= 25 * MS


def outage(path: Path, span: int, break_at: int | None = None) -> tuple[int, int]:
    """Packets over `span` of time, all lost but for one in the middle (break_at: its index); then one that is acknowledged. The
    window before, and the duration of persistent congestion (§7.6.1) by the estimates that the acknowledgement leaves behind."""
    window = path.cwnd
    step = span // 16
    pns = []
    for i in range(17):
        pns.append(path.send())
        if i < 16:
            path.peer.now += step if i < 15 else span - 15 * step
    for _ in range(3):
        pns.append(path.send())
    path.peer.now += RTT
    smoothed, var = path.updated(RTT)
    last = path.send()
    path.peer.now += RTT
    acked = [last] if break_at is None else [last, pns[break_at]]
    path.ack(*acked)
    assert (path.rtt_smoothed, path.rtt_var) == (smoothed, var)
    return window, 3 * (smoothed + max(4 * var, MS) + MAX_ACK_DELAY)


def duration(path: Path) -> int:
    smoothed, var = path.updated(RTT)
    return 3 * (smoothed + max(4 * var, MS) + MAX_ACK_DELAY)


@pytest.mark.parametrize("more,persistent", [(0, False), (1, True), (50 * MS, True), (-1, False)])
def test_persistent_congestion_begins_above_its_duration(path: Path, more: int, persistent: bool) -> None:
    """§7.6: two lost packets, nothing between them acknowledged, further apart than three PTO with the delay of ACKs."""
    span = duration(path) + more
    window, exact = outage(path, span)
    assert exact == span - more
    assert path.cwnd == (2 * path.max_udp_payload if persistent else window // 2)
    if persistent:
        assert path.rtt_min == path.rtt_latest  # §5.2


@pytest.mark.parametrize("at,persistent", [(8, False), (1, True)])
def test_an_acknowledgement_in_between_ends_persistent_congestion(path: Path, at: int, persistent: bool) -> None:
    """A packet that arrived parts the time in two; what is left must be long enough by itself."""
    window, _ = outage(path, 3 * duration(path) // 2, break_at=at)
    assert path.cwnd == (2 * path.max_udp_payload if persistent else window // 2)


def test_no_persistent_congestion_before_the_first_sample() -> None:
    """§7.6.2: a path that has never been measured."""
    with RawPeer("client", congestion_control=lib.CC_NEWRENO) as peer:
        peer.connect()
        peer.deaf.add(1)
        peer.link_of[1] = 1
        peer.engine_opens()
        challenge = next(x for p, x in peer.found(f.PATH_CHALLENGE) if p.path == 1)
        peer.send(1, f.frame(f.PATH_RESPONSE) + challenge.data, pad=1200)
        path = Path(peer)
        assert path.validated and path.rtt_min == 0
        window = path.cwnd
        for _ in range(20):
            path.send()
            peer.now += 100 * MS
        path.ack(path.send())
        assert path.packets_lost > 15
        assert path.cwnd == window // 2


def test_one_event_a_round_trip_and_growth_only_after_it(path: Path) -> None:
    """§7.3.2: what was sent before the event neither halves the window again nor lets it grow."""
    window = path.cwnd
    pns = [path.send() for _ in range(12)]
    path.peer.now += RTT
    path.ack(pns[3])
    assert path.cwnd == window // 2
    path.ack(*pns[8:])
    assert path.cwnd == window // 2 and path.congestion_events == 1


def test_losses_that_were_none_are_taken_back(path: Path) -> None:
    """RFC 9438 §4.9, RFC 9002 §6.1.1: window and threshold as before, and more patience from now on."""
    window, threshold = path.cwnd, path.ssthresh
    pns = [path.send() for _ in range(5)]
    path.peer.now += RTT
    path.ack(pns[4])
    assert path.packets_lost == 2 and path.cwnd == window // 2
    path.ack(*pns)
    assert path.packets_spurious == 2 and (path.cwnd, path.ssthresh) == (window, threshold)
    again = [path.send() for _ in range(5)]
    path.peer.now += RTT
    path.ack(again[4])
    assert path.packets_lost == 2  # a gap of four packets is reordering now


def test_pto_backs_off_and_its_probes_ask_for_an_answer(path: Path) -> None:
    """§6.2.1: twice as long each time, up to half a second for a path that is taken for dead; §6.2.4: nothing is lost for it."""
    pto, start = path.pto, path.peer.now
    path.send()
    at = path.peer.mark()
    path.peer.run(2000 * MS)
    probes = [p for p in path.peer.packets[at:] if p.path == 1]
    assert all(p.eliciting for p in probes)
    when = [p.time - start for p in probes]
    assert when[:3] == [pto, 3 * pto, 7 * pto]
    assert all(b - a <= 500 * MS for a, b in itertools.pairwise(when))
    assert path.packets_lost == 0


BIG = b"\x0a\x00" + f.varint(1000) + bytes(1000)  # STREAM


def test_a_probe_goes_out_though_the_window_is_full(path: Path) -> None:
    """§7.5: and counts as in flight."""
    while path.bytes_in_flight < path.cwnd:
        path.peer.engine_sends(BIG, path=1)
    full, at = path.bytes_in_flight, path.peer.mark()
    path.peer.engine_sends(BIG, path=1)
    assert path.bytes_in_flight == full and path.peer.mark() == at
    path.peer.run(path.pto)
    assert [p.eliciting for p in path.peer.packets[at:] if p.path == 1] == [True]
    assert path.bytes_in_flight > full >= path.cwnd


def tunnelled(peer: RawPeer, count: int) -> None:
    """So many inner packets at once for path 0, which does not answer; what may go has gone after a few ms."""
    peer.deaf.add(0)
    for _ in range(count):
        peer.inner()
    peer.run(5 * MS)


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_tunnel_keeps_to_the_window(role: Role) -> None:
    """§7, RFC 9221 §5.4: what does not fit waits."""
    with RawPeer(role, congestion_control=lib.CC_NEWRENO) as peer:
        peer.connect()
        peer.tunnel(**ACTIVE_3GPP)
        tunnelled(peer, 100)
        info = peer.paths()[0]
        assert info.cwnd - 400 < info.bytes_in_flight <= info.cwnd and info.queue_packets > 40


@pytest.mark.parametrize("role", ["client", "server"])
def test_congestion_avoidance_adds_one_datagram_a_window(role: Role) -> None:
    """§7.3.3"""
    with RawPeer(role, congestion_control=lib.CC_NEWRENO) as peer:
        peer.connect()
        peer.tunnel(**ACTIVE_3GPP)
        tunnelled(peer, 200)
        at = 0

        def sent() -> list[int]:
            """Numbers of the tunnel's packets since the last time."""
            nonlocal at
            found = [p.pn for p in peer.packets[at:] if p.path == 0 and any(x.kind == f.DATAGRAM for x in p.frames)]
            at = peer.mark()
            return found

        peer.send(0, f.ack(*sent()[5:], path=0))
        assert peer.paths()[0].congestion_events == 1
        for _ in range(2):  # those sent in the moment of the event belong to it
            peer.run(5 * MS)
            pns, window = sent(), peer.paths()[0].cwnd
            assert len(pns) > 10 and peer.paths()[0].queue_packets
            peer.send(0, f.ack(*pns, path=0))
        assert window < peer.paths()[0].cwnd <= window + peer.paths()[0].max_udp_payload

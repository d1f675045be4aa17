"""What became of each captured 1-RTT packet: acknowledged, lost, late, twice. Read at the UE's end of each wire.

An uplink packet is captured when it leaves: its fate is told by the ACK and PATH_ACK frames that come back. A downlink
packet is captured when it arrives: one that never came shows as a number missing between two that did. Numbers that a
capture's windows leave out are no loss; that is why the run's windows are asked.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter

from lab.decrypt import ACK_BITS, ClearPacket
from lab.inspect_run import RunRecord, Span

OPEN_MAX = 16384                # packets of a space whose fate is not known: the oldest is given up
GAP_MAX = 4096                  # more numbers missing at once are a gap of the capture
PACKET_THRESHOLD = 3            # RFC 9002 §6.1.1
LOSSES_MAX = 1_000_000          # that are told one by one
RECENT_MAX = 16384              # numbers of a space, the largest, that are remembered at least, to see one twice


@dataclass(slots=True, eq=False)
class Sent:
    """An uplink packet. acknowledged_ns stays None for one that is lost or open."""

    record: int
    time_ns: int
    number: int
    size: int
    doubted_ns: int | None = None           # when one three numbers later was acknowledged, and this was not
    acknowledged_ns: int | None = None
    settled: bool = False                   # nothing more is expected
    lost: Loss | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A packet that was lost on its way. The bounds of its time: when it was sent (up), or what arrived around it (down)."""

    connection: int
    path: int
    up: bool
    number: int
    access: str
    from_ns: int
    to_ns: int
    record: int = 0             # of the captured packet; 0: it was never seen
    exact: bool = False         # both ends' qlogs say so: from_ns is when it was sent


@dataclass(slots=True)
class Space:
    """One direction of a path of a connection."""

    connection: int
    path: int
    up: bool
    access: str = ""                        # where it was seen last
    accesses: list[str] = field(default_factory=list)       # where it was seen, in that order
    first_ns: int = 0
    last_ns: int = 0
    packets: int = 0
    octets: int = 0
    duplicates: int = 0
    reordered: int = 0
    reordered_most: int = 0                 # numbers behind the largest that had arrived
    unknown: int = 0                        # fate not told: outside the windows, at the end, evicted
    untold: dict[int, int] = field(default_factory=dict, repr=False)        # of them, by number: the record
    largest: int = -1
    largest_ns: int = 0
    numbers: list[int] = field(default_factory=list, repr=False)            # open, ascending
    open: dict[int, Sent] = field(default_factory=dict, repr=False)
    recent: set[int] = field(default_factory=set, repr=False)
    missing: OrderedDict[int, tuple[int, int]] = field(default_factory=OrderedDict, repr=False)
    doubted_to: int = -1                    # open numbers up to here have been doubted already

    def seen_on(self, access: str) -> None:
        self.access = access
        if access not in self.accesses:
            self.accesses.append(access)


class Tracker:
    """Feed it every ClearPacket in capture order; take settled() now and then, and at the end finish()."""

    def __init__(self, run: RunRecord) -> None:
        self.spaces: dict[tuple[int, int, bool], Space] = {}
        self.losses: deque[Loss] = deque()
        self.newly: list[tuple[Sent, int, int]] = []    # newest that the last packet acknowledged: packet, path, raw ACK delay
        self.losses_more = 0
        self._run = run
        self._windows = run.windows()

    def _window(self, time_ns: int) -> Span | None:
        t = self._run.seconds(time_ns)
        return None if t is None else next((span for span in self._windows if span.has(t, 0.02)), None)

    def one_window(self, from_ns: int, to_ns: int) -> bool:
        """True when everything between the two was captured, as far as the run and the files of a ring say."""
        holes = self._run.holes
        if holes and (at := bisect_right(holes, to_ns, key=itemgetter(0))) and from_ns <= holes[at - 1][1]:
            return False
        if not self._windows:
            return True
        window = self._window(from_ns)
        return window is not None and window is self._window(to_ns)

    def space(self, connection: int, path: int, up: bool) -> Space:
        key = (connection, path, up)
        return self.spaces.get(key) or self.spaces.setdefault(key, Space(*key))

    def add(self, packet: ClearPacket, access: str) -> Sent | None:
        """The entry of an uplink packet. Duplicates on the wire have none of their own."""
        if packet.kind != "1rtt" or packet.number is None or packet.path is None or packet.connection is None:
            return None
        space = self.space(packet.connection, packet.path, packet.up)
        if access != space.access:
            space.seen_on(access)
        if self.newly:
            self.newly.clear()
        if not packet.up and (packet.frame_bits == 0 or packet.frame_bits & ACK_BITS):
            for path, ranges, delay in packet.acks:
                self.acknowledge(packet.connection, packet.time_ns, path, ranges, delay)
        return self.note(space, packet.record, packet.time_ns, packet.number, packet.size)

    def note(self, space: Space, record: int, time_ns: int, number: int, size: int) -> Sent | None:
        """A packet of this space, as add(); its acknowledgements are told before it."""
        if not space.packets:
            space.first_ns = time_ns
        space.last_ns = time_ns
        space.packets += 1
        space.octets += size
        recent = space.recent
        if number in recent:
            space.duplicates += 1
            return None
        recent.add(number)
        if len(recent) > 2 * RECENT_MAX:
            recent.difference_update(sorted(recent)[:RECENT_MAX])
        if not space.up:
            if number == space.largest + 1:
                space.largest, space.largest_ns = number, time_ns
            else:
                self._arrive(space, time_ns, number)
            return None
        sent = space.open[number] = Sent(record, time_ns, number, size)
        if number > space.largest:
            space.numbers.append(number)
            space.largest = number
        else:
            insort(space.numbers, number)
        if len(space.numbers) > OPEN_MAX:
            self._settle(space, space.open.pop(space.numbers.pop(0)))
        return sent

    def _arrive(self, space: Space, time_ns: int, number: int) -> None:
        if number < space.largest:
            space.reordered += 1
            space.reordered_most = max(space.reordered_most, space.largest - number)
            space.missing.pop(number, None)
            return
        gap = number - space.largest - 1
        if 0 < gap <= GAP_MAX and space.largest >= 0 and self.one_window(space.largest_ns, time_ns):
            for absent in range(space.largest + 1, number):
                space.missing[absent] = (space.largest_ns, time_ns)
            while len(space.missing) > OPEN_MAX:
                self._lose(space, *space.missing.popitem(last=False))
        space.largest, space.largest_ns = number, time_ns

    def acknowledge(self, connection: int, time_ns: int, path: int, ranges: list[tuple[int, int]], delay: int) -> None:
        """What the server acknowledges of the client's packets; the other way tells nothing that the capture does not."""
        space = self.spaces.get((connection, path, True))
        if space is None or not space.numbers:
            return
        numbers, largest = space.numbers, ranges[0][1]
        for low, high in ranges:
            first, last = bisect_left(numbers, low), bisect_right(numbers, high)
            for number in numbers[first:last]:
                sent = space.open.pop(number)
                sent.acknowledged_ns, sent.settled = time_ns, True
                if number == largest:
                    self.newly.append((sent, path, delay))
            del numbers[first:last]
        bound = largest - PACKET_THRESHOLD
        if bound > space.doubted_to:
            for number in numbers[bisect_right(numbers, space.doubted_to):bisect_right(numbers, bound)]:
                space.open[number].doubted_ns = time_ns
            space.doubted_to = bound

    def _settle(self, space: Space, sent: Sent) -> None:
        sent.settled = True
        if sent.doubted_ns is None or not self.one_window(sent.time_ns, sent.doubted_ns):
            space.unknown += 1
            if len(space.untold) < LOSSES_MAX:
                space.untold[sent.number] = sent.record
            return
        sent.lost = Loss(space.connection, space.path, True, sent.number, space.access, sent.time_ns, sent.doubted_ns, sent.record)
        self._keep(sent.lost)

    def _lose(self, space: Space, number: int, bounds: tuple[int, int]) -> None:
        self._keep(Loss(space.connection, space.path, False, number, space.access, *bounds))

    def _keep(self, loss: Loss) -> None:
        if len(self.losses) < LOSSES_MAX:
            self.losses.append(loss)
        else:
            self.losses_more += 1

    def finish(self) -> None:
        """The capture has ended: what is open and doubted is lost."""
        for space in self.spaces.values():
            for number in space.numbers:
                self._settle(space, space.open[number])
            space.numbers.clear()
            space.open.clear()
            for number, bounds in space.missing.items():
                self._lose(space, number, bounds)
            space.missing.clear()


def lost_by_space(losses: Iterable[Loss]) -> dict[tuple[int, int, bool], int]:
    out: dict[tuple[int, int, bool], int] = {}
    for loss in losses:
        key = (loss.connection, loss.path, loss.up)
        out[key] = out.get(key, 0) + 1
    return out

"""What the reordering buffer of one tunnel has to do (native/src/reorder.c), said with sets and sorted lists. Times in ns."""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOW = 4096
TOLERANCE = 3
CARRIERS = 4
GAPS = 16
MS = 1_000_000
LATELY = 500 * MS
TWICE = 2000 * MS
PATIENCE = 16
HALF_LIFE = 5000 * MS
COPY_MOST = 65536
WAIT_FIRST, WAIT_LEAST, WAIT_MOST = 60 * MS, 5 * MS, 250 * MS


def ahead(n: int, of: int) -> int:
    """By how much, as numbers of 32 bits."""
    return (n - of + (1 << 31)) % (1 << 32) - (1 << 31)


@dataclass
class Carrier:
    last: int
    numbers: set[int] = field(default_factory=set)  # that came over it, as distances from the flow's first number


@dataclass
class Flow:
    """Numbers are kept as distances from `base`, so that they never wrap."""

    base: int
    next: int = 0
    before: int | None = None  # base and next of the numbers before a jump, as one number of 32 bits
    came: set[int] = field(default_factory=set)
    held: dict[int, tuple[int, object]] = field(default_factory=dict)
    since: int = 0
    given_up: list[tuple[int, int, int]] = field(default_factory=list)  # from, to, since
    carriers: dict[object, Carrier] = field(default_factory=dict)
    twice: int | None = None  # when a number came that had come before


class Model:
    def __init__(self) -> None:
        self.flows: dict[object, Flow] = {}
        self.out: list[object] = []
        self.lateness = self.lateness_at = 0
        self.armed: int | None = None
        self.patience, self.vain_at = PATIENCE, 0
        self.counts = dict.fromkeys(("waited", "lost", "timeouts", "late", "duplicates", "jumps"), 0)

    # ---- time

    def _lateness(self, now: int) -> int:
        halvings = (now - self.lateness_at) // HALF_LIFE
        return self.lateness >> halvings if halvings < 32 else 0

    def _sample(self, value: int, now: int) -> None:
        known = self._lateness(now)
        self.lateness = value if value > known else known - (known - value) // 256
        self.lateness_at = now

    def timeout(self, now: int) -> int:
        if not self.lateness_at:
            return WAIT_FIRST
        late = self._lateness(now)
        return min(WAIT_MOST, late + late // 4 + WAIT_LEAST)

    def _since(self, flow: Flow, since: int, now: int) -> None:
        flow.since = since
        until = since + self.timeout(now)
        self.armed = until if self.armed is None else min(self.armed, until)

    # ---- packets

    def _run(self, flow: Flow, now: int) -> None:
        while flow.next in flow.held:
            self.out.append(flow.held.pop(flow.next)[1])
            flow.next += 1
        if flow.held:
            self._since(flow, flow.held[min(flow.held)][0], now)
        elif not any(f.held for f in self.flows.values()):
            self.armed = None

    def _give_up(self, flow: Flow, now: int) -> None:
        first = min(flow.held)
        flow.given_up = [*flow.given_up, (flow.next, first, flow.since)][-GAPS:]
        flow.next = first
        self._run(flow, now)

    def _passed(self, flow: Flow, number: int, now: int) -> bool:
        lately = [c for c in flow.carriers.values() if now - c.last <= LATELY]
        return all(sum(n > number for n in c.numbers) >= TOLERANCE for c in lately)

    def packet(self, key: object, path: object, n: int, what: object, now: int) -> bool:
        flow = self.flows.setdefault(key, Flow(n))
        number = flow.next + ahead(n, (flow.base + flow.next) % (1 << 32))
        if flow.twice is not None and now - flow.twice < TWICE and WINDOW < flow.next - number < COPY_MOST:
            self.counts["duplicates"] += 1
            return False
        if not -WINDOW <= number - flow.next < WINDOW:
            if flow.before is not None and -WINDOW <= ahead(n, flow.before) < WINDOW:
                self.counts["late"] += 1
                self.out.append(what)
                return True
            while flow.held:
                self._give_up(flow, now)
            self.counts["jumps"] += 1
            before = (flow.base + flow.next) % (1 << 32)
            self.flows[key] = flow = Flow(n, before=before, twice=flow.twice)
            number = 0
        if path not in flow.carriers and len(flow.carriers) == CARRIERS:
            del flow.carriers[min(flow.carriers, key=lambda p: flow.carriers[p].last)]
        carrier = flow.carriers.setdefault(path, Carrier(now))
        carrier.last = now
        carrier.numbers.add(number)
        if number in flow.came:
            flow.twice = now
            self.counts["duplicates"] += 1
            return False
        flow.came.add(number)
        if number < flow.next:
            self.counts["late"] += 1
            for low, high, since in flow.given_up:
                if low <= number < high:
                    self._sample(now - since, now)
                    self.patience = PATIENCE
            self.out.append(what)
            return True
        if flow.held and number < min(flow.held):
            self._sample(now - flow.since, now)
            self.patience = PATIENCE if self._passed(flow, number, now) else self.patience
        if number == flow.next:
            self.out.append(what)
            flow.next += 1
            self._run(flow, now)
        else:
            opens = not flow.held
            flow.held[number] = (now, what)
            self.counts["waited"] += 1
            if opens:
                self._since(flow, now, now)
        while flow.held and not self.patience and self._passed(flow, min(flow.held) - 1, now):
            self.counts["lost"] += min(flow.held) - flow.next
            self._give_up(flow, now)
        return True

    def timer(self, now: int) -> None:
        if self.armed is None or now < self.armed:
            return
        for flow in self.flows.values():
            wait = self.timeout(now)
            while flow.held and flow.since + wait <= now:
                self.counts["timeouts"] += 1
                if flow.since >= self.vain_at:
                    self.vain_at, self.patience = now, max(0, self.patience - 1)
                self._give_up(flow, now)
        waits = [f.since + self.timeout(now) for f in self.flows.values() if f.held]
        self.armed = min(waits) if waits else None

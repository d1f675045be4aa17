"""Why a packet was dropped: the cut, the wire's queue or chance, a counter of an engine or the capture, or not explained.

What was lost is what the capture misses; with the qlogs of both ends beside it, exactly what one end sent and the other did not
receive. The wires and the engines count what they drop but do not say which packet it was: each loss takes one from a counter that
rose while it was under way (lab/inspect_counters.py), and a counter explains no more packets than it counted; only a socket's
counts what was sent together as one. What is left over is "not explained": a fault of ours, until somebody knows better.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lab.decrypt_connection import Connection
from lab.inspect_counters import WIRE_REASONS, Bucket, Buckets, last_counts, wire_buckets
from lab.inspect_qlog import Logs, key_of
from lab.inspect_run import RunRecord, Span, told_number
from lab.inspect_track import Loss, Space

REASON_WORDS = {"queue": "wire: its queue was full", "loss": "wire: lost by chance", "cut": "wire: cut"}
UNDER_WAY_S = 0.25              # how long after it was sent a packet may still reach the place where it is dropped,
LATE_MOST_S = 2.0               # and by how much longer, at most, when the wires' own thread was late
BESIDE_WORDS = {"nat": "wire: its NAT had no binding for it (dropped_nat)",
                "kernel": "wire: the kernel dropped it at the wire's socket (kernel_drops)"}
CUT_SLACK_S = 0.01              # how far the time that is told of a cut may be from the cut
NOT_EXPLAINED = "not explained"
OMITTED = "likely no loss: a number that the sender left out, to catch acknowledgements of what was not sent (RFC 9000 §21.4)"
LEFT_OUT = "its sender left the number out, to catch acknowledgements of what was not sent (RFC 9000 §21.4)"
AT_THE_END = "run: it was under way when the lab was taken down"
ARRIVED = "it arrived, says the receiver's qlog"
NO_COUNTERS = "not explained: the capture has no run with counters beside it"
# Counters of the receiving engine behind which an outer packet may have vanished; sending ones come under `udp_send_failed`.
RECEIVER = ("udp_receive_overflow", "auth_failed", "cid_unknown", "keys_unavailable", "path_limit", "path_abandoned",
            "conn_closing", "fixed_bit", "datagram_short", "cid_unroutable_link")
# Drops that are told of packets which the receiver did not miss: a copy, a number that arrived
NO_LOSS_OF_OURS = ("packet_duplicate",)
# What the receiver's kernel drops, no qlog tells
NOT_IN_QLOG = ("udp_receive_overflow",)
BATCH_MOST, BATCH_NS = 64, 1_000_000    # packets that one send gives the kernel (UDP GSO), and within what time they were sent


@dataclass(frozen=True, slots=True)
class Explained:
    loss: Loss
    t: float | None             # seconds of the run; None when it has no clock
    reason: str                 # its first words are the place: wire, engine, capture, run, not explained


@dataclass(slots=True)
class _Batch:
    """Packets sent together that the kernel dropped as one: a socket's counter counts them once."""

    first: Loss
    reason: str
    packets: int = 1

    def takes(self, loss: Loss) -> bool:
        first, at = self.first, self.first.number + self.packets
        if (loss.connection, loss.path, loss.up, loss.number) != (first.connection, first.path, first.up, at) \
                or loss.from_ns - first.from_ns > BATCH_NS or self.packets >= BATCH_MOST:
            return False
        self.packets += 1
        return True


@dataclass(slots=True)
class Found:
    """What was lost; what only seemed to be, by why; and by which means that is known."""

    losses: list[Loss]
    no_loss: Counter[str] = field(default_factory=Counter)
    exact: bool = False


def find_losses(seen: list[Loss], spaces: dict[tuple[int, int, bool], Space], connections: list[Connection], logs: Logs) -> Found:
    """seen: those that the capture shows. With both ends' qlogs: what was sent and never received, captured or not."""
    if not logs.complete:
        return Found(list(seen))
    found = Found([], exact=True)
    captured = {(one.connection, one.path, one.up, one.number): one for one in seen}
    numbers = {connection.original_dcid.hex(): connection.index for connection in connections}
    accesses = {(space.connection, space.path): space.access for space in spaces.values()}
    for (group, path, up), number, fate in logs.never_received():
        connection = numbers.get(group)
        if connection is None or fate.sent is None:
            continue
        shown = captured.get((connection, path, up, number))
        space = spaces.get((connection, path, up))
        untold = space.untold.get(number, 0) if space is not None else 0    # captured, but its ACKs are not
        record = shown.record if shown is not None else untold
        found.losses.append(Loss(connection, path, up, number, accesses.get((connection, path), ""), fate.sent, fate.sent,
                                 record, exact=True))
    for one in seen:
        end = logs.fate(key_of(connections, one.connection, one.path, one.up), one.number)
        if end is None or end.sent is None:
            found.no_loss[LEFT_OUT] += 1
        elif end.received is not None:
            found.no_loss[ARRIVED] += 1
    return found


class Explainer:
    """Explains losses; every unit of a counter is used once."""

    def __init__(self, run: RunRecord, logs: Logs | None = None, connections: list[Connection] | None = None) -> None:
        self._run = run
        self._logs = logs if logs is not None and logs.complete else None
        self._connections = connections or []
        self._cuts = run.cuts()
        self._totals = self._wire_totals()
        last = last_counts(run.events, self._totals)
        self._wires = wire_buckets([*run.samples, last])
        self._ended = float(last["t"])
        self._late = self._late_most()
        drops = run.result.get("drops")
        self._drops = {str(name): int(value) for name, value in drops.items() if isinstance(value, int)} \
            if isinstance(drops, dict) else {}
        capture = run.result.get("capture")
        self._capture_drops = {name: int(capture.get(name) or 0) for name in ("dropped_kernel", "dropped_limit")} \
            if isinstance(capture, dict) else {}
        self._known = bool(run.events or run.result or self._wires)
        self._told = self._told_drops()
        self._batches: dict[bool, _Batch] = {}          # by direction

    def _told_drops(self) -> dict[bool, Buckets]:
        """By direction: what the receiver's qlog says that it dropped, each at its time."""
        out = {True: Buckets(), False: Buckets()}
        for drop in self._logs.drops if self._logs is not None else ():
            t = self._run.seconds(drop.time)
            if t is not None and drop.counter not in NO_LOSS_OF_OURS:
                out[drop.up].items.append(Bucket(t, t, drop.counter, 1))
        for buckets in out.values():
            buckets.items.sort(key=lambda one: one.end)
        return out

    def _wire_totals(self) -> dict[tuple[str, str], dict[str, int]]:
        out = {}
        wires = self._run.result.get("wires")
        for access, ways in wires.items() if isinstance(wires, dict) else ():
            for way in ("up", "down"):
                counts = ways.get(way) if isinstance(ways, dict) else None
                if isinstance(counts, dict):
                    known = {why: counts.get(f"dropped_{why}") for why in (*WIRE_REASONS, "nat")} \
                        | {"kernel": counts.get("kernel_drops")}
                    out[access, way] = {why: count for why, count in known.items() if isinstance(count, int)}
        return out

    def _late_most(self) -> dict[tuple[str, str], float]:
        """By how many seconds each wire sent a frame too late, at most: so late may it have taken one, too."""
        out = {}
        wires = self._run.result.get("wires")
        for access, ways in wires.items() if isinstance(wires, dict) else ():
            for way in ("up", "down"):
                counts = ways.get(way) if isinstance(ways, dict) else None
                late = told_number(counts.get("late_max_ms")) if isinstance(counts, dict) else None
                if late is not None and late > 0:
                    out[access, way] = min(late / 1000, LATE_MOST_S)
        return out

    def explain(self, losses: list[Loss]) -> list[Explained]:
        """In the order of their time. Those that a cut alone can explain come first to its counter: what was dropped before the cut
        must not use it up."""
        ordered = sorted(losses, key=lambda loss: (loss.from_ns, loss.path, loss.number))
        numbers = {(loss.connection, loss.path, loss.number) for loss in ordered if not loss.up}
        found: dict[int, str] = {}
        for index, loss in enumerate(ordered):
            span = self._inside_cut(loss)
            if span is not None and self._cut(loss, span):
                found[index] = self._cut_words(loss, span)
        out = []
        for index, loss in enumerate(ordered):
            reason = found.get(index) or self._one(loss)
            beside = any((loss.connection, loss.path, loss.number + step) in numbers for step in (-1, 1))
            if reason == NOT_EXPLAINED and not loss.up and not loss.exact and not beside:
                reason = OMITTED            # a burst has neighbours, and a wire counts what it drops
            out.append(Explained(loss, self._run.seconds(loss.from_ns), reason))
        return out

    # ---- the wire

    def _times(self, loss: Loss) -> tuple[float, float] | None:
        """Between which seconds it was dropped: moments after it was sent, or between what arrived around it."""
        start, end = self._run.seconds(loss.from_ns), self._run.seconds(loss.to_ns)
        if start is None or end is None:
            return None
        under_way = UNDER_WAY_S + self._late.get((loss.access, "up" if loss.up else "down"), 0.0)
        return (start, start + under_way) if loss.up or loss.exact else (start - under_way, end)

    def _inside_cut(self, loss: Loss) -> Span | None:
        """The cut that it was sent into, when that is certain."""
        start = self._run.seconds(loss.from_ns)
        if start is None or not (loss.up or loss.exact):
            return None
        spans = self._cuts.get(loss.access, [])
        return next((span for span in spans if span.start + CUT_SLACK_S <= start <= span.sure - CUT_SLACK_S), None)

    def _cut(self, loss: Loss, span: Span) -> bool:
        times, way = self._times(loss), "up" if loss.up else "down"
        if span.link_down:              # the device was down: no wire saw the packet
            return True
        return times is not None and bool(self._wire(loss.access, way, *times, ("cut",)))

    @staticmethod
    def _cut_words(loss: Loss, span: Span) -> str:
        return f"wire: cut of {loss.access} from {span.start:.3f} s"

    def _one(self, loss: Loss) -> str:
        way, times = "up" if loss.up else "down", self._times(loss)
        if not self._known:
            return NO_COUNTERS
        why = ""
        if times is None:
            why = self._total(loss.access, way, WIRE_REASONS)
        else:
            spans = [s for s in self._cuts.get(loss.access, [])
                     if s.start - CUT_SLACK_S <= times[1] and s.end + CUT_SLACK_S >= times[0]]
            # also of one sent into the cut that the cut did not drop: on a busy machine the wire may have taken it when it was over
            why = self._wire(loss.access, way, *times, ("queue", "loss", "cut") if spans else ("queue", "loss"))
            if why == "cut":
                return self._cut_words(loss, spans[0])
        if why:
            return REASON_WORDS[why]
        return (self._engine(loss, times) or self._capture(loss) or self._beside(loss, way) or self._batched(loss)
                or self._at_the_end(loss, times) or NOT_EXPLAINED)

    def _wire(self, access: str, way: str, first: float, last: float, reasons: tuple[str, ...]) -> str:
        """Takes one from the samples that overlap the interval; without samples, from the wire's totals."""
        buckets = self._wires.get((access, way))
        if buckets is None:
            return self._total(access, way, reasons) if not self._wires else ""
        return buckets.take(first, last, reasons)

    def _total(self, access: str, way: str, reasons: tuple[str, ...]) -> str:
        totals = self._totals.get((access, way), {})
        for why in reasons:
            if totals.get(why, 0) > 0:
                totals[why] -= 1
                return why
        return ""

    def _beside(self, loss: Loss, way: str) -> str:
        """What no sample has: its NAT knew no such binding any more; its own sockets were full, or would not take it."""
        found = self._total(loss.access, way, ("nat", "kernel"))
        return self._batch(loss, BESIDE_WORDS[found]) if found else ""

    def _batch(self, loss: Loss, reason: str) -> str:
        """The kernel dropped it, and maybe what was sent with it."""
        if loss.exact:                  # else it is not known when each was sent
            self._batches[loss.up] = _Batch(loss, reason)
        return reason

    def _batched(self, loss: Loss) -> str:
        batch = self._batches.get(loss.up)
        return batch.reason if batch is not None and batch.takes(loss) else ""

    def _at_the_end(self, loss: Loss, times: tuple[float, float] | None) -> str:
        """By the qlogs alone: nobody counts what is still in a wire or a socket when they are closed."""
        return AT_THE_END if loss.exact and times is not None and times[1] >= self._ended else ""

    # ---- the ends

    def _engine(self, loss: Loss, times: tuple[float, float] | None) -> str:
        sender, receiver = ("ue", "upf") if loss.up else ("upf", "ue")
        if self._drops.get(f"{sender}.udp_send_failed", 0) > 0:
            self._drops[f"{sender}.udp_send_failed"] -= 1
            return f"engine: counter {sender}.udp_send_failed"
        if self._logs is not None and loss.exact and times is not None:
            buckets = self._told[loss.up]
            counters = tuple(dict.fromkeys(one.reason for one in buckets.items))
            why = buckets.take(*times, counters)
            if why:
                return f"engine: {receiver} dropped it: {why}"
            found = self._over(loss, times, receiver)
            if not found and (found := self._counter(receiver, NOT_IN_QLOG)):
                self._batch(loss, found)
            return found
        return self._counter(receiver, RECEIVER)

    def _counter(self, receiver: str, counters: tuple[str, ...]) -> str:
        for counter in counters:
            name = f"{receiver}.{counter}"
            if self._drops.get(name, 0) > 0:
                self._drops[name] -= 1
                return f"engine: counter {name}"
        return ""

    def _over(self, loss: Loss, times: tuple[float, float], receiver: str) -> str:
        """An end that has closed a connection takes no packet of it any more, and does not say so (RFC 9000 §10.2)."""
        assert self._logs is not None
        role = "server" if loss.up else "client"
        group = self._connections[loss.connection].original_dcid.hex()
        closed = self._logs.closed.get((role, group))
        t = None if closed is None else self._run.seconds(closed)
        return f"engine: the connection was over at the {receiver}" if t is not None and t <= times[1] else ""

    def _capture(self, loss: Loss) -> str:
        """A downlink packet may have arrived and not have been captured."""
        for name, count in self._capture_drops.items():
            if not loss.up and not loss.exact and count > 0:
                self._capture_drops[name] -= 1
                return f"capture: its own counter {name}"
        return ""


def summary(explained: list[Explained]) -> dict[str, int]:
    return dict(Counter(one.reason for one in explained).most_common())


def why_document(explained: list[Explained], more: int, found: Found) -> dict[str, Any]:
    """`mpq inspect --dropped --json`. more: losses beyond those that are told one by one."""
    return {"lost": len(explained), "not_told": more, "by": "qlog" if found.exact else "capture", "reasons": summary(explained),
            "no_loss": dict(found.no_loss.most_common()), "packets": [
        {"t": one.t, "connection": one.loss.connection, "path": one.loss.path, "access": one.loss.access,
         "direction": "up" if one.loss.up else "down", "pn": one.loss.number, "record": one.loss.record or None,
         "reason": one.reason} for one in explained]}


def why_lines(explained: list[Explained], more: int, found: Found, several: bool) -> list[str]:
    """several: connections, so that it is said which."""
    known = ", by the qlogs of both ends" if found.exact else ""
    lines = [f"{len(explained)} packets were lost on their way{known}" + (f", and {more} more, too many to tell" if more else "")]
    lines += [f"  {count:>6}  {reason}" for reason, count in summary(explained).items()]
    lines += [f"  {count:>6}  missing in the capture, but not lost: {why}" for why, count in found.no_loss.most_common()]
    if explained:
        whose = "conn " if several else ""
        lines.append(f"{'time/s':>11} {'dir':<4} {whose}{'path':>4} {'pn':>8} {'No.':>8} {'access':<10} reason")
    for one in explained:
        t = "-" if one.t is None else f"{one.t:.6f}"
        whose = f"{one.loss.connection:>4} " if several else ""
        lines.append(f"{t:>11} {'up' if one.loss.up else 'down':<4} {whose}{one.loss.path:>4} {one.loss.number:>8} "
                     f"{one.loss.record or '-':>8} {one.loss.access:<10} {one.reason}")
    return lines

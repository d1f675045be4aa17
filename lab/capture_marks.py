"""Which packets of a capture a step of the scenario concerns: what a reader of a long capture looks for first.

A mark is a phrase that begins the packet's comment: `mark: first packet after step cut-wifi (11.938 s) | 1rtt connection 0
path 0 pn 943: …`, so that `frame.comment contains "mark:"` finds them all in Wireshark. Marked are

- the first packet after each step (cut, restore, rebind, shape, rekey, key_update, kill, attack), on its access where it has one,
- N1's packet with the key container,
- the first IP packet on each connection: on its new key,
- the first packet of a key phase in each direction (RFC 9001 §6),
- PATH_ABANDON, and the PATH_CHALLENGE with which the UPF answers a NAT rebinding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lab.decrypt import ClearPacket
from lab.inspect_run import STEPS, RunRecord
from lab.packets.frames import PathAbandon, PathChallenge

MARKED = (*STEPS, "attack")
CHALLENGE_WITHIN_NS = 3_000_000_000
PREFIX = "mark: "


@dataclass(frozen=True, slots=True)
class Step:
    """time_ns: the capture's clock. access: where it happened; empty: nowhere in particular."""

    time_ns: int
    words: str
    access: str


def steps_of(run: RunRecord) -> list[Step]:
    """In their order; none when the run does not tell the capture's clock."""
    if run.start_ns is None:
        return []
    found = []
    for event in run.events:
        if event.get("node") == "lab" and event.get("event") in MARKED:
            target = event.get("access") or event.get("by") or event.get("target") or event.get("attack")
            name = f"{event['event']}-{target}" if target else str(event["event"])
            access = event.get("access")
            t = float(event["t"])
            found.append(Step(run.start_ns + round(t * 1e9), f"step {name} ({t:.3f} s)", access if isinstance(access, str) else ""))
    return sorted(found, key=lambda step: step.time_ns)


class Marker:
    """Fed with the captured packets at the UE's end in their order."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = list(steps)
        self._rebound: dict[str, int] = {step.access: 0 for step in self._steps if step.words.startswith("step rebind")}
        self._carrying: set[int] = set()
        self._phases: set[tuple[int, bool, int]] = set()

    def marks(self, time_ns: int, access: str, packets: Iterable[ClearPacket]) -> list[str]:
        """Of one captured packet on this access."""
        found = self._after_steps(time_ns, access)
        for packet in packets:
            if packet.connection is not None and not packet.reason and packet.kind == "1rtt":
                found += self._of_packet(packet, packet.connection, access)
        return found

    def _after_steps(self, time_ns: int, access: str) -> list[str]:
        found, left = [], []
        for step in self._steps:
            if step.time_ns > time_ns or step.access not in ("", access):
                left.append(step)
                continue
            found.append(f"first packet after {step.words}")
            if step.words.startswith("step rebind"):
                self._rebound[step.access] = step.time_ns
        self._steps = left
        return found

    def _of_packet(self, packet: ClearPacket, connection: int, access: str) -> list[str]:
        found = []
        if connection not in self._carrying and packet.inner_count:
            self._carrying.add(connection)
            found.append(f"first IP packet on the key of connection {connection}")
        if packet.generation and (connection, packet.up, packet.generation) not in self._phases:
            self._phases.add((connection, packet.up, packet.generation))
            found.append(f"key update: first packet {'up' if packet.up else 'down'} of key phase {packet.generation}")
        for frame in () if packet.frame_bits else packet.frames:        # the clear reader opens none with frames of these
            if isinstance(frame, PathAbandon):
                found.append(f"PATH_ABANDON: path {frame.path} is given up")
            elif isinstance(frame, PathChallenge) and not packet.up:
                since = self._rebound.get(access, 0)
                if since and packet.time_ns - since < CHALLENGE_WITHIN_NS:
                    self._rebound[access] = 0
                    found.append(f"PATH_CHALLENGE to the port that {access} was rebound to")
        return found

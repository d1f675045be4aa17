"""What the paths carry while a run lasts: a sample of both ends every 100 ms, `metrics.jsonl`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.lab import Lab
from lab.paths import PathTotals, shared_queue
from lab.wires import dropped

INTERVAL_S = 0.1
ACCESS_TYPES = ("3gpp", "non-3gpp")  # enum engine_access


@dataclass(frozen=True, slots=True)
class Sample:
    """Octets of inner packets by access type that came out of the tunnel: up at the UPF, down at the UE. `packets`: inner packets
    that each end has carried, both directions together."""

    t: float
    up: tuple[int, int]
    down: tuple[int, int]
    packets: dict[str, int] = field(default_factory=dict)
    counted: dict[str, float] = field(default_factory=dict)
    """when `up` and `down` were counted, each at its end: the lab itself may have been late to ask and to hear"""
    copies: tuple[int, int] = (0, 0)
    """octets that came when they had come before, both directions together: redundant steering's second copies"""

    def came(self, access: int) -> int:
        """All that came over it, delivered or not."""
        return self.up[access] + self.down[access] + self.copies[access]

    def since(self, earlier: Sample, direction: str) -> tuple[int, int]:
        now, then = (self.up, earlier.up) if direction == "up" else (self.down, earlier.down)
        return now[0] - then[0], now[1] - then[1]


def received(stats: dict[str, Any], name: str = "access_bytes_in") -> tuple[int, int]:
    value = stats.get(name, {})
    if isinstance(value, list):
        value = dict(zip(ACCESS_TYPES, value, strict=False))
    first, second = (int(value.get(access, 0)) for access in ACCESS_TYPES)
    return first, second


async def sample(lab: Lab) -> Sample:
    ue, upf = await asyncio.gather(lab.ask("ue", "tunnel", limit=5.0), lab.ask("upf", "tunnel", limit=5.0))
    packets = {node: int(s.get("packets_in", 0)) + int(s.get("packets_out", 0)) for node, s in (("ue", ue), ("upf", upf))}
    counted = {way: float(stats["t"]) - lab.start for way, stats in (("up", upf), ("down", ue)) if "t" in stats}
    up, down = (received(stats, "access_copy_bytes_in") for stats in (upf, ue))
    return Sample(lab.now(), received(upf), received(ue), packets, counted, (up[0] + down[0], up[1] + down[1]))


class Sampler:
    def __init__(self, lab: Lab, path: Path) -> None:
        self.samples: list[Sample] = []
        self.rtt_ms: dict[str, list[float]] = {}  # smoothed, by access, one per sample
        self.windows: list[tuple[float, str, str, int]] = []  # t, node, access, congestion window in octets
        self.totals = PathTotals()  # at the UE
        self._lab = lab
        self._path = path
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._sample()
        except OSError as error:
            self._lab.not_written(self._path.name, error)

    async def _sample(self) -> None:
        with self._path.open("w", buffering=1) as file:
            while True:
                try:
                    one = await sample(self._lab)
                    paths = await self._lab.ask("ue", "paths", limit=5.0)
                    upf_paths = await self._lab.ask("upf", "paths", limit=5.0)
                except LabError as error:
                    file.write(json.dumps({"t": self._lab.now(), "error": str(error)}) + "\n")
                else:
                    self.samples.append(one)
                    self.totals.see(paths)
                    for path in paths:
                        if path.get("rtt_smoothed"):
                            self.rtt_ms.setdefault(str(path.get("access")), []).append(path["rtt_smoothed"] / 1e6)
                    for node, found in (("ue", paths), ("upf", upf_paths)):
                        self.windows += [(one.t, node, str(p.get("access")), int(p["cwnd"])) for p in found if p.get("cwnd")]
                    told = {"t": round(one.t, 3), "counted": {way: round(t, 4) for way, t in one.counted.items()}, "up": one.up,
                            "down": one.down, "paths": paths, "upf_paths": upf_paths}
                    waiting = {"ue": shared_queue(paths), "upf": shared_queue(upf_paths)}
                    file.write(json.dumps({**told, "shared_queue": waiting, **self._wires()}) + "\n")
                await asyncio.sleep(INTERVAL_S)

    def _wires(self) -> dict[str, Any]:
        """What each wire has dropped so far, by direction: in its queue, by loss, by the cut; between which seconds it was asked,
        on a busy machine long after the sample's `t`; and what waits in its queues now (octets, up and down)."""
        before = self._lab.now()
        stats = self._lab.wires.stats()
        return {
            "wires": dropped(stats), "wires_counted": [round(before, 4), round(self._lab.now(), 4)],
            "wire_queues": {name: [of["up"]["queued_bytes"], of["down"]["queued_bytes"]] for name, of in stats.items()},
        }

    def first_after(self, t: float, access: int, octets: int) -> float | None:
        """When the access had carried `octets` more than at time `t`, in both directions together."""
        base: Sample | None = None
        for one in self.samples:
            if one.t < t:
                base = one
                continue
            base = base or one
            if one.came(access) - base.came(access) >= octets:
                return one.t
        return None

"""A measured figure: all its runs, and ratios to what was measured beside it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Figure:
    """One measured quantity: all its runs, and the ratios of each run to the peers of the same turn."""

    id: str
    unit: str
    values: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)

    def add(self, value: float, **peers: float) -> None:
        self.values.append(value)
        for name, peer in peers.items():
            if peer:
                self.ratios.setdefault(name, []).append(value / peer)

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "value": rounded(statistics.median(self.values)),
            "unit": self.unit,
            "spread": [rounded(min(self.values)), rounded(max(self.values))],
            "runs": len(self.values),
            "ratios": {name: rounded(statistics.median(values)) for name, values in self.ratios.items()},
        }


def rounded(value: float) -> float:
    return float(f"{value:.4g}")

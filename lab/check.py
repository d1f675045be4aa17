"""One check of a run: what was found, and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NO_VALUE = ""


@dataclass(frozen=True, slots=True)
class Check:
    id: str
    ok: bool
    value: Any
    unit: str
    aim: str
    why: str = ""
    fatal: bool = True  # else it is an aim: told, and no run fails for it

    def document(self) -> dict[str, Any]:
        return {"id": self.id, "ok": self.ok, "value": self.value, "unit": self.unit, "aim": self.aim, "why": self.why,
                "fatal": self.fatal}

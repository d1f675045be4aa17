"""Python's share of the canaries: how the protection of a rule that Python enforces is removed. One function per rule, named
after its id, in the modules of FAMILIES; called once, before the tests are imported. Rules of the engine are switched off in C
instead (native/src/rules.h)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

SABOTAGE: dict[str, Callable[[], None]] = {}
FAMILIES = ("sabotage_mp_psk", "sabotage_quic", "sabotage_bars", "sabotage_n1", "sabotage_core")


def removes(function: Callable[[], None]) -> Callable[[], None]:
    """Registers a function under the id it is named after: mp_02 -> MP_02."""
    SABOTAGE[function.__name__.upper()] = function
    return function


def load() -> dict[str, Callable[[], None]]:
    """All of them, by switch."""
    for family in FAMILIES:
        import_module(family)
    return SABOTAGE


def remove(switch: str) -> None:
    """Remove the rule, if it is Python's."""
    load().get(switch, lambda: None)()

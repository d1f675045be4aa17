"""Python's share of the canaries: how the protection of a rule that Python enforces is removed. One function per rule, named
after its id; called once, before the tests are imported. Rules of the engine are switched off in C instead (native/src/rules.h)."""

from __future__ import annotations

from collections.abc import Callable

SABOTAGE: dict[str, Callable[[], None]] = {}


def removes(function: Callable[[], None]) -> Callable[[], None]:
    """Registers a function under the id it is named after: mp_02 -> MP_02."""
    SABOTAGE[function.__name__.upper()] = function
    return function


def remove(switch: str) -> None:
    """Remove the rule, if it is Python's."""
    SABOTAGE.get(switch, lambda: None)()


@removes
def mp_02() -> None:
    """Any initial_max_path_id is taken."""
    from dataclasses import replace

    from mpquic import transport_parameters as tp

    tp._RULES["initial_max_path_id"] = replace(tp._RULES["initial_max_path_id"], most=(1 << 62) - 1)

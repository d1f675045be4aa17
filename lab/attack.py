"""Attacks on a running lab, each with what must happen: a named counter says what was refused, the nodes live, the tunnel carries.

An attack has two forms. `wrong` is the attack. `right` is its canary: the same packet with nothing wrong in it, which must be
accepted (`accepted` goes up) and must not raise the counters of the attack. So a check that sees nothing, or refuses everything,
does not pass.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from lab.craft import Craft, Seen
from lab.errors import Misuse
from lab.lab import Lab

COUNTED_S = 8.0  # a counter that does not move in this time does not move
CANARY_S = 0.2  # after it was accepted: how long the counters of an attack are watched for what must not move them
LOOK_S = 0.05
BACK_S = 15.0  # a new connection, when the attack ended the old one

Form = Callable[[Craft, Seen], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Attack:
    """`rows`: of bars.md. `counters`: `node:counter` -> the least that it must go up by. `accepted`: the counter that shows that
    the canary was taken. `ends_connection`: the peer of the robbed one sees it and closes; a new connection must follow.
    `fresh`: a packet goes through the tunnel before, so that the newest packet of its path is known."""

    name: str
    rows: tuple[str, ...]
    about: str
    counters: dict[str, int]
    wrong: Form
    right: Form
    accepted: str
    ends_connection: bool = False
    fresh: bool = False


def table(*attacks: Attack, fresh: bool = False) -> dict[str, Attack]:
    return {a.name: replace(a, fresh=fresh) for a in attacks}


def _all() -> dict[str, Attack]:
    from lab import attack_n1, attack_n4, attack_quic

    return {**attack_quic.ATTACKS, **attack_n4.ATTACKS, **attack_n1.ATTACKS}


def named(name: str) -> Attack:
    attacks = _all()
    if name not in attacks:
        raise Misuse(f"{name}: there is no such attack; there are {', '.join(attacks)}")
    return attacks[name]


def __getattr__(name: str) -> Any:
    if name == "ATTACKS":
        return _all()
    raise AttributeError(name)


def rises(before: dict[str, int], after: dict[str, int], names: list[str]) -> dict[str, int]:
    return {name: after.get(name, 0) - before.get(name, 0) for name in names}


async def run(lab: Lab, name: str, *, canary: bool = False) -> dict[str, Any]:
    """{"attack", "canary", "rows", "sent", "counted": {counter: rise}, "accepted": rise, "rose": {counter: rise} (whatever
    moved), "ok", "why"}"""
    attack = named(name)
    craft = lab.crafting = lab.crafting or Craft(lab)
    connections = craft.events("ue", "connection_ready")
    watched = [*attack.counters, attack.accepted]
    if attack.fresh:
        await craft.round_trip()
        await craft.quiet(attack.accepted)
    at = await craft.look()
    before = await craft.counters()
    sent = await (attack.right if canary else attack.wrong)(craft, at)
    begun = time.monotonic()
    since: float | None = None  # when all that is waited for was there
    while True:
        after = await craft.counters()
        counted = rises(before, after, watched)
        seen = all(counted[c] >= least for c, least in attack.counters.items())
        if since is None and (counted[attack.accepted] > 0 if canary else seen):
            since = time.monotonic()
        now = time.monotonic()
        if now - begun >= COUNTED_S or (since is not None and now - since >= (CANARY_S if canary else 0.0)):
            break
        await asyncio.sleep(LOOK_S)
    missing = [f"{c} +{counted[c]} of {n}" for c, n in attack.counters.items() if counted[c] < n]
    why = "not counted: " + ", ".join(missing) if missing else ""
    if attack.ends_connection and not canary:
        await craft.wait_event("ue", "connection_ready", connections + 1, BACK_S)
    elif craft.events("ue", "connection_ready") != connections:
        why = why or "the connection was replaced"
    if ended := craft.nodes_alive():
        why = f"ended: {ended}"
    elif not await craft.round_trip():
        why = why or "the tunnel carries nothing any more"
    accepted = counted.pop(attack.accepted) if attack.accepted not in attack.counters else counted[attack.accepted]
    return {"attack": name, "canary": canary, "rows": list(attack.rows), "sent": sent, "counted": counted, "accepted": accepted,
            "rose": {c: n for c, n in rises(before, after, sorted(after)).items() if n > 0}, "ok": not why, "why": why}

"""When the actions of a phase happen."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from lab.run import Runner, trusted
from lab.scenario import Action, Phase
from mpquic.path_reasons import path_reason
from native import lib


class QuietLab(SimpleNamespace):
    """As much of a lab as an action needs; says when it was cut."""

    def __init__(self) -> None:
        super().__init__(capture=None, cuts=[])

    def now(self) -> float:
        return time.monotonic()

    def cut(self, access: str) -> None:
        self.cuts.append((access, self.now()))


def test_actions_count_from_when_the_probe_runs() -> None:
    """A cut that came before the probe's first packet was no gap in it: a busy machine passed every check."""

    async def scene() -> tuple[float, list[Any], list[Any]]:
        lab = QuietLab()
        runner = Runner.__new__(Runner)
        runner.lab = lab  # type: ignore[assignment]
        runner.progress = SimpleNamespace(say=lambda text: None)  # type: ignore[assignment]
        started = asyncio.Event()
        done: list[Any] = []
        phase = Phase("p", "none", probe=True, actions=(Action(0.1, "cut", "wifi"),))
        steps = asyncio.create_task(runner._steps(phase, started, done))
        await asyncio.sleep(0.3)  # the probe's processes are slow to start
        assert not lab.cuts and not done
        running = lab.now()
        started.set()
        await steps
        return running, lab.cuts, done

    running, cuts, done = asyncio.run(scene())
    ((access, at),) = cuts
    assert access == "wifi" and at >= running + 0.1
    assert done[0][1] >= running + 0.1


def test_a_window_lasts_until_its_step_is_over() -> None:
    """A re-key that took 0.8 s on a busy machine had its new connection's first packets in no window: paths.both_carry failed."""
    opened: list[tuple[bool, float]] = []

    async def scene() -> float:
        lab = QuietLab()
        lab.capture = SimpleNamespace(window=lambda open_, now: opened.append((open_, now)))
        over = 0.0

        async def rekey(by: str) -> None:
            nonlocal over
            await asyncio.sleep(0.8)
            over = lab.now()

        lab.rekey = rekey
        runner = Runner.__new__(Runner)
        runner.lab = lab  # type: ignore[assignment]
        runner.progress = SimpleNamespace(say=lambda text: None)  # type: ignore[assignment]
        started = asyncio.Event()
        started.set()
        await runner._steps(Phase("p", "none", actions=(Action(0.0, "rekey", "core"),)), started, [])
        return over

    over = asyncio.run(scene())
    assert [open_ for open_, _ in opened] == [True, False] and opened[1][1] >= over + 0.4


def test_an_access_that_stands_by_for_its_rule_need_not_be_found_dead() -> None:
    """`only: wifi` with a rule that keeps 3gpp for a failure: the run ended, as no traffic could find out that 3gpp was cut."""

    def path(access: str, state: str, reason: str = "") -> dict[str, Any]:
        return {"access": access, "state": state, "reason": reason}

    assert trusted([path("wifi", "active"), path("3gpp", "standby", path_reason(lib.REASON_STANDBY_BY_RULE, 2))]) == {"wifi"}
    assert trusted([path("wifi", "active"), path("3gpp", "standby", path_reason(lib.REASON_PEER_BACKUP))]) == {"wifi"}
    shorter = path("3gpp", "standby", path_reason(lib.REASON_SHORTER_ELSEWHERE))
    assert trusted([path("wifi", "active", "no flow"), shorter]) == {"wifi", "3gpp"}
    assert trusted([path("wifi", "failed", "no answer"), path("3gpp", "suspect", "no answer")]) == set()

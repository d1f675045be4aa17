"""An AMF that answers late, never, with 5xx, or after nobody waits any more (bars R-126): retries are bounded, the UPF is told by a
cause, and the key in force stays so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from core_kit import Core, run
from core_steps import acknowledge, first_key, in_force, next_container, rekey, session, until, upf_keys

from control.sbi import client as sbi_client
from control.sbi.server import Request, Response
from fiveg.nas.gmm import DeregistrationRequest
from fiveg.pfcp.codes import Cause, KeyReason
from fiveg.sbi.errors import SbiError

LIMIT_S = 0.3
NEVER_S = 60.0
KEYS = "mpquic-keys"


class Amf:
    """In front of the AMF's key service: `how` it answers a request for a key, and how often it was asked."""

    def __init__(self, core: Core) -> None:
        self.asked, self.how = 0, "well"
        self.held = asyncio.Event()
        self._handle = core.amf.keys.handle
        core.amf.keys.handle = self.handle

    async def handle(self, request: Request) -> Any:
        if request.method != "POST" or not request.path.endswith(KEYS):
            return await self._handle(request)
        self.asked += 1
        match self.how:
            case "well":
                return await self._handle(request)
            case "never":
                await asyncio.sleep(NEVER_S)
            case "late":  # it has made the key, and nobody waits for the answer any more
                answer = await self._handle(request)
                await self.held.wait()
                return answer
            case "empty":
                return Response(201, b"{}")
            case "html":
                return Response(201, b"<p>201</p>", "text/html")
            case "cut":  # a multipart whose parts are missing
                return Response(201, b"--x--\r\n", 'multipart/related; boundary="x"')
        raise SbiError(int(self.how), "SYSTEM_FAILURE", "as told")


async def asks(core: Core) -> Any:
    """The UPF asks for a key; the SMF's answer to its report."""
    before = len(core.upf.report_answers)
    core.upf.ask(next(iter(core.upf.sessions)), KeyReason.PACKET_LIMIT)
    await core.upf.until(lambda: len(core.upf.report_answers) > before)
    return core.upf.report_answers[-1]


def keys_of(core: Core) -> Any:
    return next(iter(core.smf.contexts.values())).keys


@contextmanager
def hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls that begin in here wait `LIMIT_S` for their answer; all others as long as a busy machine may need."""
    with monkeypatch.context() as patch:
        patch.setattr(sbi_client, "ANSWER_LIMIT", LIMIT_S)
        patch.setattr(sbi_client, "BACKOFF", 0.01)
        yield


@pytest.mark.parametrize("how", ["500", "503", "504", "never", "late", "empty", "html", "cut"])
def test_the_old_key_stays_in_force(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    async def main() -> None:
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            amf, held = Amf(core), list(upf_keys(core))
            amf.how = how
            with hurry(monkeypatch):
                answer = await asks(core)
            assert answer.cause is not Cause.ACCEPTED and answer.cause.value >= 64
            assert 1 <= amf.asked <= sbi_client.ATTEMPTS  # 503 alone is worth another try at once (RFC 9110 §15.6.4)
            assert in_force(core) == 1 and upf_keys(core) == held
            assert keys_of(core).state.name == "IN_FORCE"
            assert core.smf_counters.get("key.amf_refused") == 1
            asked = amf.asked
            amf.held.set()
            amf.how = "well"
            answer = await asks(core)  # and the next procedure is not the last one's
            assert answer.cause is Cause.ACCEPTED and amf.asked == asked + 1
            while True:
                access, provision = await next_container(ue)
                acknowledge(ue, access, provision)
                if provision.generation == upf_keys(core)[-1][0]:
                    break
            await until(lambda: in_force(core) == upf_keys(core)[-1][0] > 1)
            assert upf_keys(core)[-1][1] == provision.key
            ue.close()

    run(main())


def test_an_answer_for_a_session_that_is_gone_does_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The UE leaves while the SMF waits for its key: the answer that comes then goes nowhere."""

    async def main() -> None:
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            amf = Amf(core)
            amf.how = "late"
            with hurry(monkeypatch):
                core.upf.ask(next(iter(core.upf.sessions)), KeyReason.LIFETIME)
                await until(lambda: amf.asked)
            installed = len(upf_keys(core))
            for access in ("3gpp", "non-3gpp"):
                ue.say(access, DeregistrationRequest(deregistration_type=9 if access == "3gpp" else 10, identity=ue.guti))
            await until(lambda: not core.smf.contexts and core.upf.deleted)
            amf.held.set()
            await until(lambda: not core.smf.n4._tasks)
            assert len(upf_keys(core)) == installed and core.amf.ues() == []
            assert not [name for name in core.smf_counters.snapshot() if "fault" in name]
            ue.close()

    run(main())


def test_the_command_says_that_no_key_came(tmp_path: Any) -> None:
    async def main() -> None:
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            amf = Amf(core)
            amf.how = "500"
            with pytest.raises(Exception, match="no new key"):
                await rekey(core, ue)
            assert in_force(core) == 1
            ue.close()

    run(main())

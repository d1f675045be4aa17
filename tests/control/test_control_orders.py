"""The messages of a registration in every order, and each of them lost (bars R-111): the table refuses or repeats, and what follows
is served."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from core_kit import Core, run, with_core
from ue_script import CAPABILITY, SNN, Closed, ScriptedUe

from control.amf import registration
from fiveg import keys
from fiveg.nas.gmm import (
    AuthenticationRequest,
    AuthenticationResponse,
    IdentityRequest,
    IdentityResponse,
    RegistrationAccept,
    RegistrationComplete,
    SecurityModeCommand,
    SecurityModeComplete,
    decode,
)
from fiveg.nas.identity import Guti, Suci
from fiveg.nas_security import NasSecurityContext, Role, Sht, header_type, peek

STEPS = ("request", "response", "secured", "complete")
"""of a registration by SUCI, as they should come"""
ORDERS = list(itertools.permutations((*STEPS, "identity")))
RIGHT = [order for order in ORDERS if [step for step in order if step != "identity"] == list(STEPS)]


async def until(condition: Callable[[], bool]) -> None:
    """As core_steps.until, which sleeps: here are a thousand of them."""
    while not condition():  # noqa: ASYNC110  (another task's state)
        await asyncio.sleep(0)


class Shuffled:
    """A UE that says what it is told to, with whatever it has: true answers where it was asked, else such of its own making."""

    def __init__(self, core: Core) -> None:
        self.core, self.ue, self.heard = core, core.ue(), 0
        self.challenge: AuthenticationRequest | None = None
        self.accepted = False
        self.security = self._security(bytes(32))

    @staticmethod
    def _security(k_amf: bytes) -> NasSecurityContext:
        return NasSecurityContext(k_amf, 0, Role.UE)

    async def say(self, step: str) -> None:
        """And hear what the AMF has to say to it; Closed when it hangs up."""
        counters = self.core.amf_counters
        before, sent = counters.get("n1.received"), counters.get("n1.sent")
        self.ue.send("3gpp", getattr(self, step)())
        await until(lambda: counters.get("n1.received") > before or not self.open)
        for _ in range(counters.get("n1.sent") - sent):
            self._take(await self.ue.receive("3gpp"))
        if not self.open:
            raise Closed

    @property
    def open(self) -> bool:
        return any(c.open for c in self.core.amf.n1._connections)

    def _take(self, pdu: bytes) -> None:
        kind = header_type(pdu)
        if kind is Sht.INTEGRITY_NEW:
            command = decode(peek(pdu))
            assert isinstance(command, SecurityModeCommand)
            self.security.unprotect(pdu, "3gpp")
            return
        message = decode(pdu if kind is Sht.PLAIN else self.security.unprotect(pdu, "3gpp").plain)
        if isinstance(message, AuthenticationRequest):
            self.challenge = message
        self.accepted |= isinstance(message, RegistrationAccept)

    # ---- what there is to say

    def request(self) -> bytes:
        return self.ue.request().encode()

    def identity(self) -> bytes:
        return IdentityResponse(identity=Suci.of(self.ue.supi, 2)).encode()

    def response(self) -> bytes:
        if self.challenge is None:
            return AuthenticationResponse(res_star=bytes(16)).encode()
        answer = self.ue.usim.answer(self.challenge.rand, self.challenge.autn, SNN)
        self.security = self._security(keys.k_amf(answer.k_seaf, self.ue.supi, self.challenge.abba))
        return AuthenticationResponse(res_star=answer.res_star).encode()

    def secured(self) -> bytes:
        return self.security.protect(SecurityModeComplete(nas_message=self.ue.request()).encode(), "3gpp", Sht.CIPHERED_NEW)

    def complete(self) -> bytes:
        return self.security.protect(RegistrationComplete().encode(), "3gpp")


async def in_order(core: Core, order: tuple[str, ...]) -> None:
    shuffled, done = Shuffled(core), core.amf_events.names().count("registered")
    await shuffled.ue.connect("3gpp")
    await until(lambda: shuffled.open)
    for step in order:
        await shuffled.say(step)  # no order is a reason to hang up
    registered = core.amf_events.names().count("registered") - done
    assert registered == (order in RIGHT), order
    if not registered:  # an exit: on the same connection, from wherever it stands
        shuffled.challenge = None
        for step in STEPS:
            await shuffled.say(step)
        assert core.amf_events.names().count("registered") == done + 1, order
    assert len(core.amf.ues()) == 1 and not core.amf.ues()[0].registering
    shuffled.ue.close()
    await until(lambda: not core.amf.n1._connections)


@with_core(upf=False)
async def test_five_messages_in_every_order(core: Core) -> None:
    assert len(ORDERS) == 120 and len(RIGHT) == 5
    for order in ORDERS:
        await in_order(core, order)
    assert core.amf_counters.get("n1.unexpected_identity") > 0 and core.amf_counters.get("n1.ignored.res_right") > 0
    assert not [name for name in core.amf_counters.snapshot() if ".fault." in name]


LOST: dict[str, type[Any]] = {
    "identity request": IdentityRequest,
    "authentication request": AuthenticationRequest,
    "security mode command": SecurityModeCommand,
    "registration accept": RegistrationAccept,
}


@pytest.mark.parametrize("lost", LOST)
def test_each_message_lost_once_is_repeated(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """T3570, T3560, T3550. Whether the message or its answer was lost is one and the same to the AMF."""
    monkeypatch.setattr(registration, "T_N1", 0.05)

    async def main() -> None:
        async with Core(tmp_path, upf=False) as core:
            ue = Losing(core, LOST[lost])
            await ue.register_by_guti()
            assert core.amf_counters.get("n1.repeated") == 1 and ue.lost == 1
            await until(lambda: core.amf_events.names().count("registered") == 1)
            ue.ue.close()

    run(main())


@pytest.mark.parametrize("lost", LOST)
def test_a_ue_that_is_silent_from_there_on_is_let_go(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    monkeypatch.setattr(registration, "T_N1", 0.02)

    async def main() -> None:
        async with Core(tmp_path, upf=False) as core:
            ue = Losing(core, LOST[lost], times=registration.REPETITIONS + 1)
            with pytest.raises(Closed):
                await ue.register_by_guti()
            assert core.amf_counters.get("n1.registration_aborted") == 1
            assert not [u for u in core.amf.ues() if u.registering]
            ue.ue.close()
            other = core.ue()
            await other.register()
            other.close()

    run(main())


class Losing:
    """A UE whose link loses the first `times` messages of one kind. It comes with a 5G-GUTI that nobody knows, so that the
    registration has all four steps."""

    def __init__(self, core: Core, kind: type[Any], times: int = 1) -> None:
        self.ue: ScriptedUe = core.ue()
        self._kind, self._times, self.lost = kind, times, 0
        self._heard: set[type[Any]] = set()

    async def hear(self, kind: type[Any]) -> tuple[bytes, Any]:
        while True:
            pdu = await self.ue.receive("3gpp")
            sht = header_type(pdu)
            if sht is Sht.INTEGRITY_NEW:
                message = decode(peek(pdu))
            else:
                message = decode(pdu if sht is Sht.PLAIN else self.ue.security.unprotect(pdu, "3gpp").plain)
            if isinstance(message, self._kind) and self.lost < self._times:
                self.lost += 1
                continue
            if type(message) in self._heard and not isinstance(message, kind):
                continue  # repeated: the answer to it was under way when its timer ended
            assert isinstance(message, kind), message
            self._heard.add(type(message))
            return pdu, message

    async def register_by_guti(self) -> None:
        ue = self.ue
        await ue.connect("3gpp")
        ue.send("3gpp", ue.request(Guti("001", "01", 1, 1, 0, b"gone")).encode())
        await self.hear(IdentityRequest)
        ue.send("3gpp", IdentityResponse(identity=Suci.of(ue.supi, 2)).encode())
        _, challenge = await self.hear(AuthenticationRequest)
        answer = ue.usim.answer(challenge.rand, challenge.autn, SNN)
        ue.send("3gpp", AuthenticationResponse(res_star=answer.res_star).encode())
        pdu, command = await self.hear(SecurityModeCommand)
        ue.security = NasSecurityContext(keys.k_amf(answer.k_seaf, ue.supi, challenge.abba), command.ngksi, Role.UE)
        ue.security.unprotect(pdu, "3gpp")
        assert command.capability == CAPABILITY
        ue.say("3gpp", SecurityModeComplete(nas_message=ue.request()), Sht.CIPHERED_NEW)
        await self.hear(RegistrationAccept)
        ue.say("3gpp", RegistrationComplete())

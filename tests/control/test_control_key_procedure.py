"""The SMF's key procedure alone: every order of answers, every failure, and what stays in force (R-126, R-127)."""

import asyncio

import pytest

from control.errors import PfcpRefused, PfcpUnreachable, ProcedureFailed, SbiUnreachable
from control.smf.key_procedure import TABLE, Event, KeyProcedure, State
from fiveg.keys import fingerprint
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import KeyReason, MpquicKeyCreatedData, N1Delivery
from node.counters import Counters
from node.events import EventList, Events


class Operations:
    """Records what is asked; each step waits for its gate, and can be told to fail."""

    def __init__(self):
        self.asked, self.installed, self.revoked_upf, self.revoked_amf = [], [], [], []
        self.generation = 0
        self.amf_error = self.upf_error = None
        self.amf_gate, self.upf_gate = asyncio.Event(), asyncio.Event()
        self.amf_gate.set()
        self.upf_gate.set()

    async def ask_amf(self, reason, held):
        self.asked.append((reason, held))
        await self.amf_gate.wait()
        if self.amf_error:
            raise self.amf_error
        self.generation += 1
        key = bytes([self.generation] * 32)
        return MpquicKeyCreatedData(generation=self.generation, key=key, lifetime=3600, n1_delivery=N1Delivery.INITIATED)

    async def install_at_upf(self, generation, key, lifetime):
        await self.upf_gate.wait()
        if self.upf_error:
            raise self.upf_error
        self.installed.append((generation, key, lifetime))

    async def revoke_at_upf(self, generation):
        self.revoked_upf.append(generation)

    async def revoke_at_amf(self, generation):
        self.revoked_amf.append(generation)


class Bench:
    def __init__(self):
        self.ops, self.sink, self.counters = Operations(), EventList(), Counters()
        self.keys = KeyProcedure(self.ops, Events(self.sink), self.counters)

    async def first_key(self):
        await self.keys.start(KeyReason.INITIAL).installed
        self.keys.ue_verdict(1, True)
        assert self.keys.state is State.IN_FORCE and self.keys.in_force == 1

    async def drain(self):
        while self.keys._tasks:
            await asyncio.gather(*self.keys._tasks)


def run(work):
    async def limited():
        async with asyncio.timeout(10):
            await work(Bench())

    asyncio.run(limited())


def test_first_key_and_a_rekey():
    async def main(b):
        assert b.keys.state is State.NO_KEY
        await b.first_key()
        assert b.ops.installed == [(1, bytes([1] * 32), 3600)] and b.sink.items == []
        run = b.keys.start(KeyReason.POLICY)
        assert await run.answered == 2 and await run.installed == 2
        assert b.keys.state is State.DELIVERING and b.keys.in_force == 1
        b.keys.ue_verdict(2, True)
        assert b.keys.in_force == 2 and b.ops.asked == [(KeyReason.INITIAL, 0), (KeyReason.POLICY, 1)]
        assert b.sink.of("rekey_done") == [{"generation": 2, "fingerprint": fingerprint(bytes([2] * 32))}]

    run(main)


def test_the_ue_may_be_faster_than_the_answer():
    async def main(b):
        b.ops.amf_gate.clear()
        run = b.keys.start(KeyReason.INITIAL)
        b.keys.ue_verdict(1, True)  # the AMF sends 5b at once: its notification overtakes 5a
        b.ops.amf_gate.set()
        await run.installed
        assert b.keys.state is State.IN_FORCE and b.keys.in_force == 1

    run(main)


def test_the_ue_may_be_faster_than_the_upf():
    async def main(b):
        b.ops.upf_gate.clear()
        run = b.keys.start(KeyReason.INITIAL)
        await run.answered
        b.keys.ue_verdict(1, True)
        assert b.keys.state is State.INSTALLING
        b.ops.upf_gate.set()
        await run.installed
        assert b.keys.state is State.IN_FORCE

    run(main)


def test_who_asks_meanwhile_joins():
    async def main(b):
        b.ops.amf_gate.clear()
        first, second = b.keys.start(KeyReason.INITIAL), b.keys.start(KeyReason.POLICY)
        assert first is second
        b.ops.amf_gate.set()
        await first.installed
        assert len(b.ops.asked) == 1 and b.counters.get("key.joined") == 1

    run(main)


@pytest.mark.parametrize("error", [SbiError(403, "MPQUIC_KEY_NOT_ALLOWED"), SbiUnreachable("amf.local: ReadTimeout")])
@pytest.mark.parametrize("rekey", [False, True])
def test_a_refusal_of_the_amf(error, rekey):
    async def main(b):
        if rekey:
            await b.first_key()
        b.ops.amf_error = error
        run = b.keys.start(KeyReason.POLICY)
        with pytest.raises(ProcedureFailed):
            await run.installed
        with pytest.raises(ProcedureFailed):
            await run.answered
        assert b.keys.state is (State.IN_FORCE if rekey else State.NO_KEY)
        assert b.keys.in_force == b.keys.held == int(rekey) and len(b.ops.installed) == int(rekey)

    run(main)


@pytest.mark.parametrize("rekey", [False, True])
def test_a_refusal_of_the_upf_takes_the_key_back_at_the_amf(rekey):
    async def main(b):
        if rekey:
            await b.first_key()
        b.ops.upf_error = PfcpRefused("no", 69)
        run = b.keys.start(KeyReason.POLICY)
        generation = await run.answered
        with pytest.raises(ProcedureFailed):
            await run.installed
        await b.drain()
        assert b.ops.revoked_amf == [generation] and b.ops.revoked_upf == []
        assert b.keys.state is (State.IN_FORCE if rekey else State.NO_KEY)

    run(main)


def test_a_ue_that_refuses_leaves_the_old_key_in_force():
    async def main(b):
        await b.first_key()
        await b.keys.start(KeyReason.POLICY).installed
        b.keys.ue_verdict(2, False)
        await b.drain()
        assert b.keys.state is State.IN_FORCE and b.keys.in_force == 1
        assert b.ops.revoked_upf == [2] and b.ops.revoked_amf == [2]
        assert b.sink.of("key_refused") == [{"generation": 2, "by": "ue"}]
        await b.keys.start(KeyReason.POLICY).installed
        b.keys.ue_verdict(3, True)
        assert b.keys.in_force == 3

    run(main)


def test_old_verdicts_change_nothing():
    async def main(b):
        await b.first_key()
        for generation, has_it in ((1, False), (1, True), (9, True)):
            b.keys.ue_verdict(generation, has_it)
        assert b.keys.state is State.IN_FORCE and b.keys.in_force == 1 and b.ops.revoked_upf == []
        assert b.counters.get("key.stale_verdict") == 3

    run(main)


def test_release_ends_what_runs():
    async def main(b):
        b.ops.amf_gate.clear()
        run = b.keys.start(KeyReason.INITIAL)
        b.keys.close()
        with pytest.raises(ProcedureFailed):
            await run.answered
        with pytest.raises(ProcedureFailed):
            b.keys.start(KeyReason.INITIAL)
        assert b.keys.state is State.CLOSED

    run(main)


def test_every_cell_of_the_table():
    """No state without an exit, and nothing but release leaves `closed`."""
    for state in State:
        exits = {target for (s, _), (target, _) in TABLE.items() if s is state}
        assert exits - {state} or state is State.CLOSED
    assert {e for (s, e) in TABLE if s is State.CLOSED} == {Event.RELEASED}


@pytest.mark.parametrize("when", ["while it asks", "after the refusal", "refused by the UE"])
def test_a_refused_question_does_not_end_the_delivery_before_it(when):
    """Generation 2 is at the UPF and on its way to the UE; generation 3 is refused (429): generation 2 still counts."""

    async def main(b):
        await b.first_key()
        await b.keys.start(KeyReason.POLICY).installed
        b.ops.amf_gate.clear()
        b.ops.amf_error = SbiError(429, "TOO_MANY_KEYS")
        refused = b.keys.start(KeyReason.POLICY)
        if when == "while it asks":
            b.keys.ue_verdict(2, True)
        b.ops.amf_gate.set()
        with pytest.raises(ProcedureFailed):
            await refused.answered
        if when != "while it asks":
            assert b.keys.state is State.DELIVERING
            b.keys.ue_verdict(2, when == "after the refusal")
        await b.drain()
        assert b.keys.state is State.IN_FORCE
        assert b.keys.in_force == (1 if when == "refused by the UE" else 2)
        assert b.ops.revoked_upf == ([2] if when == "refused by the UE" else [])

    run(main)


@pytest.mark.parametrize("step", ["ask_amf", "install_at_upf"])
def test_a_fault_of_ours_does_not_keep_the_next_procedure_waiting(step):
    async def main(b):
        await b.first_key()
        good = getattr(b.ops, step)

        async def faulty(*_):
            raise KeyError("a fault")

        setattr(b.ops, step, faulty)
        broken = b.keys.start(KeyReason.POLICY)
        with pytest.raises(ProcedureFailed, match="KeyError"):
            await broken.installed
        assert b.keys.state is State.IN_FORCE and b.counters.get("key.fault") == 1
        setattr(b.ops, step, good)
        assert await b.keys.start(KeyReason.POLICY).installed > 1

    run(main)


def test_a_key_whose_installation_was_never_answered_is_taken_back_at_the_upf_too():
    async def main(b):
        b.ops.upf_error = PfcpUnreachable("the UPF does not answer")
        run = b.keys.start(KeyReason.INITIAL)
        with pytest.raises(ProcedureFailed):
            await run.installed
        await b.drain()
        assert b.ops.revoked_upf == [1] and b.ops.revoked_amf == [1]

    run(main)


def test_what_is_held_after_a_key_was_taken_back_is_the_key_in_force():
    async def main(b):
        await b.first_key()
        await b.keys.start(KeyReason.POLICY).installed
        b.keys.ue_verdict(2, False)
        assert (b.keys.held, b.keys.fingerprint) == (1, fingerprint(bytes([1] * 32)))

    run(main)


def test_a_key_in_use_is_in_force_though_the_amfs_word_was_lost():
    async def main(b):
        await b.first_key()
        await b.keys.start(KeyReason.POLICY).installed
        b.keys.in_use(1)
        assert b.keys.state is State.DELIVERING
        b.keys.in_use(2)
        b.keys.in_use(2)
        assert b.keys.state is State.IN_FORCE and b.keys.in_force == 2 and b.counters.get("key.stale_verdict") == 0

    run(main)

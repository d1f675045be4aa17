"""What goes wrong around the SMF's contexts while they are set up, released and restored: afterwards UPF, pool and AMF agree."""

import asyncio

import pytest
from core_kit import Core, run, with_core
from core_steps import PSI, acknowledge, establishment, first_key, in_force, next_container, rekey, session, until

from control.smf import sm_context
from fiveg.nas import gsm
from fiveg.nas.causes import GsmCause
from fiveg.nas.gmm import PayloadType
from fiveg.pfcp.message import SessionDeletionRequest, SessionEstablishmentRequest


def listen_again(upf):
    """The UPF answers what it was silent about: its transactions forget that they have seen the request."""
    upf.silent = set()
    upf.transactions._peers.clear()


async def gone(core, free):
    """Neither SMF nor UPF has the session, and its address is back."""
    await until(lambda: not core.smf.contexts and not core.upf.sessions)
    assert core.smf.pool.free == free and not core.smf._by_seid


@with_core()
async def test_a_session_released_while_the_upf_makes_it_is_deleted_there(core):
    free = core.smf.pool.free
    core.upf.silent = {SessionEstablishmentRequest}
    ue = core.ue()
    await ue.register()
    ue.ask_session("3gpp", PSI, establishment())
    await until(lambda: core.smf.pool.free < free)
    context = next(iter(core.smf.contexts.values()))
    release = asyncio.create_task(context.amf_releases())
    await asyncio.sleep(0.05)
    assert core.smf.pool.free < free  # the address is not another's while the UPF may still give it to this session
    listen_again(core.upf)
    await release
    await gone(core, free)
    assert len(core.upf.deleted) == 1
    ue.close()


@with_core()
async def test_an_amf_that_goes_away_does_not_stop_a_release_half_way(core):
    """RST_STREAM, or the AMF's own time limit, cancels the handler; the release goes on."""
    free = core.smf.pool.free
    ue, _ = await session(core)
    await first_key(core, ue)
    core.upf.silent = {SessionDeletionRequest}
    client = core.nf("amf", "smf")
    ref = next(iter(core.smf.contexts))
    call = asyncio.create_task(client.call("POST", f"/nsmf-pdusession/v1/sm-contexts/{ref}/release"))
    await until(lambda: core.smf.contexts[ref].state.name == "RELEASED")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await client.close()
    await until(lambda: not core.smf.sbi._tasks)  # the handler is gone
    listen_again(core.upf)
    await gone(core, free)
    ue.close()


def test_a_release_that_the_ue_never_completes(tmp_path, monkeypatch):
    """T3592: the command comes again, then the session ends without the UE."""
    monkeypatch.setattr(sm_context, "T3592", 0.05)

    async def main():
        async with Core(tmp_path) as core:
            free = core.smf.pool.free
            ue, _ = await session(core)
            await first_key(core, ue)
            ue.sm("3gpp", PSI, gsm.ReleaseRequest(pdu_session_id=PSI, pti=9).encode())
            for _ in range(1 + sm_context.T3592_REPETITIONS):
                message = await ue.down("3gpp")
                assert message.payload_type == PayloadType.N1_SM
                command = gsm.decode(message.payload)
                assert isinstance(command, gsm.ReleaseCommand) and command.pti == 9
            await gone(core, free)
            await until(lambda: not core.amf.ues()[0].sessions)
            assert core.smf_counters.get("sm.released_without_the_ue") == 1
            ue.close()

    run(main())


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), ValueError("another")])
def test_a_fault_of_ours_undoes_the_session(tmp_path, monkeypatch, fault):
    def broken(*_):
        raise fault

    async def main():
        async with Core(tmp_path) as core:
            free = core.smf.pool.free
            ue = core.ue()
            await ue.register()
            monkeypatch.setattr(sm_context, "accept", broken)
            ue.ask_session("3gpp", PSI, establishment())
            reject = gsm.decode((await ue.down("3gpp")).payload)
            assert isinstance(reject, gsm.EstablishmentReject) and reject.cause == GsmCause.NETWORK_FAILURE
            await gone(core, free)
            await until(lambda: core.smf_counters.get(f"sm.fault.{type(fault).__name__}") == 1)
            ue.close()

    run(main())


@with_core()
async def test_a_upf_that_starts_again_while_the_accept_is_on_its_way(core):
    call, held = core.smf.amf.call, asyncio.Event()

    async def slow(method, path, *args, **more):
        if path.endswith("n1-n2-messages"):
            await held.wait()
        return await call(method, path, *args, **more)

    core.smf.amf.call = slow
    ue = core.ue()
    await ue.register()
    ue.ask_session("3gpp", PSI, establishment())
    await until(lambda: core.upf.sessions)
    before = core.smf.n4.association
    core.upf.restart()
    await until(lambda: core.smf.n4.association not in (None, before))
    held.set()
    assert isinstance(gsm.decode((await ue.down("3gpp")).payload), gsm.EstablishmentAccept)
    access, provision = await next_container(ue)
    acknowledge(ue, access, provision)
    await until(lambda: in_force(core) == provision.generation)
    assert len(core.upf.sessions) == 1
    ue.close()


@with_core()
async def test_two_restarts_at_once_restore_a_session_once(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    context = next(iter(core.smf.contexts.values()))
    core.upf.restart()
    await asyncio.gather(context.restore(), context.restore())
    await until(lambda: core.upf.sessions)
    await asyncio.sleep(0.1)
    assert len(core.upf.sessions) == 1 and context.up_seid in core.upf.sessions
    ue.close()


@with_core()
async def test_a_session_that_the_upf_does_not_know_is_restored(core):
    """R-88: no restart was seen; the UPF says so when its key comes."""
    ue, accept = await session(core)
    await first_key(core, ue)
    core.upf.sessions.clear()
    command = asyncio.create_task(rekey(core, ue))
    await asyncio.gather(command, return_exceptions=True)
    await until(lambda: core.upf.sessions)
    restored = next(iter(core.upf.sessions.values()))
    assert restored.create_pdrs[-1].pdi.ue_ip_address.ipv4 == accept.address.ipv4
    assert core.smf_counters.get("sm.unknown_to_the_upf") == 1
    ue.close()

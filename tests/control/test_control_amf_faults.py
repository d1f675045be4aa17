"""What goes wrong around the AMF's contexts, sessions and connections, and what must be left behind then: nothing half made."""

import asyncio

import pytest
from core_kit import Core, run, with_core
from core_steps import PSI, acknowledge, establishment, first_key, in_force, next_container, rekey, session, until

from control.amf import n1_server, registration, transport
from control.amf.transport import CONTEXTS, N1_PART
from fiveg.key_container import KeyContainerType
from fiveg.nas import gsm
from fiveg.nas.causes import GmmCause
from fiveg.nas.gmm import DeregistrationRequest, GmmStatus, IdentityRequest, RegistrationAccept
from fiveg.nas.identity import Suci
from fiveg.nas_security import COUNT_LIMIT, COUNT_RESERVE, Sht
from fiveg.sbi import multipart
from fiveg.sbi.errors import SbiError
from node.errors import VerbError


@with_core()
async def test_a_session_for_which_there_is_no_room_is_not_left_half_made(core, monkeypatch):
    ue = core.ue()
    await ue.register()
    with monkeypatch.context() as limited:
        limited.setattr(transport, "MOST_TASKS_PER_UE", 0)
        ue.ask_session("3gpp", PSI, establishment())
        assert (await ue.down("3gpp")).cause == GmmCause.PAYLOAD_WAS_NOT_FORWARDED
    assert core.amf.ues()[0].sessions == {}
    ue.ask_session("3gpp", PSI, establishment())
    assert isinstance(gsm.decode((await ue.down("3gpp")).payload), gsm.EstablishmentAccept)
    made = core.amf.ues()[0].sessions[PSI]
    with monkeypatch.context() as limited:
        limited.setattr(transport, "MOST_TASKS_PER_UE", 0)
        ue.ask_session("3gpp", PSI, establishment())
        while (await ue.down("3gpp")).cause != GmmCause.PAYLOAD_WAS_NOT_FORWARDED:
            pass
    assert core.amf.ues()[0].sessions[PSI] is made and core.smf.contexts
    ue.close()


@with_core()
async def test_a_context_made_for_a_ue_that_has_left_is_released_at_the_smf(core):
    """The UE deregisters while the answer to CreateSMContext is on its way: nobody else would release that context."""
    held, call = asyncio.Event(), core.amf.smf.call

    async def slow(method, path, *args, **more):
        reply = await call(method, path, *args, **more)
        if path == CONTEXTS:
            await held.wait()
        return reply

    core.amf.smf.call = slow
    ue = core.ue()
    await ue.register()
    ue.ask_session("3gpp", PSI, establishment())
    assert isinstance(gsm.decode((await ue.down("3gpp")).payload), gsm.EstablishmentAccept)
    ue.say("3gpp", DeregistrationRequest(deregistration_type=9, identity=ue.guti))
    await until(lambda: not core.amf.ues())
    assert core.smf.contexts
    held.set()
    await until(lambda: not core.smf.contexts and core.upf.deleted)
    ue.close()


@with_core(upf=False)
async def test_a_deregistration_for_both_accesses_ends_both(core):
    ue = core.ue()
    await ue.register("3gpp")
    await ue.register_second("non-3gpp")
    ue.say("3gpp", DeregistrationRequest(deregistration_type=8 | 3, identity=ue.guti))
    assert await ue.closed("3gpp") and await ue.closed("non-3gpp")
    await until(lambda: not core.amf.ues())
    assert sorted(e["access"] for e in core.amf_events.of("deregistered")) == ["3gpp", "non-3gpp"]
    await ue.register("3gpp")
    ue.close()


# ---- COUNT


@pytest.mark.parametrize("side", ["send", "received"])
@with_core(upf=False)
async def test_before_the_count_wraps_the_ue_authenticates_anew(core, side):
    ue = core.ue()
    await ue.register()
    old = core.amf.ues()[0]
    setattr(old.security._counts[1], side, COUNT_LIMIT - COUNT_RESERVE)
    if side == "received":  # both ends alike, so that the MACs stay right
        ue.security._counts[1].send = COUNT_LIMIT - COUNT_RESERVE + 1
    ue.say("3gpp", GmmStatus(cause=111))
    assert await asyncio.wait_for(ue.closed("3gpp"), 5.0)
    await ue.connect("3gpp")
    ue.say("3gpp", ue.request(ue.guti, ngksi=ue.security.ngksi), Sht.INTEGRITY)
    await ue.hear("3gpp", IdentityRequest)
    await ue.register()
    assert core.amf.ues()[0].security is not old.security
    assert core.amf_counters.get("nas.count_exhausted") >= 1
    ue.close()


@with_core(upf=False)
async def test_a_downlink_without_a_count_left_is_a_ue_that_cannot_be_reached(core):
    ue = core.ue()
    await ue.register()
    context = core.amf.ues()[0]
    context.sessions[PSI] = transport.SmSession.new(PSI, "3gpp", True, "0" * 32, "smf.local", 0.0)
    context.security._counts[1].send = COUNT_LIMIT
    body = b'{"n1MessageContainer":{"n1MessageClass":"SM","n1MessageContent":{"contentId":"n1SmMsg"}},"pduSessionId":5}'
    kind, octets = multipart.encode(body, (multipart.Part(N1_PART, b"\x2e\x05\x00\xd3\x24"),))
    client = core.nf("smf")
    with pytest.raises(SbiError) as e:
        await client.call("POST", f"/namf-comm/v1/ue-contexts/{ue.supi}/n1-n2-messages", octets, kind)
    assert (e.value.status, e.value.cause) == (504, "UE_NOT_REACHABLE")
    await client.close()
    ue.close()


# ---- connections


def test_a_connection_that_never_registers_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(registration, "T_SILENT", 0.1)

    async def main():
        async with Core(tmp_path, upf=False) as core:
            ue, silent = core.ue(), core.ue()
            await silent.connect("3gpp")
            await ue.register("non-3gpp")
            assert await silent.closed("3gpp")
            await asyncio.sleep(0.2)
            assert core.amf.status()["ues"][0]["accesses"] == ["non-3gpp"]  # who registered stays
            ue.close()

    run(main())


def test_strangers_that_fill_the_pool_do_not_keep_a_ue_out(tmp_path, monkeypatch):
    monkeypatch.setattr(n1_server, "MOST_CONNECTIONS", 3)

    async def main():
        async with Core(tmp_path, upf=False) as core:
            ue, strangers = core.ue(), [core.ue() for _ in range(5)]
            await ue.register("3gpp")
            for stranger in strangers:
                await stranger.connect("3gpp")
            await ue.register_second("non-3gpp")
            assert core.amf.status()["ues"][0]["accesses"] == ["3gpp", "non-3gpp"]
            assert core.amf_counters.get("n1.stranger_evicted") == 4
            for one in (ue, *strangers):
                one.close()

    run(main())


@with_core(upf=False)
async def test_nothing_is_read_from_a_connection_that_was_refused(core):
    ue = core.ue()
    before = core.amf.subscriber(ue.supi).sqn
    await ue.connect("3gpp")
    for octets in (ue.request(Suci.of("imsi-001019999999999", 2)).encode(), ue.request().encode()):
        ue.send("3gpp", octets)
    assert await ue.closed("3gpp")
    assert core.amf.subscriber(ue.supi).sqn == before
    ue.close()


@with_core(upf=False)
async def test_a_registration_given_up_for_the_old_context_leaves_no_mark(core):
    """Keys are refused while a UE registers: a security mode that nobody will ever complete must not refuse them for ever."""
    ue = core.ue()
    await ue.register("3gpp")
    context, security, guti = core.amf.ues()[0], ue.security, ue.guti
    await ue.authenticate("non-3gpp", await ue.challenge("non-3gpp"))
    assert context.registering
    ue.security = security
    ue.say("non-3gpp", ue.request(guti, ngksi=security.ngksi), Sht.INTEGRITY)
    await ue.hear("non-3gpp", RegistrationAccept)
    assert not context.registering and core.amf.ues() == [context]
    ue.close()


# ---- gone without a word


@pytest.mark.parametrize("how", ["both lost", "one lost, then deregistered over the other"])
@with_core(implicit_s=1)
async def test_a_ue_that_is_gone_is_deregistered_and_its_sessions_and_keys_with_it(core, how):
    ue, _ = await session(core)
    await first_key(core, ue)
    (context,) = core.amf.ues()
    made = context.sessions[PSI]
    k_amf, k_mpquic = context.k_amf, made.key.key
    assert k_amf and k_mpquic
    if how == "both lost":
        ue.close()
    else:
        ue.links["non-3gpp"][1].close()
        await until(lambda: not context.connections["non-3gpp"].open)
        ue.say("3gpp", DeregistrationRequest(deregistration_type=9, identity=ue.guti))
    await until(lambda: not core.amf.ues())
    assert core.amf_counters.get("n1.implicit_deregistration") == 1
    assert [e["sessions"] for e in core.amf_events.of("deregistered_implicitly")] == [1]
    assert not k_amf and not k_mpquic and not context.sessions
    await until(lambda: not core.smf.contexts and core.upf.deleted)
    ue.close()


@with_core(implicit_s=1)
async def test_a_ue_with_one_access_left_is_not_gone(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    (context,) = core.amf.ues()
    ue.links["non-3gpp"][1].close()
    await until(lambda: not context.connections["non-3gpp"].open)
    await asyncio.sleep(1.5)  # longer than a UE without any access is waited for: a busy machine makes it only longer
    assert core.amf.ues() == [context] and context.k_amf and context.sessions[PSI].key
    ue.close()


# ---- keys


@pytest.mark.parametrize("end", ["deregistration", "registration anew", "stop"])
@with_core(upf=False)
async def test_k_amf_is_wiped_when_its_context_ends(core, end):
    ue = core.ue()
    await ue.register()
    k_amf = core.amf.ues()[0].k_amf
    assert k_amf.reveal() == ue.k_amf
    if end == "deregistration":
        ue.say("3gpp", DeregistrationRequest(deregistration_type=9, identity=ue.guti))
        await until(lambda: not core.amf.ues())
    elif end == "registration anew":
        again = core.ue(sqn=ue.usim.sqn)
        await again.register()
        again.close()
    else:
        await core.amf.stop()
    assert not k_amf
    ue.close()


@with_core(schedule=(0.1, 0.1))
async def test_an_acknowledgement_of_a_key_that_was_taken_back_is_answered_with_revoke(core):
    """R-152: the container was late, the key is revoked at the UPF. The UE must not switch alone."""
    ue, _ = await session(core)
    await first_key(core, ue)
    with pytest.raises(VerbError):
        await rekey(core, ue)
    await until(lambda: core.upf.revoked == [2])
    while True:
        access, container = await next_container(ue)
        if container.type is KeyContainerType.REVOKE:
            break
        provision = container
    acknowledged = len(core.amf_events.of("key_acknowledged"))
    acknowledge(ue, access, provision)
    _, again = await next_container(ue)
    assert (again.type, again.generation) == (KeyContainerType.REVOKE, 2)
    assert len(core.amf_events.of("key_acknowledged")) == acknowledged and in_force(core) == 1
    ue.close()

"""PDU sessions over AMF, SMF and UPF: what is refused, undone, released and restored."""

import asyncio

import pytest
from core_kit import with_core
from core_steps import PSI, acknowledge, establishment, first_key, in_force, next_container, session, until

from fiveg.key_container import KeyCause, KeyContainer, KeyContainerType
from fiveg.nas import gsm
from fiveg.nas.causes import GmmCause, GsmCause
from fiveg.nas.gmm import GmmStatus, PayloadType, RequestType
from fiveg.pfcp.codes import Cause
from fiveg.pfcp.message import SessionEstablishmentRequest


@pytest.mark.parametrize("fault", ["refused", "no proxy", "no features", "silent"])
@with_core(upf=False)
async def test_a_session_that_the_upf_does_not_make_is_undone(core, fault):
    if fault == "no features":
        core.upf.features = frozenset()
    await core.smf.n4.associated()
    if fault == "refused":
        core.upf.establish_cause = Cause.NO_RESOURCES
    elif fault == "no proxy":
        core.upf.names_proxy = core.upf.asks_for_keys = False
    elif fault == "silent":
        core.upf.silent = {SessionEstablishmentRequest}
    free = core.smf.pool.free
    ue = core.ue()
    await ue.register()
    ue.ask_session("3gpp", PSI, establishment(pti=7))
    reject = gsm.decode((await ue.down("3gpp")).payload)
    assert isinstance(reject, gsm.EstablishmentReject) and reject.pti == 7
    await until(lambda: not core.smf.contexts and not core.amf.ues()[0].sessions)
    assert core.smf.pool.free == free and not core.upf.sessions
    core.upf.silent, core.upf.establish_cause, core.upf.names_proxy = set(), Cause.ACCEPTED, True
    if fault != "no features":
        ue.ask_session("3gpp", PSI, establishment(pti=8))
        assert isinstance(gsm.decode((await ue.down("3gpp")).payload), gsm.EstablishmentAccept)
    ue.close()


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (establishment(session_type=gsm.SessionType.ETHERNET), GsmCause.UNKNOWN_SESSION_TYPE),
        (establishment(capability=None), GsmCause.REQUEST_REJECTED),
        (establishment(capability=gsm.GsmCapability(mpquic_ip=False)), GsmCause.REQUEST_REJECTED),
        (establishment(pti=0), GsmCause.INVALID_PTI),
        (establishment()[:5], GsmCause.INVALID_MANDATORY_INFORMATION),
        (b"\x2e\x05\x01\xff", GsmCause.MESSAGE_TYPE_NON_EXISTENT),
        (gsm.ReleaseRequest(pdu_session_id=5, pti=1).encode(), GsmCause.MESSAGE_TYPE_NOT_COMPATIBLE),
    ],
)
@with_core()
async def test_requests_that_are_refused(core, payload, cause):
    await refused(core, payload, cause)


@with_core()
async def test_the_id_of_another_session_inside_is_refused(core):
    """R-107: the IDs of two requests crossed."""
    await refused(core, establishment(psi=6), GsmCause.INVALID_PDU_SESSION_IDENTITY)


async def refused(core, payload, cause):
    ue = core.ue()
    await ue.register()
    ue.ask_session("3gpp", PSI, payload)
    message = await ue.down("3gpp")
    reject = gsm.decode(message.payload)
    assert isinstance(reject, gsm.EstablishmentReject) and reject.cause == cause
    assert reject.pdu_session_id == PSI and not core.upf.sessions and not core.amf.ues()[0].sessions
    ue.close()


@with_core()
async def test_initial_request_type_without_multi_access_is_refused(core):
    ue = core.ue()
    await ue.register()
    ue.sm("3gpp", PSI, establishment(), RequestType.INITIAL)
    reject = gsm.decode((await ue.down("3gpp")).payload)
    assert reject.cause == GsmCause.REQUEST_REJECTED
    ue.sm("3gpp", PSI, establishment(), RequestType.MA_PDU, dnn="elsewhere")
    assert gsm.decode((await ue.down("3gpp")).payload).cause == GsmCause.UNKNOWN_DNN
    ue.close()


@with_core()
async def test_a_dnn_that_the_sbi_cannot_say_is_refused_and_leaves_nothing(core):
    """A DNN of NAS may have an underscore, Nsmf_PDUSession's may not: refused by name, its ID is free again, what had it stays."""
    ue = core.ue()
    await ue.register()
    payload = establishment()
    for sessions in (0, 1):
        ue.sm("3gpp", PSI, payload, RequestType.MA_PDU, dnn="inter_net")
        while (answer := await ue.down("3gpp")).payload_type != PayloadType.N1_SM:
            pass  # a key container
        assert (answer.cause, answer.payload) == (GmmCause.PAYLOAD_WAS_NOT_FORWARDED, payload)
        assert core.amf_counters.get("n1.value_not_allowed") == sessions + 1
        assert len(core.amf.ues()[0].sessions) == len(core.smf.contexts) == len(core.upf.sessions) == sessions
        if not sessions:
            ue.ask_session("3gpp", PSI, payload)
            assert isinstance(gsm.decode((await ue.down("3gpp")).payload), gsm.EstablishmentAccept)
    assert not [n for n in core.amf_counters.snapshot() if n.startswith("amf.fault")]
    ue.close()


@with_core()
async def test_ul_nas_transport_that_leads_nowhere(core):
    """R-103, R-107, R-109: no session, wrong kinds, containers for nobody."""
    ue = core.ue()
    await ue.register()
    ue.sm("3gpp", 5, gsm.ReleaseRequest(pdu_session_id=5, pti=1).encode())
    assert (await ue.down("3gpp")).cause == GmmCause.PAYLOAD_WAS_NOT_FORWARDED
    ue.ask_session("3gpp", 6, establishment(psi=6, pti=3)[:0])  # nothing in it
    reject = await ue.down("3gpp")
    assert reject.cause == GmmCause.PAYLOAD_WAS_NOT_FORWARDED or reject.payload_type == PayloadType.N1_SM
    ack = KeyContainer(type=KeyContainerType.ACK, transaction=1, generation=1, fingerprint=bytes(4))
    ue.container("3gpp", 5, ack.encode())
    refusal = KeyContainer.decode((await ue.down("3gpp")).payload)
    assert (refusal.type, refusal.cause) == (KeyContainerType.REJECT, KeyCause.UNKNOWN_SESSION)
    for junk in (b"", b"\x01", ack.encode()[:-1], bytes(40)):
        ue.container("3gpp", 5, junk)
    ue.say("3gpp", GmmStatus(cause=111))
    await until(lambda: core.amf_counters.get("nas.status_received"))
    assert core.amf_counters.get("mpquic_key.malformed_container") == 4
    assert not core.upf.sessions
    ue.close()


@pytest.mark.parametrize("psi", [0, 16, 255, None])
@with_core()
async def test_session_ids_that_cannot_be_lead_nowhere(core, psi):
    """R-107: 1 to 15 can be (TS 24.007 §11.2.3.1b); nothing is looked up by another, and the payload comes back."""
    ue = core.ue()
    await ue.register()
    payload = establishment(psi=psi or 0)
    ue.ask_session("3gpp", psi, payload)
    answer = await asyncio.wait_for(ue.down("3gpp"), 5.0)
    assert (answer.cause, answer.pdu_session_id, answer.payload) == (GmmCause.PAYLOAD_WAS_NOT_FORWARDED, psi, payload)
    assert core.amf_counters.get("n1.bad_pdu_session_id") == 1
    assert not core.amf.ues()[0].sessions and not core.upf.sessions
    ue.close()


@with_core()
async def test_a_new_request_for_an_id_in_use_releases_what_had_it(core):
    """R-107, TS 24.501 §5.4.5.2.5: one session has the ID, and the former one is gone at AMF, SMF and UPF."""
    ue, _ = await session(core)
    await first_key(core, ue)
    former = core.amf.ues()[0].sessions[PSI]
    ue.ask_session("3gpp", PSI, establishment(pti=9))
    accept = gsm.decode((await ue.down("3gpp")).payload)
    assert isinstance(accept, gsm.EstablishmentAccept) and accept.pti == 9
    now = core.amf.ues()[0].sessions[PSI]
    assert now is not former and now.ref != former.ref
    assert len(core.smf.contexts) == len(core.upf.sessions) == 1
    ue.close()


@with_core()
async def test_the_request_again_over_the_other_access(core):
    ue, accept = await session(core)
    await first_key(core, ue)
    ue.ask_session("non-3gpp", PSI, establishment(pti=4))
    again = gsm.decode((await ue.down("non-3gpp")).payload)
    assert again.pti == 4 and again.address == accept.address and again.atsss == accept.atsss
    assert len(core.upf.sessions) == 1
    ue.close()


@with_core()
async def test_release_by_the_ue(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    free = core.smf.pool.free
    ue.sm("3gpp", PSI, gsm.ReleaseRequest(pdu_session_id=PSI, pti=9).encode())
    command = gsm.decode((await ue.down("3gpp")).payload)
    assert isinstance(command, gsm.ReleaseCommand) and command.pti == 9
    ue.sm("3gpp", PSI, gsm.ReleaseComplete(pdu_session_id=PSI, pti=9).encode())
    await until(lambda: len(core.upf.deleted) == 1 and not core.amf.ues()[0].sessions)
    assert not core.smf.contexts and core.smf.pool.free == free + 1
    # A new session with the same ID: its generations go on.
    ue.ask_session("3gpp", PSI, establishment(pti=10))
    await ue.down("3gpp")
    assert (await next_container(ue))[1].generation == 2
    ue.close()


@with_core()
async def test_registering_anew_releases_what_was(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    again, _ = await session(core, sqn=ue.usim.sqn)
    await until(lambda: len(core.upf.deleted) == 1)
    assert len(core.smf.contexts) == 1
    access, provision = await next_container(again)
    acknowledge(again, access, provision)
    await until(lambda: in_force(core) == 1)
    ue.close()
    again.close()


@with_core()
async def test_a_upf_that_starts_again_gets_its_sessions_and_a_fresh_key(core):
    ue, _ = await session(core)
    first = await first_key(core, ue)
    core.upf.restart()
    access, second = await next_container(ue)
    assert second.generation == 2 and second.key != first.key
    acknowledge(ue, access, second)
    await until(lambda: in_force(core) == 2)
    assert len(core.upf.sessions) == 1
    assert str(next(iter(core.upf.sessions.values())).create_pdrs[-1].pdi.ue_ip_address.ipv4) == "10.45.0.2"
    ue.close()

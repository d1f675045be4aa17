"""Steps 2 to 6 and the re-key with AMF and SMF over real sockets: which key UE and UPF hold after each answer, or none."""

import asyncio

import pytest
from core_kit import Core, run, with_core
from core_steps import PSI, acknowledge, first_key, in_force, next_container, rekey, session, until, upf_keys

from fiveg import keys
from fiveg.atsss import AtsssContainer
from fiveg.key_container import KeyCause, KeyContainer, KeyContainerType
from fiveg.nas import gsm
from fiveg.pfcp.codes import Cause, KeyReason, SteeringMode
from fiveg.pfcp.message import SessionModificationRequest
from node.errors import VerbError


@with_core()
async def test_the_procedure_from_registration_to_the_key_and_a_rekey(core):
    ue, accept = await session(core)
    assert accept.session_type == gsm.SessionType.IPV4V6 and accept.pti == 1
    assert str(accept.address.ipv4) == "10.45.0.2" and accept.address.interface_id == bytes(7) + b"\x01"
    rules = AtsssContainer.decode(accept.atsss)
    assert [(r.mode, r.load_3gpp) for r in rules.rules] == [(SteeringMode.LOAD_BALANCING, 30)]
    proxy = rules.information.proxies[0]
    assert (str(proxy.ipv4), proxy.port) == ("10.100.0.1", 4433)
    established = next(iter(core.upf.sessions.values()))
    assert established.create_mars[0].access_3gpp.weight == 30

    access, provision = await next_container(ue)
    assert provision.type is KeyContainerType.PROVISION and provision.generation == 1
    await until(lambda: upf_keys(core))
    assert upf_keys(core) == [(1, provision.key)] and provision.lifetime == 3600
    assert in_force(core) == 0
    acknowledge(ue, access, provision)
    await until(lambda: in_force(core) == 1)

    command = asyncio.create_task(rekey(core, ue))
    access, second = await next_container(ue)
    assert second.generation == 2 and second.key != provision.key
    assert not command.done()
    acknowledge(ue, access, second)
    assert await command == {"generation": 2, "fingerprint": keys.fingerprint(second.key)}
    assert upf_keys(core) == [(1, provision.key), (2, second.key)]

    # The UE asks, then the UPF: the same path.
    ue.container("3gpp", PSI, KeyContainer(type=KeyContainerType.REQUEST, transaction=9, generation=2).encode())
    access, third = await next_container(ue)
    acknowledge(ue, access, third)
    await until(lambda: in_force(core) == 3)
    core.upf.ask(next(iter(core.upf.sessions)), KeyReason.PACKET_LIMIT)
    access, fourth = await next_container(ue)
    acknowledge(ue, access, fourth)
    await until(lambda: in_force(core) == 4)
    assert len({k for _, k in upf_keys(core)}) == 4
    assert [a.cause for a in core.upf.report_answers] == [Cause.ACCEPTED, Cause.ACCEPTED]

    derived = core.amf_events.of("key_derived")
    assert [d["reason"] for d in derived] == ["initial", "policy", "ue_request", "upf_limit"]
    assert [d["fingerprint"] for d in derived] == [keys.fingerprint(k) for _, k in upf_keys(core)]
    assert [e["by"] for e in core.amf_events.of("rekey_requested")] == ["core", "ue"]
    assert [e["generation"] for e in core.smf_events.of("rekey_done")] == [2, 3, 4]
    order = [n for n in core.amf_events.names() if n.startswith("key_")][:3]
    assert order == ["key_derived", "key_sent_ue", "key_sent_smf"]
    everything = str(core.amf_events.items) + str(core.smf_events.items)
    for _, key in upf_keys(core):
        assert key.hex() not in everything
    assert not any("fault" in n for c in (core.amf_counters, core.smf_counters) for n in c.snapshot())
    ue.close()


@pytest.mark.parametrize("bind", ["none", "session"])
def test_derived_mode_sends_p0_only(tmp_path, bind):
    async def main():
        key = {"fc": "ff03", "bind": bind, "mode": "derived", "lifetime_s": 600}
        async with Core(tmp_path, key=key) as core:
            ue, _ = await session(core)
            access, provision = await next_container(ue)
            assert provision.key is None and provision.lifetime == 600
            bound = (PSI, ue.supi) if bind == "session" else None
            mine = keys.k_mpquic(ue.k_amf, provision.p0, fc=b"\xff\x03", session=bound)
            await until(lambda: upf_keys(core))
            assert upf_keys(core) == [(1, mine)]
            acknowledge(ue, access, provision, mine)
            await until(lambda: in_force(core) == 1)
            ue.close()

    run(main())


@with_core()
async def test_a_ue_with_another_key_is_noticed_by_its_fingerprint(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    command = asyncio.create_task(rekey(core, ue))
    access, provision = await next_container(ue)
    acknowledge(ue, access, provision, bytes(32))
    with pytest.raises(VerbError, match="refused"):
        await command
    await until(lambda: core.upf.revoked == [2])
    assert in_force(core) == 1 and core.amf_counters.get("mpquic_key.wrong_fingerprint") == 1
    ue.close()


@with_core()
async def test_a_ue_that_rejects_keeps_the_old_key(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    command = asyncio.create_task(rekey(core, ue))
    access, provision = await next_container(ue)
    answer = KeyContainer(
        type=KeyContainerType.REJECT, transaction=provision.transaction, generation=2,
        cause=KeyCause.NO_RESOURCES,
    )  # fmt: skip
    ue.container(access, PSI, answer.encode())
    with pytest.raises(VerbError):
        await command
    await until(lambda: core.upf.revoked == [2])
    assert in_force(core) == 1
    # and the next one works
    command = asyncio.create_task(rekey(core, ue))
    while True:  # the revocation of generation 2 comes first
        access, container = await next_container(ue)
        if container.type is KeyContainerType.PROVISION:
            break
    acknowledge(ue, access, container)
    assert (await command)["generation"] == 3
    ue.close()


@with_core()
async def test_a_key_that_the_proxy_does_not_take_is_replaced_but_not_for_ever(core):
    ue, _ = await session(core)
    provision = await first_key(core, ue)
    for generation in (2, 3, 4):
        answer = KeyContainer(
            type=KeyContainerType.REJECT, transaction=provision.transaction,
            generation=provision.generation, cause=KeyCause.FINGERPRINT_MISMATCH,
        )  # fmt: skip
        ue.container("3gpp", PSI, answer.encode())
        if generation == 4:
            break
        access, provision = await next_container(ue)
        assert provision.generation == generation
        acknowledge(ue, access, provision)
        await until(lambda generation=generation: in_force(core) == generation)
    await until(lambda: core.smf_counters.get("key.repairs_exhausted") == 1)
    reasons = [e["reason"] for e in core.amf_events.of("key_derived")]
    assert reasons == ["initial", "repair", "repair"]
    ue.close()


@with_core(schedule=(0.2, 5.0))
async def test_a_dead_access_is_gone_round(core):
    """5b leaves on the access last heard; without an answer it goes out over the other one."""
    ue, _ = await session(core)
    access, first = await next_container(ue)
    other = ({"3gpp", "non-3gpp"} - {access}).pop()
    _, again = await next_container(ue, other)
    assert again == first
    acknowledge(ue, other, again)
    acknowledge(ue, access, first)
    await until(lambda: in_force(core) == 1)
    assert [e["access"] for e in core.amf_events.of("key_sent_ue")] == [access, other]
    ue.close()


@with_core(schedule=(0.05, 0.05, 0.05))
async def test_a_ue_that_never_answers(core):
    ue, _ = await session(core)
    await until(lambda: core.upf.revoked == [1])
    assert core.amf_counters.get("mpquic_key.ue_not_reachable") == 1
    assert in_force(core) == 0
    ue.close()


@with_core(schedule=(20.0, 20.0))
async def test_a_ue_that_is_away_gets_its_key_when_it_comes_back(core):
    """R-128"""
    ue, _ = await session(core)
    await first_key(core, ue)
    for access in ("3gpp", "non-3gpp"):
        ue.links[access][1].transport.abort()
    await until(lambda: not core.amf.status()["ues"][0]["accesses"])
    command = asyncio.create_task(rekey(core, ue))
    await until(lambda: len(upf_keys(core)) == 2)
    await ue.register_second("non-3gpp")
    _, provision = await next_container(ue, "non-3gpp")
    acknowledge(ue, "non-3gpp", provision)
    assert (await command)["generation"] == 2
    ue.close()


@with_core()
async def test_an_altered_key_at_the_upf_is_taken_back(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    core.upf.key_cause = Cause.MANDATORY_IE_INCORRECT
    with pytest.raises(VerbError, match="no new key"):
        await rekey(core, ue)
    assert in_force(core) == 1
    kinds = [(await next_container(ue))[1].type for _ in range(2)]
    assert kinds == [KeyContainerType.PROVISION, KeyContainerType.REVOKE]
    ue.close()


@with_core()
async def test_stale_acknowledgements_change_nothing(core):
    ue, _ = await session(core)
    provision = await first_key(core, ue)
    for generation in (0, 1, 9):
        ack = KeyContainer(
            type=KeyContainerType.ACK, transaction=200, generation=generation,
            fingerprint=keys.fingerprint_octets(provision.key),
        )  # fmt: skip
        ue.container("3gpp", PSI, ack.encode())
    await until(lambda: core.amf_counters.get("mpquic_key.stale_answer") == 3)
    assert in_force(core) == 1
    ue.close()


@with_core()
async def test_a_slow_upf_is_waited_for_and_the_request_is_sent_again(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    core.upf.silent = {SessionModificationRequest}
    command = asyncio.create_task(rekey(core, ue))
    access, provision = await next_container(ue)
    acknowledge(ue, access, provision)
    await until(lambda: core.amf_events.of("key_acknowledged")[-1]["generation"] == 2)
    # The UPF's transaction layer has it as unanswered; a retransmission reaches a UPF that listens again.
    core.upf.silent = set()
    core.upf.transactions._peers.clear()
    assert (await command)["generation"] == 2
    ue.close()

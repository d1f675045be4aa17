"""The whole of steps 0 to 6 and the re-key with AMF and SMF over real sockets: what reaches UE and UPF, and what does not."""

import asyncio

import pytest
from core_kit import Core, run

from fiveg import keys
from fiveg.atsss import AtsssContainer
from fiveg.key_container import KeyCause, KeyContainer, KeyContainerType
from fiveg.nas import gsm
from fiveg.nas.causes import GmmCause, GsmCause
from fiveg.nas.gmm import GmmStatus, PayloadType, RequestType
from fiveg.pfcp.codes import Cause, KeyReason, SteeringMode
from fiveg.pfcp.message import SessionEstablishmentRequest, SessionModificationRequest
from fiveg.sbi import mpquickey, multipart
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import MpquicKeyCreateData, MpquicKeyCreatedData
from node.errors import VerbError

PSI = 5


def establishment(pti=1, psi=PSI, **more):
    more.setdefault("capability", gsm.GsmCapability())
    more.setdefault("session_type", gsm.SessionType.IPV4V6)
    return gsm.EstablishmentRequest(pdu_session_id=psi, pti=pti, **more).encode()


async def until(condition):
    while not (value := condition()):  # noqa: ASYNC110  (another task's state)
        await asyncio.sleep(0.005)
    return value


async def session(core, **more):
    """A UE registered on both accesses with an accepted session, and its accept."""
    ue = core.ue(**more)
    await ue.register("3gpp")
    await ue.register_second("non-3gpp")
    ue.ask_session("3gpp", PSI, establishment())
    message = await ue.down("3gpp")
    assert message.payload_type == PayloadType.N1_SM and message.pdu_session_id == PSI
    accept = gsm.decode(message.payload)
    assert isinstance(accept, gsm.EstablishmentAccept), accept
    return ue, accept


async def next_container(ue, access=None):
    """The next key container, on whichever access it comes."""
    if access is not None:
        message = await ue.down(access)
        assert message.payload_type == PayloadType.MPQUIC_KEY and message.pdu_session_id == PSI
        return access, KeyContainer.decode(message.payload)
    waiting = {asyncio.create_task(next_container(ue, a)) for a in ue.links}
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return done.pop().result()


def acknowledge(ue, access, provision, key=None):
    answer = KeyContainer(
        type=KeyContainerType.ACK, transaction=provision.transaction, generation=provision.generation,
        fingerprint=keys.fingerprint_octets(key or provision.key),
    )  # fmt: skip
    ue.container(access, PSI, answer.encode())


async def first_key(core, ue):
    access, provision = await next_container(ue)
    acknowledge(ue, access, provision)
    await until(lambda: in_force(core) == 1)
    return provision


def in_force(core):
    return next(iter(core.smf.contexts.values())).keys.in_force if core.smf.contexts else 0


def upf_keys(core):
    return next(iter(core.upf.keys.values()))


def test_the_procedure_from_registration_to_the_key_and_a_rekey(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
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

            rekey = asyncio.create_task(core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI}))
            access, second = await next_container(ue)
            assert second.generation == 2 and second.key != provision.key
            assert not rekey.done()
            acknowledge(ue, access, second)
            assert await rekey == {"generation": 2, "fingerprint": keys.fingerprint(second.key)}
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

    run(main())


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


def test_a_ue_with_another_key_is_noticed_by_its_fingerprint(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            rekey = asyncio.create_task(core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI}))
            access, provision = await next_container(ue)
            acknowledge(ue, access, provision, bytes(32))
            with pytest.raises(VerbError, match="refused"):
                await rekey
            await until(lambda: core.upf.revoked == [2])
            assert in_force(core) == 1 and core.amf_counters.get("mpquic_key.wrong_fingerprint") == 1
            ue.close()

    run(main())


def test_a_ue_that_rejects_keeps_the_old_key(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            rekey = asyncio.create_task(core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI}))
            access, provision = await next_container(ue)
            answer = KeyContainer(
                type=KeyContainerType.REJECT, transaction=provision.transaction, generation=2,
                cause=KeyCause.NO_RESOURCES,
            )  # fmt: skip
            ue.container(access, PSI, answer.encode())
            with pytest.raises(VerbError):
                await rekey
            await until(lambda: core.upf.revoked == [2])
            assert in_force(core) == 1
            # and the next one works
            rekey = asyncio.create_task(core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI}))
            while True:  # the revocation of generation 2 comes first
                access, container = await next_container(ue)
                if container.type is KeyContainerType.PROVISION:
                    break
            acknowledge(ue, access, container)
            assert (await rekey)["generation"] == 3
            ue.close()

    run(main())


def test_a_key_that_the_proxy_does_not_take_is_replaced_but_not_for_ever(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
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

    run(main())


def test_a_dead_access_is_gone_round(tmp_path):
    """5b leaves on the access last heard; without an answer it goes out over the other one."""

    async def main():
        async with Core(tmp_path, schedule=(0.2, 5.0)) as core:
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

    run(main())


def test_a_ue_that_never_answers(tmp_path):
    async def main():
        async with Core(tmp_path, schedule=(0.05, 0.05, 0.05)) as core:
            ue, _ = await session(core)
            await until(lambda: core.upf.revoked == [1])
            assert core.amf_counters.get("mpquic_key.ue_not_reachable") == 1
            assert in_force(core) == 0
            ue.close()

    run(main())


def test_a_ue_that_is_away_gets_its_key_when_it_comes_back(tmp_path):
    """R-128"""

    async def main():
        async with Core(tmp_path, schedule=(20.0, 20.0)) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            for access in ("3gpp", "non-3gpp"):
                ue.links[access][1].transport.abort()
            await until(lambda: not core.amf.status()["ues"][0]["accesses"])
            rekey = asyncio.create_task(core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI}))
            await until(lambda: len(upf_keys(core)) == 2)
            await ue.register_second("non-3gpp")
            _, provision = await next_container(ue, "non-3gpp")
            acknowledge(ue, "non-3gpp", provision)
            assert (await rekey)["generation"] == 2
            ue.close()

    run(main())


# ---- who may ask for keys


def key_request(core, nf="smf", **more):
    data = {
        "pdu_session_id": PSI, "nf_id": core.certs.nfs[nf].nf_instance_id, "reason": mpquickey.KeyReason.POLICY,
        "notif_uri": "https://smf.local/x", "held_generation": 1, **more,
    }  # fmt: skip
    return MpquicKeyCreateData(**data).text()


def test_nobody_else_gets_a_key(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            path = mpquickey.collection(ue.supi)
            cases = [
                ("nef", path, key_request(core, "nef"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
                ("nef", path, key_request(core, "smf"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
                ("smf2", path, key_request(core, "smf2"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
                ("smf", path, key_request(core, "smf2"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
                ("smf", path, key_request(core, pdu_session_id=6), 403, "MPQUIC_KEY_NOT_ALLOWED"),
                ("smf", mpquickey.collection("imsi-001010000000002"), key_request(core), 404, "CONTEXT_NOT_FOUND"),
                ("smf", mpquickey.collection("imsi-" + "9" * 8000), key_request(core), 400, "INVALID_MSG_FORMAT"),
                ("smf", path, key_request(core, held_generation=7), 409, "GENERATION_MISMATCH"),
                ("smf", path, key_request(core, notif_uri="https://evil"), 400, "MANDATORY_IE_INCORRECT"),
            ]
            for nf, where, body, status, cause in cases:
                client = core.nf(nf)
                with pytest.raises(SbiError) as e:
                    await client.call("POST", where, body)
                assert (e.value.status, e.value.cause) == (status, cause), (nf, where)
                await client.close()
            assert len(core.amf_events.of("key_derived")) == 1
            client = core.nf("nef")
            for path in (mpquickey.resource(ue.supi, PSI, 1), mpquickey.resource(ue.supi, PSI, 2)):
                with pytest.raises(SbiError) as e:
                    await client.call("DELETE", path)
                assert e.value.status == 403
            await client.close()
            ue.close()

    run(main())


BAD_JSON = [
    b"", b"{", b"[]", b"null", b"\xff", b'{"pduSessionId":5}', b'{"pduSessionId":NaN}', b'{"a":1,"a":1}', b"[" * 5000,
    b'{"pduSessionId":256,"nfId":"x","reason":"POLICY","notifUri":"https://x/y"}',
    b'{"pduSessionId":"5","nfId":"7f3c9a52-57a3-4d0a-9f7e-000000000001","reason":"POLICY","notifUri":"https://x/y"}',
    b'{"pduSessionId":0,"nfId":"7f3c9a52-57a3-4d0a-9f7e-000000000001","reason":"NOW","notifUri":"https://x/y"}',
]  # fmt: skip


def test_bad_json_is_a_400(tmp_path):
    """R-123"""

    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            smf, amf = core.nf("smf"), core.nf("amf", "smf")
            for body in BAD_JSON:
                for client, path in (
                    (smf, mpquickey.collection(ue.supi)),
                    (smf, f"/namf-comm/v1/ue-contexts/{ue.supi}/n1-n2-messages"),
                    (amf, "/nsmf-pdusession/v1/sm-contexts"),
                ):
                    with pytest.raises(SbiError) as e:
                        await client.call("POST", path, body)
                    assert e.value.status == 400, (path, body, e.value)
            for kind, body in (
                ("multipart/related", b"x"), ("multipart/related; boundary=x", b"--x--"), ("text/plain", b"{}"), ("", b"{}"),
            ):  # fmt: skip
                with pytest.raises(SbiError) as e:
                    await amf.call("POST", "/nsmf-pdusession/v1/sm-contexts", body, kind)
                assert e.value.status == 400
            with pytest.raises(SbiError) as e:
                await smf.call("GET", "/nothing/here")
            assert e.value.status == 404
            assert not any("fault" in n for c in (core.amf_counters, core.smf_counters) for n in c.snapshot())
            await smf.close()
            await amf.close()
            ue.close()

    run(main())


def test_the_same_question_gets_the_same_answer(tmp_path):
    """R-127: a retry after a lost answer, and two in parallel: one generation."""

    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            client = core.nf("smf")
            path, body = mpquickey.collection(ue.supi), key_request(core)
            replies = await asyncio.gather(*(client.call("POST", path, body) for _ in range(4)))
            replies.append(await client.call("POST", path, body))
            assert {r.status for r in replies} == {201}
            answers = [MpquicKeyCreatedData.parse(r.body().json) for r in replies]
            assert {a.generation for a in answers} == {2} and len({a.key for a in answers}) == 1
            assert {r.location for r in replies} == {mpquickey.resource(ue.supi, PSI, 2)}
            assert len(core.amf_events.of("key_derived")) == 2
            fresh = await client.call("POST", path, key_request(core, reason=mpquickey.KeyReason.REPAIR))
            assert MpquicKeyCreatedData.parse(fresh.body().json).generation == 3
            await client.close()
            ue.close()

    run(main())


def test_too_many_keys(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            client = core.nf("smf")
            path, body = mpquickey.collection(ue.supi), key_request(core, reason=mpquickey.KeyReason.REPAIR)
            statuses = []
            for _ in range(40):
                try:
                    statuses.append((await client.call("POST", path, body)).status)
                except SbiError as e:
                    statuses.append((e.status, e.cause))
            assert statuses[0] == 201 and statuses[-1] == (429, "TOO_MANY_KEYS")
            assert statuses.count(201) <= 31
            await client.close()
            ue.close()

    run(main())


def test_p0_never_repeats_even_when_the_random_source_does(tmp_path):
    async def main():
        stuck = {"on": False}

        def random(size):
            import os

            return bytes(size) if stuck["on"] and size == 32 else os.urandom(size)

        async with Core(tmp_path, random=random) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            stuck["on"] = True
            client = core.nf("smf")
            path, body = mpquickey.collection(ue.supi), key_request(core, reason=mpquickey.KeyReason.REPAIR)
            await client.call("POST", path, body)
            with pytest.raises(SbiError) as e:
                await client.call("POST", path, body)
            assert e.value.status == 500 and core.amf_counters.get("mpquic_key.p0_repeated") == 4
            await client.close()
            ue.close()

    run(main())


# ---- failures on the way


def test_an_altered_key_at_the_upf_is_taken_back(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            core.upf.key_cause = Cause.MANDATORY_IE_INCORRECT
            with pytest.raises(VerbError, match="no new key"):
                await core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI})
            assert in_force(core) == 1
            kinds = [(await next_container(ue))[1].type for _ in range(2)]
            assert kinds == [KeyContainerType.PROVISION, KeyContainerType.REVOKE]
            ue.close()

    run(main())


@pytest.mark.parametrize("fault", ["refused", "no proxy", "no features", "silent"])
def test_a_session_that_the_upf_does_not_make_is_undone(tmp_path, fault):
    async def main():
        async with Core(tmp_path, upf=False) as core:
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

    run(main())


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (establishment(session_type=gsm.SessionType.ETHERNET), GsmCause.UNKNOWN_SESSION_TYPE),
        (establishment(capability=None), GsmCause.REQUEST_REJECTED),
        (establishment(capability=gsm.GsmCapability(mpquic_ip=False)), GsmCause.REQUEST_REJECTED),
        (establishment(pti=0), GsmCause.INVALID_PTI),
        (establishment(psi=6), GsmCause.INVALID_PDU_SESSION_IDENTITY),
        (establishment()[:5], GsmCause.INVALID_MANDATORY_INFORMATION),
        (b"\x2e\x05\x01\xff", GsmCause.MESSAGE_TYPE_NON_EXISTENT),
        (gsm.ReleaseRequest(pdu_session_id=5, pti=1).encode(), GsmCause.MESSAGE_TYPE_NOT_COMPATIBLE),
    ],
)
def test_requests_that_are_refused(tmp_path, payload, cause):
    async def main():
        async with Core(tmp_path) as core:
            ue = core.ue()
            await ue.register()
            ue.ask_session("3gpp", PSI, payload)
            message = await ue.down("3gpp")
            reject = gsm.decode(message.payload)
            assert isinstance(reject, gsm.EstablishmentReject) and reject.cause == cause
            assert reject.pdu_session_id == PSI and not core.upf.sessions and not core.amf.ues()[0].sessions
            ue.close()

    run(main())


def test_ul_nas_transport_that_leads_nowhere(tmp_path):
    """R-103, R-107, R-109: no session, wrong kinds, containers for nobody."""

    async def main():
        async with Core(tmp_path) as core:
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

    run(main())


def test_stale_acknowledgements_change_nothing(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
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

    run(main())


# ---- ends


def test_release_by_the_ue(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
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

    run(main())


def test_registering_anew_releases_what_was(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
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

    run(main())


def test_the_request_again_over_the_other_access(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, accept = await session(core)
            await first_key(core, ue)
            ue.ask_session("non-3gpp", PSI, establishment(pti=4))
            again = gsm.decode((await ue.down("non-3gpp")).payload)
            assert again.pti == 4 and again.address == accept.address and again.atsss == accept.atsss
            assert len(core.upf.sessions) == 1
            ue.close()

    run(main())


def test_a_upf_that_starts_again_gets_its_sessions_and_a_fresh_key(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
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

    run(main())


def test_a_foreign_nf_cannot_speak_to_ue_or_smf(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            context = next(iter(core.smf.contexts.values()))
            for name, target, path in (
                ("nef", "smf", f"/nsmf-pdusession/v1/sm-contexts/{context.ref}/release"),
                ("smf2", "smf", f"/nsmf-callback/v1/mpquic-keys/{context.ref}"),
            ):
                client = core.nf(name, target)
                with pytest.raises(SbiError) as e:
                    await client.call("POST", path, b'{"pduSessionId":5,"generation":1,"event":"KAMF_CHANGED"}')
                assert e.value.status == 403
                await client.close()
            client = core.nf("smf2")
            body = (
                b'{"n1MessageContainer":{"n1MessageClass":"SM","n1MessageContent":{"contentId":"x"}},"pduSessionId":5}'
            )
            kind, octets = multipart.encode(body, (multipart.Part("x", b"\x2e\x05\x00\xd3\x24"),))
            with pytest.raises(SbiError) as e:
                await client.call("POST", f"/namf-comm/v1/ue-contexts/{ue.supi}/n1-n2-messages", octets, kind)
            assert e.value.status == 403
            await client.close()
            assert core.smf.contexts and in_force(core) == 1
            ue.close()

    run(main())


def test_a_slow_upf_is_waited_for_and_the_request_is_sent_again(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue, _ = await session(core)
            await first_key(core, ue)
            core.upf.silent = {SessionModificationRequest}
            rekey = asyncio.create_task(core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI}))
            access, provision = await next_container(ue)
            acknowledge(ue, access, provision)
            await until(lambda: core.amf_events.of("key_acknowledged")[-1]["generation"] == 2)
            # The UPF's transaction layer has it as unanswered; a retransmission reaches a UPF that listens again.
            core.upf.silent = set()
            core.upf.transactions._peers.clear()
            assert (await rekey)["generation"] == 2
            ue.close()

    run(main())


def test_initial_request_type_without_multi_access_is_refused(tmp_path):
    async def main():
        async with Core(tmp_path) as core:
            ue = core.ue()
            await ue.register()
            ue.sm("3gpp", PSI, establishment(), RequestType.INITIAL)
            reject = gsm.decode((await ue.down("3gpp")).payload)
            assert reject.cause == GsmCause.REQUEST_REJECTED
            ue.sm("3gpp", PSI, establishment(), RequestType.MA_PDU, dnn="elsewhere")
            assert gsm.decode((await ue.down("3gpp")).payload).cause == GsmCause.UNKNOWN_DNN
            ue.close()

    run(main())

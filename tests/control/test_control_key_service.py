"""Who gets a key of the AMF, or may speak to UE and SMF: by certificate and by context (R-121 to R-127)."""

import asyncio

import pytest
from core_kit import Core, run, with_core
from core_steps import PSI, first_key, in_force, session

from fiveg.sbi import mpquickey, multipart
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import MpquicKeyCreateData, MpquicKeyCreatedData


def key_request(core, nf="smf", **more):
    data = {
        "pdu_session_id": PSI, "nf_id": core.certs.nfs[nf].nf_instance_id, "reason": mpquickey.KeyReason.POLICY,
        "notif_uri": "https://smf.local/x", "held_generation": 1, **more,
    }  # fmt: skip
    return MpquicKeyCreateData(**data).text()


@with_core()
async def test_nobody_else_gets_a_key(core):
    ue, _ = await session(core)
    await first_key(core, ue)
    path = mpquickey.collection(ue.supi)
    cases = [
        ("nef", path, key_request(core, "nef"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
        ("nef", path, key_request(core, "smf"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
        ("smf.b", path, key_request(core, "smf.b"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
        ("smf", path, key_request(core, "smf.b"), 403, "MPQUIC_KEY_NOT_ALLOWED"),
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
    for name in ("nef", "smf.b"):
        client = core.nf(name)
        for path in (mpquickey.resource(ue.supi, PSI, 1), mpquickey.resource(ue.supi, PSI, 2)):
            with pytest.raises(SbiError) as e:
                await client.call("DELETE", path)
            assert e.value.status == 403
        await client.close()
    ue.close()


BAD_JSON = [
    b"", b"{", b"[]", b"null", b"\xff", b'{"pduSessionId":5}', b'{"pduSessionId":NaN}', b'{"a":1,"a":1}', b"[" * 5000,
    b'{"pduSessionId":256,"nfId":"x","reason":"POLICY","notifUri":"https://x/y"}',
    b'{"pduSessionId":"5","nfId":"7f3c9a52-57a3-4d0a-9f7e-000000000001","reason":"POLICY","notifUri":"https://x/y"}',
    b'{"pduSessionId":0,"nfId":"7f3c9a52-57a3-4d0a-9f7e-000000000001","reason":"NOW","notifUri":"https://x/y"}',
]  # fmt: skip


@with_core()
async def test_bad_json_is_a_400(core):
    """R-123"""
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


@with_core()
async def test_the_same_question_gets_the_same_answer(core):
    """R-127: a retry after a lost answer, and two in parallel: one generation."""
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


@with_core()
async def test_too_many_keys(core):
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


@pytest.mark.parametrize("answered", [True, False])
@with_core()
async def test_a_foreign_nf_cannot_speak_to_ue_or_smf(core, answered):
    """An NF of the right type is not enough: another SMF, another AMF have certificates of the same CA. The same holds while
    CreateSMContext is not `answered`, and the AMF does not know the SMF's instance yet."""
    ue, _ = await session(core)
    await first_key(core, ue)
    context = next(iter(core.smf.contexts.values()))
    known = core.amf.ues()[0].sessions[PSI]
    if not answered:
        known.smf_instance = None
    released = f"/namf-callback/v1/sm-context-status/{known.status_token}"
    for name, target, path in (
        ("nef", "smf", f"/nsmf-pdusession/v1/sm-contexts/{context.ref}/release"),
        ("amf.b", "smf", f"/nsmf-pdusession/v1/sm-contexts/{context.ref}/release"),
        ("smf.b", "smf", f"/nsmf-callback/v1/mpquic-keys/{context.ref}"),
        ("amf.b", "smf", f"/nsmf-callback/v1/mpquic-keys/{context.ref}"),
    ):
        client = core.nf(name, target)
        with pytest.raises(SbiError) as e:
            await client.call("POST", path, b'{"pduSessionId":5,"generation":1,"event":"KAMF_CHANGED"}')
        assert e.value.status == 403
        await client.close()
    client = core.nf("smf.b")
    body = b'{"n1MessageContainer":{"n1MessageClass":"SM","n1MessageContent":{"contentId":"x"}},"pduSessionId":5}'
    kind, octets = multipart.encode(body, (multipart.Part("x", b"\x2e\x05\x00\xd3\x24"),))
    with pytest.raises(SbiError) as e:
        await client.call("POST", f"/namf-comm/v1/ue-contexts/{ue.supi}/n1-n2-messages", octets, kind)
    assert e.value.status == 403
    with pytest.raises(SbiError) as e:
        await client.call("POST", released, b'{"statusInfo":{"resourceStatus":"RELEASED"}}')
    assert e.value.status == 404
    await client.close()
    assert core.smf.contexts and in_force(core) == 1 and core.amf.ues()[0].sessions[PSI] is known
    # The canary: its own AMF may.
    client = core.nf("amf", "smf")
    await client.call("POST", f"/nsmf-pdusession/v1/sm-contexts/{context.ref}/release")
    await client.close()
    assert not core.smf.contexts
    ue.close()

"""SBI bodies: what is written is read back, what is wrong is refused by name, and nothing crashes."""

import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiveg.errors import FivegError
from fiveg.sbi import mpquickey, multipart, strict, types
from fiveg.sbi.errors import InvalidParam, SbiError

NF = uuid.UUID("11111111-2222-3333-4444-555555555555")
KEY = bytes(range(32))

CREATE = types.SmContextCreateData(
    serving_nf_id=NF,
    serving_network=types.PlmnId(mcc="001", mnc="01"),
    an_type=types.AccessType.ACCESS_3GPP,
    sm_context_status_uri="https://amf.local:7777/callbacks/5",
    supi="imsi-001010000000001",
    pdu_session_id=5,
    dnn="internet",
    s_nssai=types.Snssai(sst=1),
    request_type=types.RequestType.INITIAL_REQUEST,
    n1_sm_msg=types.RefToBinaryData(content_id="n1"),
    ma_request=True,
)
REQUEST = mpquickey.MpquicKeyCreateData(
    pdu_session_id=5,
    nf_id=NF,
    reason=mpquickey.KeyReason.INITIAL,
    notif_uri="https://smf.local/notify",
    held_generation=0,
    requested_lifetime=3600,
)
CREATED = mpquickey.MpquicKeyCreatedData(generation=1, key=KEY, lifetime=3600, n1_delivery=mpquickey.N1Delivery.INITIATED)
EXAMPLES = [
    CREATE,
    REQUEST,
    CREATED,
    mpquickey.MpquicKeyNotification(pdu_session_id=5, generation=1, event=mpquickey.KeyEvent.UE_ACK),
    types.SmContextUpdateData(release=True, ma_release=types.MaReleaseInd.OVER_NON_3GPP),
    types.SmContextCreatedData(pdu_session_id=5, up_cnx_state=types.UpCnxState.ACTIVATED),
    types.N1N2MessageTransferReqData(
        n1=types.N1MessageContainer(
            message_class=types.N1MessageClass.SM, content=types.RefToBinaryData(content_id="n1"), nf_id=NF
        ),
        pdu_session_id=5,
        ma_accepted=True,
    ),
    types.N1N2MessageTransferRspData(cause=types.N1N2Cause.INITIATED),
    types.ProblemDetails(status=403, cause="MPQUIC_KEY_NOT_ALLOWED", invalid_params=(InvalidParam("/a", "b"),)),
    types.PlmnId(mcc="310", mnc="260"),
    types.Guami(plmn=types.PlmnId(mcc="001", mnc="01"), amf_id="0a1b2c"),
    types.Snssai(sst=1, sd="00000a"),
    types.RefToBinaryData(content_id="n1"),
    types.SmContextUpdatedData(n1_sm_msg=types.RefToBinaryData(content_id="n1"), ma_accepted=False, cause="x"),
    types.StatusInfo(resource_status="RELEASED"),
    types.SmContextStatusNotification(status=types.StatusInfo(resource_status="RELEASED", cause="REL_DUE_TO_HO")),
    types.N1MessageContainer(message_class=types.N1MessageClass.SM, content=types.RefToBinaryData(content_id="n1")),
    types.SmContextCreateError(error=types.ProblemDetails(status=403), n1_sm_msg=types.RefToBinaryData(content_id="n1")),
]


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda x: type(x).__name__)
def test_round_trip(value: types.JsonObject) -> None:
    assert type(value).parse(value.text()) == value


def test_member_names_are_those_of_the_specification() -> None:
    written = json.loads(CREATE.text())
    assert written["servingNfId"] == str(NF)
    assert written["anType"] == "3GPP_ACCESS"
    assert written["maRequestInd"] is True
    assert written["n1SmMsg"] == {"contentId": "n1"}
    assert json.loads(REQUEST.text()) == {
        "pduSessionId": 5,
        "nfId": str(NF),
        "reason": "INITIAL",
        "heldGeneration": 0,
        "requestedLifetime": 3600,
        "notifUri": "https://smf.local/notify",
    }


def test_key_is_in_no_representation() -> None:
    assert "key" not in repr(CREATED).replace("mpquickey", "").replace("MpquicKeyCreatedData", "")
    body = json.loads(CREATED.text())
    body["lifetime"] = 1
    with pytest.raises(SbiError) as caught:
        mpquickey.MpquicKeyCreatedData.parse(json.dumps(body).encode())
    assert body["key"] not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"pduSessionId": 256}, "/pduSessionId"),
        ({"pduSessionId": 0}, "/pduSessionId"),
        ({"pduSessionId": True}, "/pduSessionId"),
        ({"pduSessionId": "5"}, "/pduSessionId"),
        ({"nfId": "x"}, "/nfId"),
        ({"nfId": ["x"]}, "/nfId"),
        ({"reason": "BORED"}, "/reason"),
        ({"reason": {}}, "/reason"),
        ({"notifUri": "/relative"}, "/notifUri"),
        ({"notifUri": "http://plain/"}, "/notifUri"),
        ({"notifUri": "https://[::"}, "/notifUri"),
        ({"notifUri": "https://a:99999/"}, "/notifUri"),
        ({"heldGeneration": -1}, "/heldGeneration"),
        ({"requestedLifetime": 59}, "/requestedLifetime"),
        ({"requestedLifetime": 60.5}, "/requestedLifetime"),
        ({"requestedLifetime": None}, "/requestedLifetime"),
    ],
)
def test_wrong_member_is_named(change: dict[str, object], param: str) -> None:
    body = {**json.loads(REQUEST.text()), **change}
    with pytest.raises(SbiError) as caught:
        mpquickey.MpquicKeyCreateData.parse(json.dumps(body).encode())
    assert (caught.value.status, caught.value.cause) == (400, "MANDATORY_IE_INCORRECT")
    assert [p.param for p in caught.value.invalid_params] == [param]


@pytest.mark.parametrize("name", ["pduSessionId", "nfId", "reason", "notifUri"])
def test_missing_member_is_named(name: str) -> None:
    body = json.loads(REQUEST.text())
    del body[name]
    with pytest.raises(SbiError) as caught:
        mpquickey.MpquicKeyCreateData.parse(json.dumps(body).encode())
    assert caught.value.cause == "MANDATORY_IE_MISSING"
    assert [p.param for p in caught.value.invalid_params] == [f"/{name}"]


def test_long_supi_and_deep_member_are_refused() -> None:
    body = json.loads(CREATE.text())
    body["supi"] = "imsi-" + "1" * 8000
    body["sNssai"]["sst"] = 300
    with pytest.raises(SbiError) as caught:
        types.SmContextCreateData.parse(json.dumps(body).encode())
    assert {p.param for p in caught.value.invalid_params} == {"/supi", "/sNssai/sst"}


@pytest.mark.parametrize("key", ["", "AAAA", "A" * 43 + "=", "*" * 44, KEY.hex(), 5, None, "A" * 42 + "B="])
def test_key_is_canonical_base64_of_32_octets(key: object) -> None:
    body = json.loads(CREATED.text())
    body["key"] = key
    if key == "A" * 43 + "=":
        assert mpquickey.MpquicKeyCreatedData.parse(json.dumps(body).encode()).key == bytes(32)
        return
    with pytest.raises(SbiError):
        mpquickey.MpquicKeyCreatedData.parse(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"5",
        b"{",
        b"\xff{}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1,"a":2}',
        b'{"a":' + b"[" * 17 + b"]" * 17 + b"}",
        b'{"a":' * 5000,
        b'{"a":' + b"9" * 40 + b"}",
        b'{"a":"' + b"x" * strict.MAX_BODY + b'"}',
        b"{" + b",".join(b'"%d":1' % i for i in range(257)) + b"}",
    ],
    ids=range(13),
)
def test_bad_json_is_refused(body: bytes) -> None:
    with pytest.raises(SbiError) as caught:
        strict.parse(body)
    assert (caught.value.status, caught.value.cause) == (400, "INVALID_MSG_FORMAT")


def test_brackets_in_strings_are_no_nesting() -> None:
    assert strict.parse(b'{"a":"' + b"[" * 100 + b'\\""}') == {"a": "[" * 100 + '"'}


def test_key_resource_path() -> None:
    path = mpquickey.resource("imsi-001010000000001", 5, 1)
    assert path == "/namf-mpquickey/v1/ue-contexts/imsi-001010000000001/mpquic-keys/5-1"
    assert mpquickey.resource_parse(path) == ("imsi-001010000000001", 5, 1)
    assert mpquickey.resource_parse(path + "/x") is None


def test_error_becomes_problem_details_and_back() -> None:
    error = SbiError(403, "MPQUIC_KEY_NOT_ALLOWED", "no such session", (InvalidParam("/pduSessionId", "unknown"),))
    problem = types.ProblemDetails.parse(types.ProblemDetails.of_error(error).text())
    back = problem.error(403)
    assert (back.status, back.cause, back.invalid_params) == (403, error.cause, error.invalid_params)


# ---- multipart

NAS = bytes(range(256))


def test_multipart_round_trip_with_every_octet() -> None:
    kind, body = multipart.encode(CREATE.text(), (multipart.Part("n1", NAS),))
    back = multipart.decode(kind, body)
    assert types.SmContextCreateData.parse(back.json) == CREATE
    assert back.binary(CREATE.n1_sm_msg) == NAS


@given(st.binary(max_size=200), st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_multipart_carries_any_octets(data: bytes, more: bytes) -> None:
    first = multipart.Part("a", data + b"\r\n--mpquic-upf-part-0--" + more)
    kind, body = multipart.encode(b"{}", (first, multipart.Part("b", more)))
    back = multipart.decode(kind, body)
    assert back.parts == {"a": first, "b": multipart.Part("b", more)}


def test_plain_json_has_no_parts_and_a_reference_into_it_is_refused() -> None:
    back = multipart.decode("application/json; charset=utf-8", b"{}")
    assert back.parts == {}
    for ref in (None, types.RefToBinaryData(content_id="n1")):
        with pytest.raises(SbiError):
            back.binary(ref)


GOOD_TYPE, GOOD = multipart.encode(b"{}", (multipart.Part("n1", b"\x7e\x00"),))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", GOOD),
        ("", GOOD),
        ("multipart/related", GOOD),
        ("multipart/related; boundary=other", GOOD),
        ('multipart/related; boundary="' + "x" * 71 + '"', GOOD),
        (GOOD_TYPE, b""),
        (GOOD_TYPE, GOOD[:-6]),
        (GOOD_TYPE, GOOD.replace(b"Content-Id: n1", b"Content-Id: n 1")),
        (GOOD_TYPE, GOOD.replace(b"Content-Id: n1", b"Content-Id n1")),
        (GOOD_TYPE, GOOD.replace(b"Content-Id: n1\r\n", b"")),
        (GOOD_TYPE, GOOD.replace(b"application/json", b"text/plain", 1)),
        (GOOD_TYPE, GOOD.replace(b"Content-Id: n1", b"Content-Id: " + b"n" * 2000)),
        (GOOD_TYPE, b"x" * (strict.MAX_BODY + 1)),
        multipart.encode(b"{}", (multipart.Part("a", b""), multipart.Part("a", b""))),
        multipart.encode(b"{}", tuple(multipart.Part(f"p{i}", b"") for i in range(5))),
    ],
    ids=range(15),
)
def test_bad_multipart_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(SbiError) as caught:
        multipart.decode(kind, body)
    assert caught.value.status == 400


def test_part_of_another_type_is_not_taken_for_nas() -> None:
    kind, body = multipart.encode(b"{}", (multipart.Part("n1", b"x", "application/vnd.3gpp.ngap"),))
    with pytest.raises(SbiError):
        multipart.decode(kind, body).binary(types.RefToBinaryData(content_id="n1"))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_bodies_give_sbi_errors_only(data: st.DataObject) -> None:
    kind, body = multipart.encode(CREATE.text(), (multipart.Part("n1", b"\x7e\x00\x2e"),))
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 5))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = multipart.decode(kind, bytes(changed))
        value = types.SmContextCreateData.parse(back.json)
    except SbiError:
        return
    assert types.SmContextCreateData.parse(value.text()) == value


def test_text_that_no_log_could_hold_is_refused() -> None:
    for text in (b'{"cause":"\\ud800"}', b'{"invalidParams":[{"param":"/a","reason":"\\udfff"}]}'):
        with pytest.raises(SbiError):
            types.ProblemDetails.parse(text)
    assert types.ProblemDetails.parse(b'{"cause":"\\ud83d\\ude00"}').cause == "\U0001f600"  # a pair is a character


def test_numbers_that_cannot_be_held_are_refused() -> None:
    for number in (b"1e999", b"-1e999", b"NaN", b"Infinity"):
        with pytest.raises(SbiError):
            strict.parse(b'{"a":' + number + b"}")


def test_bodies_show_no_key() -> None:
    body = multipart.decode(*multipart.encode(CREATED.text(), (multipart.Part("n1", KEY),)))
    assert body.parts["n1"].data == KEY and body.json == CREATED.text()
    assert repr(KEY)[2:-1] not in repr(body) and json.loads(CREATED.text())["key"] not in repr(body)


def test_what_cannot_be_written_is_of_the_family() -> None:
    with pytest.raises(FivegError):
        types.Snssai(sst=256).text()

"""SBI as tshark reads it (HTTP/2 in TLS, opened by the secrets in the capture) against what our layers say of N1 and N4: the same
keys, reasons and messages cross all three. We have no layers for HTTP/2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from needs import needs_tun
from oracle_compare import Row, Tally, Values, assert_flips_are_caught, compare, number, text
from oracle_recorded import PFCP_PORT, Recorded
from oracle_tshark import tshark

from lab.packets.nas import Nas, NasKeyContainer
from lab.packets.pfcp import PFCP, IE_MpquicKey, IE_MpquicKeyRequest

PROVISION, ACK, REQUEST = 1, 2, 3
REASONS = {"INITIAL": 1, "PACKET_LIMIT": 2, "LIFETIME": 3, "BINDER_FAILURES": 4, "RESTART": 5}
HTTP2 = (Row("http2.headers.method", text, {}), Row("http2.headers.path", text, {}), Row("http2.headers.status", text, {}),
         Row("json.path_with_value", text, {}))


def bodies(recorded: Recorded) -> list[dict[str, str]]:
    """The JSON bodies that crossed SBI, in their order, flat: /path -> value."""
    found = tshark(recorded.capture, 'json && frame.interface_name == "core/sbi"', HTTP2)
    return [dict(entry.split(":", 1) for entry in values["json.path_with_value"] if ":" in entry) for values in found.values()]


def containers(recorded: Recorded, kind: int) -> list[Any]:
    """Our key containers on N1, of one type; each once (a repeated one has the transaction of the first)."""
    found: dict[tuple[int, int], Any] = {}
    for _, message in recorded.nas():
        for part in getattr(Nas(message), "container", []):
            if isinstance(part, NasKeyContainer) and part.type == kind:
                found.setdefault((part.generation, part.transaction), part)
    return list(found.values())


def elements(recorded: Recorded, kind: Any) -> list[Any]:
    """Vendor IEs on N4, each once (a request that is sent again has the sequence number of the first)."""
    found: dict[tuple[int, bytes], Any] = {}
    for _, message in recorded.udp(PFCP_PORT):
        layer = PFCP(message)
        for ie in getattr(layer.payload, "IE_list", []):
            if isinstance(ie, kind):
                found.setdefault((layer.seq, bytes(ie)), ie)
    return list(found.values())


def tlv(container: Any, tag: int) -> int:
    return int.from_bytes(next(one.value for one in container.tlvs if one.tag == tag), "big")


@needs_tun
def test_keys_on_three_interfaces(recorded: Recorded) -> None:
    """Generation and lifetime: in the AMF's answer on SBI, in the SMF's IE on N4, in the AMF's container on N1."""
    told = bodies(recorded)

    def of(wanted: Callable[[dict[str, str]], bool], key: str) -> list[int]:
        return [number(body[key]) for body in told if wanted(body)]

    answers = [body for body in told if "/key" in body and "/generation" in body]
    theirs: Values = {
        "N4 generation": [number(body["/generation"]) for body in answers],
        "N4 lifetime": [number(body["/lifetime"]) for body in answers],
        "N1 generation": [number(body["/generation"]) for body in answers],
        "N1 lifetime": [number(body["/lifetime"]) for body in answers],
        "acknowledged": of(lambda body: body.get("/event") == "UE_ACK", "/generation"),
        "asked by the UE": of(lambda body: body.get("/event") == "UE_REKEY_REQUEST", "/generation"),
        "reason": [REASONS[body["/reason"]] for body in told if body.get("/reason") in REASONS],
        "held": [number(body["/heldGeneration"]) for body in told if body.get("/reason") in REASONS],
    }
    keys, requests = elements(recorded, IE_MpquicKey), elements(recorded, IE_MpquicKeyRequest)
    provisions = containers(recorded, PROVISION)
    mine: Values = {
        "N4 generation": [ie.generation for ie in keys], "N4 lifetime": [ie.lifetime for ie in keys],
        "N1 generation": [one.generation for one in provisions], "N1 lifetime": [tlv(one, 3) for one in provisions],
        "acknowledged": [one.generation for one in containers(recorded, ACK)],
        "asked by the UE": [one.generation for one in containers(recorded, REQUEST)],
        "reason": [ie.reason for ie in requests], "held": [ie.held for ie in requests],
    }
    tally = Tally()
    compare("N1, N4 and SBI", mine, theirs, tally)
    tally.require(1, theirs)
    assert len(answers) >= 2                                # of the session, and of the re-key
    assert assert_flips_are_caught([("SBI", mine, theirs)]) == len(theirs)


@needs_tun
def test_requests_are_those_of_the_events(recorded: Recorded) -> None:
    """What the flow graph shows of SBI comes from the run's events: each is a request in the capture."""
    found = tshark(recorded.capture, 'http2.headers.method && frame.interface_name == "core/sbi"', HTTP2)
    paths = [values["http2.headers.path"][0] for values in found.values()]
    events = [json.loads(line) for line in (recorded.directory / "events.jsonl").read_text().splitlines()]

    def told(node: str, name: str) -> int:
        return sum(1 for event in events if (event["node"], event["event"]) == (node, name) and event.get("reason") != "repair")

    assert sum(path.endswith("/sm-contexts") for path in paths) == told("amf", "pdu_session_requested") == 1
    assert sum(path.endswith("/n1-n2-messages") for path in paths) == told("smf", "pdu_session_established") == 1
    assert sum(path.startswith("/namf-mpquickey/") for path in paths) >= told("smf", "key_request_forwarded") >= 2
    answered = tshark(recorded.capture, 'http2.headers.status && frame.interface_name == "core/sbi"', HTTP2)
    statuses = [values["http2.headers.status"][0] for values in answered.values()]
    assert set(statuses) <= {"200", "201", "204"} and statuses.count("201") >= 3

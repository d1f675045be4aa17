"""The PFCP transaction engine under a clock of our own: retransmission, caching, strays, wrap, floods."""

import pytest

from fiveg.pfcp import message as m
from fiveg.pfcp.codes import Cause, MessageType
from fiveg.pfcp.errors import NoResources
from fiveg.pfcp.transaction import (
    CACHE_SECONDS,
    MAX_CACHED_PER_PEER,
    MAX_OUTSTANDING,
    N1,
    T1,
    RequestFaulty,
    RequestReceived,
    RequestTimedOut,
    ResponseFaulty,
    ResponseReceived,
    Transactions,
    VersionRefused,
)

SMF = ("10.90.0.11", 8805)
UPF = ("10.90.0.20", 8805)
DELETE = m.SessionDeletionRequest()
DELETED = m.SessionDeletionResponse(cause=Cause.ACCEPTED)


def sent(engine: Transactions) -> list[bytes]:
    return [data for data, _ in engine.datagrams()]


def test_request_and_response() -> None:
    smf, upf = Transactions(1), Transactions(9)
    smf.request(UPF, DELETE, 7, 0.0, "token")
    (data,) = sent(smf)
    (request,) = upf.receive(data, SMF, 0.1)
    assert isinstance(request, RequestReceived) and request.header.seid == 7
    upf.respond(request.transaction, DELETED, 3, 0.1)
    ((data, peer),) = list(upf.datagrams())
    assert peer == SMF
    (response,) = smf.receive(data, UPF, 0.2)
    assert isinstance(response, ResponseReceived)
    assert (response.message, response.request, response.token) == (DELETED, DELETE, "token")
    assert smf.deadline() is None and smf.advance(100.0) == []


def test_retransmission_then_time_out() -> None:
    smf = Transactions(1)
    smf.request(UPF, DELETE, 7, 0.0, "token")
    first = sent(smf)
    for i in range(1, N1 + 1):
        assert smf.deadline() == pytest.approx(i * T1)
        assert smf.advance(i * T1 - 0.01) == [] and sent(smf) == []
        assert smf.advance(i * T1) == [] and sent(smf) == first
    assert smf.advance((N1 + 1) * T1) == [RequestTimedOut(UPF, DELETE, "token")]
    assert smf.deadline() is None


def test_repeated_request_is_answered_from_the_cache_and_executed_once() -> None:
    smf, upf = Transactions(1), Transactions(9)
    smf.request(UPF, DELETE, 7, 0.0)
    (data,) = sent(smf)
    (request,) = upf.receive(data, SMF, 0.0)
    assert upf.receive(data, SMF, 0.5) == [] and sent(upf) == []  # still being worked on
    assert isinstance(request, RequestReceived)
    upf.respond(request.transaction, DELETED, 3, 0.6)
    answer = sent(upf)
    assert upf.receive(data, SMF, 1.0) == []
    assert sent(upf) == answer
    assert upf.counters["requests_received"] == 1 and upf.counters["requests_repeated"] == 2


def test_same_number_from_another_peer_or_with_other_content_or_much_later_is_a_new_request() -> None:
    upf = Transactions(9)
    data = m.encode(DELETE, 5, 7)
    assert len(upf.receive(data, SMF, 0.0)) == 1
    assert len(upf.receive(data, ("10.90.0.12", 8805), 0.0)) == 1
    assert len(upf.receive(m.encode(DELETE, 5, 8), SMF, 0.1)) == 1
    assert len(upf.receive(m.encode(DELETE, 5, 8), SMF, 0.2 + CACHE_SECONDS)) == 1


def test_sequence_numbers_wrap_at_24_bits_and_pass_over_those_in_flight() -> None:
    smf = Transactions(0xFFFFFF)
    assert [smf.request(UPF, DELETE, 7, 0.0) for _ in range(3)] == [0xFFFFFF, 0, 1]
    again = Transactions(0xFFFFFF)
    again.request(UPF, DELETE, 7, 0.0)
    again._next = 0xFFFFFF
    assert again.request(UPF, DELETE, 7, 0.0) == 0


def test_strays_are_counted_and_change_nothing() -> None:
    smf = Transactions(1)
    smf.request(UPF, DELETE, 7, 0.0)
    wrong_type = m.encode(m.SessionReportResponse(cause=Cause.ACCEPTED), 1, 3)
    for data, peer in (
        (m.encode(DELETED, 2, 3), UPF),
        (m.encode(DELETED, 1, 3), ("10.90.0.66", 8805)),
        (m.encode(DELETED, 1, 3), (UPF[0], 4)),
        (wrong_type, UPF),
    ):
        assert smf.receive(data, peer, 0.1) == []
    assert smf.counters["stray_response"] == 4
    assert len(smf.receive(m.encode(DELETED, 1, 3), UPF, 0.2)) == 1
    assert smf.receive(m.encode(DELETED, 1, 3), UPF, 0.3) == []
    assert smf.counters["stray_response"] == 5


def test_faulty_request_is_given_with_its_cause_and_faulty_response_ends_the_request() -> None:
    upf = Transactions(1)
    faulty = bytes.fromhex("2132000c") + bytes(8) + bytes.fromhex("00000500")
    (event,) = upf.receive(faulty, SMF, 0.0)
    assert isinstance(event, RequestFaulty) and event.error.cause is Cause.MANDATORY_IE_MISSING
    upf.request(SMF, DELETE, 7, 0.0, "token")
    bare = bytes.fromhex("2137000c") + bytes(8) + bytes.fromhex("00000100")
    (answer,) = upf.receive(bare, SMF, 0.0)
    assert isinstance(answer, ResponseFaulty) and answer.token == "token"
    assert upf.deadline() is None


def test_flood_of_other_versions_is_answered_once_a_second() -> None:
    upf = Transactions(1)
    for i in range(2000):
        upf.receive(b"\x40\x01\x00\x04\x00\x00\x01\x00", SMF, i / 1000)
    answers = sent(upf)
    assert len(answers) == 2
    assert m.decode(answers[0])[0].type is MessageType.VERSION_NOT_SUPPORTED_RESPONSE
    assert upf.counters["version_not_supported"] == 2000


def test_version_refusal_of_the_peer_ends_the_request() -> None:
    smf = Transactions(4)
    smf.request(UPF, DELETE, 7, 0.0, "token")
    (event,) = smf.receive(m.encode(m.VersionNotSupportedResponse(), 4), UPF, 0.1)
    assert event == VersionRefused(UPF, DELETE, "token")


def test_floods_are_bounded_and_displace_no_cached_response() -> None:
    upf = Transactions(1)
    first = m.encode(DELETE, 1, 7)
    (event,) = upf.receive(first, SMF, 0.0)
    assert isinstance(event, RequestReceived)
    upf.respond(event.transaction, DELETED, 3, 0.0)
    for i in range(5000):
        beat = m.encode(m.HeartbeatRequest(recovery_time_stamp=1), i)
        assert len(upf.receive(beat, SMF, 0.1)) == 1
    for i in range(1000):
        upf.receive(first, (f"10.0.{i >> 8}.{i & 255}", 1000), 0.1)
    for i in range(2 * MAX_CACHED_PER_PEER):
        upf.receive(m.encode(DELETE, 100 + i, 7), ("10.1.1.1", 1), 0.1)
    assert len(upf._peers) <= 64
    assert all(len(p.cache) <= MAX_CACHED_PER_PEER for p in upf._peers.values())


def test_malformed_datagrams_are_counted_by_reason() -> None:
    upf = Transactions(1)
    assert upf.receive(b"", SMF, 0.0) == []
    assert upf.receive(b"\x20\xfe\x00\x04\x00\x00\x01\x00", SMF, 0.0) == []
    assert (upf.counters["malformed_header"], upf.counters["unknown_message_type"]) == (1, 1)
    assert sent(upf) == []


def test_requests_in_flight_are_limited_and_forgotten_with_their_peer() -> None:
    smf = Transactions(1)
    for _ in range(MAX_OUTSTANDING):
        smf.request(UPF, DELETE, 7, 0.0)
    with pytest.raises(NoResources):
        smf.request(UPF, DELETE, 7, 0.0)
    smf.forget(UPF[0])
    assert smf.deadline() is None

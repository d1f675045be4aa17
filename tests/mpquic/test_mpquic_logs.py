"""What a connection leaves in logs: qlog in its form, and no key anywhere but in a key log that was asked for."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from line import IDENTITY, KEY, SERVER, Line, psk
from mpquic_rig import DN, UE, Proxy, packet, run
from qlog_schema import check_event, check_events, check_first, records_of

from mpquic import qlog_events
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.errors import HandshakeRefused
from mpquic.psk import Psk
from mpquic.qlog import Qlog
from mpquic.trace import Trace

WALL_CLOCK = "2026-01-01T00:00:00Z"
Record = dict[str, Any]


def keeper(written: list[bytes]) -> Callable[[bytes | memoryview], object]:
    """What a sink gets is good for the call only."""
    return lambda text: written.append(bytes(text))


def logged(line: Line, **options: Any) -> tuple[list[bytes], list[bytes]]:
    """The client's and the server's log from now on."""
    logs: tuple[list[bytes], list[bytes]] = ([], [])
    for endpoint, name, written in zip((line.client, line.server), ("ue", "upf"), logs, strict=True):
        trace = Trace(endpoint.engine.endpoint)
        endpoint._qlog = Qlog(trace, keeper(written), name, endpoint.config.role, WALL_CLOCK, **options)
    return logs


def valid(written: list[bytes]) -> list[Record]:
    records = records_of(b"".join(written))
    check_first(records[0])
    check_events(records[1:])
    return records[1:]


def names(records: list[Record]) -> set[str]:
    return {r["name"] for r in records}


def test_qlog_has_the_life_of_a_connection_and_no_key(caplog: pytest.LogCaptureFixture) -> None:
    """R-154: key, secrets and reset token are searched for in all that was written."""
    logs: list[tuple[list[bytes], list[bytes]]] = []
    secrets: list[str] = []
    tokens: list[bytes] = []
    inner = packet(UE, DN, 40000, b"\xab\xcd\xef" * 40)

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        logs.append(logged(line))
        for endpoint in (line.client, line.server):
            endpoint.config.keylog = lambda one: secrets.append(one.split()[2])
        connection = await proxy.session()
        tokens.append(proxy.connections[0]._info.reset_token)
        for _ in range(20):
            line.client.engine.tunnel_input(1, inner, line.now)
        await line.run(None, 500)
        await line.do(proxy.connections[0].goaway())
        await line.do(connection.close())
        await line.run(None, 1000)
        with pytest.raises(HandshakeRefused):
            await line.do(line.client.connect(Psk(bytes(range(1, 33)), IDENTITY), 0, SERVER))

    run(test)
    ue, upf = (valid(written) for written in logs[0])
    everywhere = {
        *("quic:connection_started", "quic:parameters_set", "quic:alpn_information", "quic:connection_closed", "quic:packet_sent"),
        *("quic:packet_received", "quic:packets_acked", "quic:recovery_metrics_updated", "quic:key_updated", "quic:key_discarded"),
        *("quic:tuple_assigned", "quic:mtu_updated", "quic:migration_state_updated", "mpquic:path_validated"),
        *("http3:parameters_set", "http3:stream_type_set", "http3:frame_created", "http3:frame_parsed"),
    }
    assert everywhere <= names(ue) and everywhere <= names(upf)
    assert "mpquic:capsule_parsed" in names(ue) and "mpquic:capsule_created" in names(upf)
    assert {r["data"]["initiator"] for r in ue if r["name"] == "quic:parameters_set"} == {"local", "remote"}
    groups = [{r["group_id"] for r in records if r["name"] == "http3:frame_created"} for records in (ue, upf)]
    assert groups[0] == groups[1] and len(groups[0]) == 1, "one connection has one name at both ends"
    paths = {r["data"]["header"].get("path_id", 0) for r in ue if r["name"] == "quic:packet_sent"}
    assert paths == {0, 1}
    written = b"".join(logs[0][0] + logs[0][1]) + caplog.text.encode()
    assert len(secrets) >= 10
    for secret in (KEY.hex(), bytes(range(1, 33)).hex(), *secrets, tokens[0].hex(), (b"\xab\xcd\xef" * 2).hex()):
        assert secret.encode() not in written
    assert inner[28:60] not in written


def test_http3_frames_are_told_on_both_sides() -> None:
    logs: list[tuple[list[bytes], list[bytes]]] = []

    async def test(proxy: Proxy) -> None:
        logs.append(logged(proxy.line))
        await proxy.session()
        await proxy.line.do(proxy.connections[0].goaway())
        await proxy.line.run(None, 100)

    run(test)
    ue, upf = (valid(written) for written in logs[0])

    def frames(records: list[Record], name: str) -> set[str]:
        return {r["data"]["frame"]["frame_type"] for r in records if r["name"] == name}

    assert frames(ue, "http3:frame_created") == {"settings", "headers"}
    assert frames(upf, "http3:frame_parsed") >= {"settings", "headers"}
    assert frames(upf, "http3:frame_created") == {"settings", "headers", "data", "goaway"}
    assert frames(ue, "http3:frame_parsed") >= {"settings", "headers", "data", "goaway"}
    capsules = [r["data"]["capsule_type"] for r in ue if r["name"] == "mpquic:capsule_parsed"]
    assert capsules == ["address_assign", "route_advertisement"]


@pytest.mark.parametrize("most", [3000, 20_000])
def test_a_log_has_an_end(most: int) -> None:
    """R-187: packets are told up to the limit, rare events a little further; the connection does not notice."""
    logs: list[tuple[list[bytes], list[bytes]]] = []

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        logs.append(logged(line, octets_most=most))
        connection = await proxy.session()
        for port in range(300):
            line.client.engine.tunnel_input(1, packet(UE, DN, 40000 + port), line.now)
            await line.run(None, 2)
        assert connection.stats()["datagrams_sent"] == 300
        await line.do(connection.close())

    run(test)
    for written in logs[0]:
        records = valid(written)
        assert sum(len(one) for one in written) <= most + most // 8
        assert sum(r["name"] == "mpquic:log_full" for r in records) <= 1
        sent = sum(r["name"] == "quic:packet_sent" for r in records)
        assert sent < 300


def test_a_full_disk_does_not_hurt() -> None:
    def refuse(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    async def test(proxy: Proxy) -> None:
        client = proxy.line.client
        client._qlog = Qlog(Trace(client.engine.endpoint), refuse, "ue", "client", WALL_CLOCK)
        connection = await proxy.session()
        await proxy.line.do(connection.close())

    run(test)


def test_the_thread_writes_everything_before_the_end(tmp_path: Path) -> None:
    """With the I/O thread, over loopback: what happened last stands in the file when `close` returns."""
    path = tmp_path / "upf.sqlog"

    async def main() -> None:
        with path.open("wb", buffering=0) as file:
            server = Endpoint(
                EndpointConfig(role="server", name="upf", psk_lookup={IDENTITY: psk()}.get, qlog=file.write, random_seed=5)
            )
            client = Endpoint(EndpointConfig(role="client", random_seed=6))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
                for one, endpoint in ((a, client), (b, server)):
                    one.setblocking(False)
                    one.bind(("127.0.0.1", 0))
                    endpoint.add_socket(0, one, "3gpp")
                    endpoint.start()
                connection = await client.connect(psk(), 0, b.getsockname())
                await connection.close(reason="the end")
                await asyncio.sleep(0.05)
                await client.close()
                await server.close()

    asyncio.run(main())
    records = valid([path.read_bytes()])
    assert "quic:packet_received" in names(records)
    closed = [r["data"] for r in records if r["name"] == "quic:connection_closed"]
    assert [(c["initiator"], c["trigger"], c["reason"]) for c in closed] == [("remote", "application", "the end")]


@pytest.mark.parametrize(
    ("source", "code", "application", "expected"),
    [
        (
            *("local", 0x100, True),
            {"initiator": "local", "application_error": "unknown", "error_code": 0x100, "trigger": "application"},
        ),
        ("peer", 0x0A, False, {"initiator": "remote", "connection_error": "protocol_violation", "trigger": "error"}),
        ("peer", 0x133, False, {"initiator": "remote", "connection_error": "crypto_error_0x133", "trigger": "error"}),
        ("peer", 0x3E75, False, {"initiator": "remote", "connection_error": "unknown", "error_code": 0x3E75, "trigger": "error"}),
        ("idle", 0, False, {"initiator": "local", "trigger": "idle_timeout"}),
        ("reset", 0, False, {"initiator": "remote", "trigger": "stateless_reset"}),
        ("version", 0x11, False, {"initiator": "remote", "trigger": "version_mismatch"}),
        ("error", 0x10, False, {"initiator": "local", "connection_error": "no_viable_path", "trigger": "error"}),
    ],
)
def test_ends_in_words_of_qlog(source: str, code: int, application: bool, expected: Record) -> None:
    data = qlog_events.closed(source, code, application, "")
    assert data == expected
    check_event({"time": 0, "name": "quic:connection_closed", "data": data})


def test_what_a_peer_says_cannot_break_or_bloat_the_log() -> None:
    told: list[Record] = []
    log = qlog_events.H3Log(lambda name, data: told.append({"time": 0, "name": name, "data": data}))
    log.headers(0, [(b"x", bytes(range(256)) * 100)] * 500, ours=False)
    log.stream(3, 0x21 + 0x1F * 9, ours=False)
    log.stream(3, 1 << 61, ours=False)
    log.settings(3, bytes.fromhex("0100" "3301" "c00000000000123405"), ours=False)
    log.frame(3, 0x0D, 1, ours=False, value=7)
    log.frame(3, 0x21, 1, ours=False)
    log.frame(3, 0x1234, 1, ours=False)
    for record in told:
        check_event(json.loads(json.dumps(record)))
        assert len(json.dumps(record)) < 16_384, "a note of the trace"


def test_qlog_events_need_no_engine_of_their_own_time() -> None:
    """Notes and the engine's records have one clock: an event between two packets stands between them."""
    found: list[list[Record]] = []

    async def test(proxy: Proxy) -> None:
        logs = logged(proxy.line)
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        await proxy.line.do(connection.close())
        found.append(valid(logs[0]))

    run(test)
    order = [r["name"] for r in found[0]]
    position: Callable[[str], int] = order.index
    assert position("quic:connection_started") < position("quic:packet_sent") < position("quic:alpn_information")
    assert position("quic:alpn_information") < position("quic:connection_closed")


def test_objects_of_a_connection_show_no_key() -> None:
    async def test(proxy: Proxy) -> None:
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        shown = repr(connection.psk) + repr(proxy.line.server.config) + repr(connection._info) + repr(connection.__dict__)
        assert KEY.hex() not in shown and repr(KEY) not in shown and repr(bytearray(KEY)) not in shown
        assert repr(proxy.line.server.config.reset_key) not in shown

    run(test)


def test_a_psk_is_never_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(psk())

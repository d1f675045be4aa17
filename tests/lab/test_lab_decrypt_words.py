"""The decryptor against our own endpoints in memory, one test for each thing that happens to a connection: both paths, key updates,
connection ID changes, migration, re-keys, Retry, Version Negotiation, stateless reset, early packets that nobody captured.

Each has its canary: what the test would look like if the thing had not happened, or if the decryptor did not follow it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import PROXY, UE, Capture, udp4

sys.path.append(str(Path(__file__).parents[1] / "mpquic"))

import mpquic_rig
from line import SERVER, psk
from mpquic_rig import DN, Proxy, packet, packets_of
from mpquic_rig import UE as UE_INNER

from lab import decrypt as d
from lab.bench import memory_line
from lab.capture_scan import CaptureDecryptor
from lab.decrypt import ClearPacket
from lab.decrypt_keys import KeyLog
from lab.packets import frames as f
from lab.packets.quic import QuicVersionNegotiation
from lab.pcapng import PcapngReader, PcapngWriter
from mpquic.engine import Datagram
from mpquic.errors import EngineError
from mpquic.tls_messages import ClientHello

LINKS = ("3gpp", "wifi")


class Tapped:
    """A proxy whose line is captured at the client's end: what leaves it, and what arrives there."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.line = proxy, proxy.line
        self.capture = Capture()
        self.keys: list[str] = []
        self.hidden: Callable[[bytes, bool], bool] = lambda _data, _up: False     # crosses the line, is not captured
        self.lost: Callable[[bytes, bool], bool] = lambda _data, _up: False       # is captured, does not cross the line
        self.line.client.config.keylog = self.keys.append
        self.line.drop = self._tap

    def _tap(self, datagram: Datagram, to_server: bool) -> bool:
        if not self.hidden(datagram.data, to_server):
            self.capture.time = self.line.now
            self.capture.udp(to_server, LINKS[datagram.link], datagram.data)
        return self.lost(datagram.data, to_server)

    async def traffic(self, count: int = 10) -> None:
        """Inner packets both ways, each of which arrives."""
        for client in (True, False):
            ends = (self.line.client, self.line.server) if client else (self.line.server, self.line.client)
            for port in range(40000, 40000 + count):
                inner = packet(UE_INNER, DN, port) if client else packet(DN, UE_INNER, port)
                ends[0].engine.tunnel_input(1, inner, self.line.now)
            await self.line.run(None, 400)
            assert len(packets_of(self.line, server=client)) == count

    def read(self, keylog: bytes | None = None) -> tuple[list[ClearPacket], CaptureDecryptor]:
        log = KeyLog()
        log.add("\n".join(line.strip() for line in self.keys).encode() if keylog is None else keylog)
        reader = CaptureDecryptor(io.BytesIO(self.capture.bytes()), log)
        return list(reader.packets()), reader


def run(test: Callable[[Tapped], Awaitable[None]], **options: Any) -> None:
    async def main(proxy: Proxy) -> None:
        await test(Tapped(proxy))

    mpquic_rig.run(main, **options)


def all_clear(packets: list[ClearPacket]) -> None:
    assert [p.reason for p in packets if p.reason] == []


def inner_count(packets: list[ClearPacket]) -> int:
    return sum(p.inner_count for p in packets)


def test_every_packet_of_both_paths() -> None:
    async def test(tapped: Tapped) -> None:
        await tapped.proxy.session()
        await tapped.traffic(20)
        packets, _ = tapped.read()
        all_clear(packets)
        assert {(p.path, p.up) for p in packets if p.inner_count} == {(0, True), (0, False), (1, True), (1, False)}
        assert inner_count(packets) == 40
        closed, _ = tapped.read(b"")                        # canary: without the key log nothing of them is read
        assert {p.reason for p in closed if p.kind == "1rtt"} == {d.NO_SECRETS, d.NO_CID}

    run(test)


def test_key_updates_of_both_ends() -> None:
    async def test(tapped: Tapped) -> None:
        connection = await tapped.proxy.session()
        server = tapped.proxy.connections[0]
        wanted = [(tapped.line.client, connection), (tapped.line.server, server)] * 2
        for _ in range(30):                                 # an update waits for the confirmation of the one before
            await tapped.traffic(4)
            with suppress(EngineError):
                end, one = wanted[0]
                end.engine.key_update(one.handle)
                del wanted[0]
            if not wanted:
                break
        assert not wanted
        await tapped.traffic(4)
        packets, _ = tapped.read()
        all_clear(packets)
        for up in (True, False):
            newest = max(p.generation for p in packets if p.up is up)
            assert newest >= 4 and {p.path for p in packets if p.up is up and p.generation == newest} == {0, 1}
        # canary: a decryptor that stays with its first keys
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lab.decrypt_connection.Generations.candidates", lambda self, *_: iter([0]))
            log = KeyLog()
            log.add("\n".join(line.strip() for line in tapped.keys).encode())
            stuck = list(CaptureDecryptor(io.BytesIO(tapped.capture.bytes()), log, native=False).packets())
        assert {p.reason for p in stuck if p.kind == "1rtt"} >= {"", d.NOT_AUTHENTIC}

    run(test)


def test_connection_id_changes() -> None:
    async def test(tapped: Tapped) -> None:
        connection = await tapped.proxy.session()
        for path in (0, 1, 0, 1):
            await tapped.traffic(4)
            tapped.line.client.engine.path_cid_rotate(connection.handle, path)
        await tapped.traffic(4)
        packets, reader = tapped.read()
        all_clear(packets)
        used = {path: {p.dcid for p in packets if p.kind == "1rtt" and p.up and p.path == path} for path in (0, 1)}
        assert len(used[0]) >= 3 and len(used[1]) >= 3      # canary: they did change
        assert len(reader.decryptor.connections) == 1

    run(test)


def test_migration_of_one_path() -> None:
    """The client's address changes under path 1 (a NAT's rebinding): the connection ID is what a packet is known by."""

    async def test(tapped: Tapped) -> None:
        await tapped.proxy.session()
        await tapped.traffic(10)
        before = memory_line.client_of
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory_line, "client_of", lambda link: (before(link)[0], 50_777) if link else before(link))

            def moved(up: bool, access: str, payload: bytes) -> None:
                port = 50_777 if access == "wifi" else 40_000
                ends = (UE[access], port, PROXY, 4433)
                tapped.capture.frame(access, udp4(*ends, payload) if up else udp4(PROXY, 4433, UE[access], port, payload))

            patch.setattr(tapped.capture, "udp", moved)
            start = len(tapped.capture.bytes())
            await tapped.traffic(20)
            assert len(tapped.capture.bytes()) > start
            await tapped.line.run(None, 1000)
        packets, reader = tapped.read()
        all_clear(packets)
        after = [p for p in packets if p.path == 1 and any(isinstance(frame, f.PathChallenge) and not p.up for frame in p.frames)]
        assert after                                        # canary: the server did validate the new address
        assert len(reader.decryptor.connections) == 1 and inner_count(packets) == 60

    run(test)


def test_a_rekey_is_another_connection() -> None:
    async def test(tapped: Tapped) -> None:
        await tapped.proxy.session()
        await tapped.traffic(4)
        tapped.proxy.spent = False                          # the proxy has a new key of the same octets
        second: Any = await tapped.line.do(tapped.line.client.connect(psk(), 1, SERVER))
        await tapped.line.do(second.connect_ip("proxy"))
        await tapped.traffic(4)                             # the tunnel is still the old one's
        await tapped.line.run(None, 500)
        packets, reader = tapped.read()
        all_clear(packets)
        assert len(reader.decryptor.summaries) == 2
        assert {p.connection for p in packets if p.kind == "1rtt"} == {0, 1}
        randoms = {line.split()[1] for line in tapped.keys}
        assert {s.client_random for s in reader.decryptor.summaries} == randoms and len(randoms) == 2
        only_first = "\n".join(line.strip() for line in tapped.keys if line.split()[1] == tapped.keys[0].split()[1]).encode()
        half, _ = tapped.read(only_first)                   # canary: each needs its own secrets
        assert {p.connection for p in half if p.kind == "1rtt" and not p.reason} == {0}

    run(test)


def test_retry() -> None:
    async def test(tapped: Tapped) -> None:
        await tapped.proxy.session()
        await tapped.traffic(4)
        packets, reader = tapped.read()
        all_clear(packets)
        retries = [p for p in packets if p.kind == "retry"]
        assert len(retries) == 1 and not retries[0].up and retries[0].words() == "retry connection 0: no frame"
        assert len(reader.decryptor.summaries) == 1 and inner_count(packets) == 8
        # the Retry itself not captured: the keys behind it are found by the connection ID that it gave
        capture = without(tapped.capture.bytes(), retries[0].record)
        less = list(CaptureDecryptor(io.BytesIO(capture), reader.decryptor.keylog).packets())
        all_clear(less)
        assert len(less) == len(packets) - 1
        with pytest.MonkeyPatch.context() as patch:         # canary: a decryptor that does not follow it
            patch.setattr(d.Decryptor, "_after_a_retry", lambda *_: None)
            stuck = list(CaptureDecryptor(io.BytesIO(capture), reader.decryptor.keylog).packets())
        assert {p.reason for p in stuck if p.kind == "initial"} == {"", d.NOT_AUTHENTIC}

    with pytest.MonkeyPatch.context() as patch:
        real = mpquic_rig.EndpointConfig
        patch.setattr(mpquic_rig, "EndpointConfig", lambda **options: real(**{**options, "retry_half_open": 1}))
        run(test)


def without(capture: bytes, record: int) -> bytes:
    """The capture without one of its frames."""
    source, out = PcapngReader(io.BytesIO(capture)), io.BytesIO()
    writer = PcapngWriter(out)
    records = list(source)
    for interface in source.interfaces:
        writer.interface(interface.linktype, interface.name)
    for one in records:
        if one.number != record:
            writer.packet(one.interface, one.time_ns, one.data)
    return out.getvalue()


def test_version_negotiation_is_named() -> None:
    async def test(tapped: Tapped) -> None:
        grease = QuicVersionNegotiation(dcid=b"client-1", scid=b"server-1", versions=[1, 0x1A2A3A4A])
        tapped.capture.udp(False, "3gpp", bytes(grease))
        await tapped.proxy.session()
        packets, reader = tapped.read()
        all_clear(packets)
        first = packets[0]
        assert (first.kind, first.up, first.words()) == ("version-negotiation", False, "version-negotiation: no frame")
        assert QuicVersionNegotiation(first.header).versions == [1, 0x1A2A3A4A]
        assert len(reader.decryptor.summaries) == 1

    run(test)


def test_a_stateless_reset_is_named_and_a_forged_one_is_not() -> None:
    """The server lost its state: it answers with the token of the connection ID that the packet came to (RFC 9000 §10.3)."""

    async def test(tapped: Tapped) -> None:
        await tapped.proxy.session()
        await tapped.traffic(6)
        packets, reader = tapped.read()
        announced = [frame for p in packets if not p.up and p.number is not None for frame in p.frames
                     if isinstance(frame, f.PathNewConnectionId | f.NewConnectionId)]
        for frame in announced[:2]:
            tapped.capture.udp(False, "3gpp", b"\x41" + bytes(range(40)) + frame.token)
        tapped.capture.udp(False, "3gpp", b"\x41" + bytes(range(40)) + bytes(16))
        packets, _ = tapped.read()
        told = [(p.kind, p.reason) for p in packets[-3:]]
        assert told == [("stateless-reset", d.RESET)] * 2 + [("1rtt", d.NO_CID)]
        assert reader.decryptor.summaries[0].packets

    run(test)


@pytest.mark.parametrize("hidden", [1, 2, 3, 5, 8])
def test_early_packets_that_were_not_captured(hidden: int) -> None:
    """The capture begins behind the first datagrams: what was said in them is found again, or its absence is told."""

    async def test(tapped: Tapped) -> None:
        left = hidden

        def hide(_data: bytes, _up: bool) -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        tapped.hidden = hide
        await tapped.proxy.session()
        await tapped.traffic(10)
        packets, reader = tapped.read()
        data = [p for p in packets if p.kind == "1rtt"]
        assert {p.reason for p in data} == {""} and inner_count(packets) == 20
        assert {p.path for p in data} == {0, 1} and len(reader.decryptor.summaries) == 1
        assert {p.reason for p in packets if p.reason} <= {d.NO_HELLO, d.NO_CID, d.NO_FIRST}
        assert [p for p in packets if p.kind == "initial" and not p.reason] == [] or hidden < 3

    run(test)


@pytest.mark.parametrize("lost", [(True, 0), (False, 0), (True, 1), (False, 1)])
def test_early_packets_that_were_lost_and_sent_again(lost: tuple[bool, int]) -> None:
    """Captured at the client's end, and gone on the way: each time the same octets come again in other packets."""

    async def test(tapped: Tapped) -> None:
        seen = {True: 0, False: 0}
        gone = 0

        def lose(_data: bytes, up: bool) -> bool:
            nonlocal gone
            seen[up] += 1
            this = (up, seen[up] - 1) == lost
            gone += this
            return this

        tapped.lost = lose
        await tapped.proxy.session()
        await tapped.traffic(6)
        packets, reader = tapped.read()
        all_clear(packets)
        assert gone == 1 and len(reader.decryptor.summaries) == 1 and inner_count(packets) == 12
        assert sum(p.kind in ("initial", "handshake") for p in packets) > 4     # canary: something was sent again

    run(test)


def test_a_client_hello_of_another_kind_is_no_trap() -> None:
    """What the reader takes from a hello is what our own codec wrote there."""

    async def test(tapped: Tapped) -> None:
        await tapped.proxy.session()
        packets, reader = tapped.read()
        crypto = next(frame for p in packets for frame in p.frames if isinstance(frame, f.Crypto))
        assert ClientHello.decode(crypto.data[4:]).random.hex() == reader.decryptor.summaries[0].client_random

    run(test)

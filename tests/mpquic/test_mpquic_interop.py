"""Against another implementation: aioquic's QUIC, TLS and HTTP/3, single path, with the PSK in place of a ticket.

aioquic has no external PSK, but its resumption differs in one label only ("res binder" for "ext binder"): that one is
changed here. Everything else of the peer is its own code.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest
from aioquic import tls as aioquic_tls
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from line import IDENTITY, KEY, SERVER, client_of, psk
from mpquic_rig import BALANCED, DN, UE, packet

from mpquic.capsule import CapsuleReader
from mpquic.connect_ip import ADDRESS_ASSIGN, CAPSULES, Assigned, Route, address_assign, decode_assign, route_advertisement
from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.engine import Datagram
from mpquic.errors import HandshakeRefused, PathFailed
from mpquic.psk import Psk
from mpquic.reader import varint
from mpquic.tunnel_request import ConnectIpReply, request_headers

ADDRESS, EVERYWHERE = IPv4Network("10.45.0.2/32"), IPv4Network("0.0.0.0/0")


@pytest.fixture(autouse=True)
def external_binder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    original = aioquic_tls.KeySchedule.derive_secret
    monkeypatch.setattr(
        aioquic_tls.KeySchedule,
        "derive_secret",
        lambda self, label: original(self, b"ext binder" if label == b"res binder" else label),
    )
    yield


def ticket(key: bytes, identity: bytes) -> Any:
    now = datetime.datetime.now(datetime.UTC)
    return aioquic_tls.SessionTicket(
        age_add=0,
        cipher_suite=aioquic_tls.CipherSuite.AES_128_GCM_SHA256,
        not_valid_before=now - datetime.timedelta(hours=1),
        not_valid_after=now + datetime.timedelta(hours=1),
        resumption_secret=key,
        server_name="proxy",
        ticket=identity,
    )


def configuration(is_client: bool, **options: Any) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["h3"],
        max_datagram_frame_size=65535,
        server_name="proxy",
        cipher_suites=[aioquic_tls.CipherSuite.AES_128_GCM_SHA256],
        **options,
    )


class Peer:
    """An aioquic connection against one of our endpoints, in virtual time, 5 ms each way."""

    def __init__(self, ours: Endpoint, theirs: QuicConnection) -> None:
        self.ours, self.theirs = ours, theirs
        self.server = not theirs.configuration.is_client
        self.now = 1_000_000_000
        ours.clock_set(lambda: self.now)
        ours.engine.link_set(0, "3gpp")
        ours.engine.link_set(1, "non-3gpp")
        self.events: list[Any] = []
        self.h3: H3Connection | None = None

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds // 5):
            self.ours.process_events()
            outgoing = []
            while (datagram := self.ours.engine.output(self.now)) is not None:
                outgoing.append(datagram.data)
            incoming = [data for data, _ in self.theirs.datagrams_to_send(self.now / 1e9)]
            self.now += 5_000_000
            for data in incoming:
                remote = SERVER if self.server else client_of(0)
                self.ours.engine.input(Datagram(0, remote, data), self.now)
            for data in outgoing:
                self.theirs.receive_datagram(data, client_of(0) if self.server else SERVER, self.now / 1e9)
            self.ours.engine.advance(self.now)
            timer = self.theirs.get_timer()
            if timer is not None and timer <= self.now / 1e9:
                self.theirs.handle_timer(self.now / 1e9)
            while (event := self.theirs.next_event()) is not None:
                if self.h3 is None and isinstance(event, HandshakeCompleted):
                    self.h3 = H3Connection(self.theirs, enable_webtransport=True)  # or it offers no HTTP datagrams
                self.events.append(event)
                if self.h3 is not None:
                    self.events += self.h3.handle_event(event)

    async def do(self, work: Any, milliseconds: int = 3000) -> Any:
        task = asyncio.ensure_future(work)
        for _ in range(milliseconds // 5):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if task.done():
                return task.result()
            self.run(5)
        raise TimeoutError("virtual time is over")

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def their_client(key: bytes = KEY, identity: bytes = IDENTITY) -> QuicConnection:
    made = QuicConnection(configuration=configuration(True, session_ticket=ticket(key, identity)))
    made.connect(SERVER, now=1.0)
    return made


def our_server(connections: list[Connection]) -> Endpoint:
    def connected(connection: Connection) -> None:
        connection.on_connect_ip = lambda _target: ConnectIpReply(200, (ADDRESS,), (EVERYWHERE,))
        connections.append(connection)

    return Endpoint(
        EndpointConfig(
            role="server",
            psk_lookup=lambda identity: psk() if identity == IDENTITY else None,
            on_connection=connected,
            random_seed=5,
        )
    )


def test_their_client_gets_a_tunnel_and_packets_both_ways() -> None:
    async def main() -> None:
        connections: list[Connection] = []
        peer = Peer(our_server(connections), their_client())
        peer.run(200)
        assert peer.of(HandshakeCompleted)[0].session_resumed
        assert connections[0].client_random == peer.theirs.tls.client_random.hex()
        assert peer.h3 is not None
        stream = peer.theirs.get_next_available_stream_id()
        peer.h3.send_headers(stream, request_headers("proxy"))
        peer.run(200)
        assert dict(peer.of(HeadersReceived)[0].headers)[b":status"] == b"200"
        capsules = CapsuleReader(CAPSULES).feed(b"".join(event.data for event in peer.of(DataReceived)))
        assert decode_assign(next(c.value for c in capsules if c.type == ADDRESS_ASSIGN)) == [Assigned(0, ADDRESS)]

        tunnel = peer.ours.tunnel_new(1, ipv4=UE)
        tunnel.steering_set([BALANCED])
        tunnel.bind(connections[0])
        up, down = packet(UE, DN, 4000), packet(DN, UE, 4000)
        peer.h3.send_datagram(stream, varint(0) + up)
        peer.run(50)
        assert peer.ours.engine.tunnel_output() == (1, up)
        peer.ours.engine.tunnel_input(1, down, peer.now)
        peer.run(50)
        assert [(event.stream_id, event.data) for event in peer.of(DatagramReceived)] == [(stream, varint(0) + down)]
        # no multipath was negotiated, none is used
        assert not connections[0].stats()["multipath"] and len(connections[0].paths()) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("key", "identity", "counter"),
    [(bytes(32), IDENTITY, "psk_wrong_binder"), (KEY, b"somebody", "psk_unknown_identity")],
    ids=["wrong key", "unknown identity"],
)
def test_their_client_with_a_wrong_key_is_refused(key: bytes, identity: bytes, counter: str) -> None:
    async def main() -> None:
        peer = Peer(our_server([]), their_client(key, identity))
        peer.run(3000)
        ended = peer.of(ConnectionTerminated)[0]
        assert (ended.error_code, ended.reason_phrase) == (0x133, "")
        assert peer.ours.counters[counter] == 1

    asyncio.run(main())


def test_their_client_with_certificates_is_refused() -> None:
    """R-04: no fall-back to certificates, and none to no authentication."""

    async def main() -> None:
        theirs = QuicConnection(configuration=configuration(True))
        theirs.connect(SERVER, now=1.0)
        peer = Peer(our_server([]), theirs)
        peer.run(3000)
        assert peer.of(ConnectionTerminated)[0].error_code == 0x128
        assert peer.ours.counters["psk_missing"] == 1

    asyncio.run(main())


def their_server(key: bytes, peer_cid: bytes) -> QuicConnection:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proxy")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    return QuicConnection(
        configuration=configuration(False, certificate=certificate, private_key=private),
        original_destination_connection_id=peer_cid,
        session_ticket_fetcher=lambda identity: ticket(key, identity) if identity == IDENTITY else None,
    )


def our_client(key: bytes) -> tuple[Endpoint, Any, Peer]:
    """Our first Initial makes their server: it wants the destination CID at birth."""
    ours = Endpoint(EndpointConfig(role="client", random_seed=6))
    peer = Peer(ours, QuicConnection(configuration=configuration(True)))
    connecting = asyncio.ensure_future(ours.connect(Psk(key, IDENTITY), 0, SERVER))
    return ours, connecting, peer


async def meet(peer: Peer, key: bytes) -> None:
    await asyncio.sleep(0)
    first = peer.ours.engine.output(peer.now)
    assert first is not None
    peer.theirs = their_server(key, first.data[6 : 6 + first.data[5]])
    peer.server = True
    peer.theirs.receive_datagram(first.data, client_of(0), peer.now / 1e9)


def test_our_client_at_their_server() -> None:
    async def main() -> None:
        _, connecting, peer = our_client(KEY)
        await meet(peer, KEY)
        connection = await peer.do(connecting)
        assert peer.of(HandshakeCompleted)[0].session_resumed
        asking = asyncio.ensure_future(connection.connect_ip("proxy"))
        for _ in range(20):
            await asyncio.sleep(0)
            peer.run(10)
        request = peer.of(HeadersReceived)[0]
        assert request.headers == request_headers("proxy")
        assert peer.h3 is not None
        peer.h3.send_headers(request.stream_id, [(b":status", b"200"), (b"capsule-protocol", b"?1")])
        answer = address_assign([Assigned(0, ADDRESS)]).encode() + route_advertisement([Route.of(EVERYWHERE)]).encode()
        peer.h3.send_data(request.stream_id, answer, False)
        tunnel = await peer.do(asking)
        assert tunnel.addresses == (ADDRESS,) and tunnel.routes == (EVERYWHERE,)
        with pytest.raises(PathFailed):  # their server has no multipath
            await connection.open_path(1, SERVER)

    asyncio.run(main())


def test_our_client_refuses_a_server_that_has_not_the_key() -> None:
    """Their server, with another key under our identity, answers our binder with an alert of its own choice."""

    async def main() -> None:
        _, connecting, peer = our_client(KEY)
        await meet(peer, bytes(32))
        with pytest.raises(HandshakeRefused) as refused:
            await peer.do(connecting)
        assert refused.value.key_refused

    asyncio.run(main())


def test_our_client_refuses_certificates() -> None:
    """PSK-07: their server does not know the identity, and goes on with its certificate."""

    async def main() -> None:
        ours = Endpoint(EndpointConfig(role="client", random_seed=6))
        peer = Peer(ours, QuicConnection(configuration=configuration(True)))
        connecting = asyncio.ensure_future(ours.connect(Psk(KEY, b"unknown there"), 0, SERVER))
        await meet(peer, KEY)
        with pytest.raises(Exception, match="certificates"):
            await peer.do(connecting)
        ended = peer.of(ConnectionTerminated)
        assert not ended or ended[0].error_code == 0x128
        assert ours.counters["psk_missing"] == 1

    asyncio.run(main())



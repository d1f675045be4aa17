"""Seconds of CPU time that one end of aioquic takes for a handshake with a certificate (P-256), in memory; run by `mpq bench`.

A count of handshakes on a line of standard input, the seconds on one of standard output. HTTP/3's SETTINGS and the close are in it.
"""

from __future__ import annotations

import ssl
import sys
import tempfile
import time
from pathlib import Path

from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted

from lab.bench.certificate import self_signed

CLIENT, SERVER = ("10.1.0.2", 50000), ("10.100.0.1", 4433)


def certificate(folder: Path) -> tuple[Path, Path]:
    made = self_signed("server")
    (folder / "cert.pem").write_text(made.certificate)
    (folder / "key.pem").write_text(made.private_key)
    return folder / "cert.pem", folder / "key.pem"


def handshake(client_config: QuicConfiguration, server_config: QuicConfiguration, start: float) -> None:
    now = start
    client = QuicConnection(configuration=client_config)
    client.connect(SERVER, now)
    odcid = client.original_destination_connection_id
    server = QuicConnection(configuration=server_config, original_destination_connection_id=odcid)
    https: dict[QuicConnection, H3Connection] = {}
    while not (client._handshake_confirmed and len(https) == 2 and all(h3.received_settings for h3 in https.values())):
        if now > start + 1:
            raise SystemExit("no handshake")
        for datagram, _ in client.datagrams_to_send(now):
            server.receive_datagram(datagram, CLIENT, now)
        told(server, https)
        for datagram, _ in server.datagrams_to_send(now):
            client.receive_datagram(datagram, SERVER, now)
        told(client, https)
        now += 0.005
    client.close()
    for datagram, _ in client.datagrams_to_send(now):
        server.receive_datagram(datagram, CLIENT, now)
    told(server, https)


def told(connection: QuicConnection, https: dict[QuicConnection, H3Connection]) -> None:
    """HTTP/3 begins when the handshake is complete, as ours does, and sees all events."""
    while (event := connection.next_event()) is not None:
        if isinstance(event, HandshakeCompleted):
            https[connection] = H3Connection(connection)
        if connection in https:
            https[connection].handle_event(event)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(Path(folder))
        server_config = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
        server_config.load_cert_chain(cert, key)
        client_config = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_REQUIRED)
        client_config.server_name = "server"
        client_config.load_verify_locations(str(cert))
        handshake(client_config, server_config, 1.0)
        for line in sys.stdin:
            count = int(line)
            start = time.process_time()
            for i in range(count):
                handshake(client_config, server_config, float(i))
            print((time.process_time() - start) / count / 2, flush=True)


main()

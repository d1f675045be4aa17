"""Seconds of CPU time that one end of aioquic takes for a handshake with a certificate (P-256), in memory; run by `mpq bench`.

aioquic_handshakes.py COUNT
"""

from __future__ import annotations

import ssl
import sys
import tempfile
import time
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from lab.bench.certificate import self_signed

CLIENT, SERVER = ("10.1.0.2", 50000), ("10.100.0.1", 4433)


def certificate(folder: Path) -> tuple[Path, Path]:
    made = self_signed("server")
    (folder / "cert.pem").write_text(made.certificate)
    (folder / "key.pem").write_text(made.private_key)
    return folder / "cert.pem", folder / "key.pem"


def handshake(client_config: QuicConfiguration, server_config: QuicConfiguration, now: float) -> None:
    client = QuicConnection(configuration=client_config)
    client.connect(SERVER, now)
    odcid = client.original_destination_connection_id
    server = QuicConnection(configuration=server_config, original_destination_connection_id=odcid)
    for _ in range(6):
        for datagram, _ in client.datagrams_to_send(now):
            server.receive_datagram(datagram, CLIENT, now)
        for datagram, _ in server.datagrams_to_send(now):
            client.receive_datagram(datagram, SERVER, now)
        now += 0.005
    if not client._handshake_confirmed:
        raise SystemExit("no handshake")


def main() -> None:
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(Path(folder))
        server_config = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
        server_config.load_cert_chain(cert, key)
        client_config = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_REQUIRED)
        client_config.server_name = "server"
        client_config.load_verify_locations(str(cert))
        handshake(client_config, server_config, 1.0)
        start = time.process_time()
        for i in range(count):
            handshake(client_config, server_config, float(i))
        print((time.process_time() - start) / count / 2)


main()

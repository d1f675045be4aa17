"""Certificates and a raw HTTP/2 peer for the SBI tests."""

import asyncio
import ssl

import h2.config
import h2.connection
import h2.events

from control.sbi.certs import make_run_certificates
from control.sbi.client import NfAddress, SbiClient
from control.sbi.server import Limits, Response, SbiServer
from control.sbi.tls import SbiConfig
from node.counters import Counters


def config(files, port=0) -> SbiConfig:
    return SbiConfig("127.0.0.1", port, files.cert, files.key, files.ca, str(files.nf_instance_id))


class Kit:
    """An AMF's server with a handler of the test's, and clients of any identity."""

    def __init__(self, directory, names=("amf", "smf", "nef")):
        self.certs = make_run_certificates(directory / "certs", names)
        self.requests = []
        self.counters = Counters()

    async def handler(self, request):
        self.requests.append(request)
        return Response(201, request.body, location="/x/1", no_store=True)

    async def serve(self, handler=None, limits=None) -> SbiServer:
        server = SbiServer(config(self.certs.nfs["amf"]), handler or self.handler, self.counters, limits or Limits())
        await server.start()
        self.port = server.port
        return server

    def client(self, name="smf", host="amf.local", certs=None) -> SbiClient:
        self.client_counters = Counters()
        files = (certs or self.certs).nfs[name]
        return SbiClient(config(files), NfAddress("127.0.0.1", self.port, host), self.client_counters)

    def context(self, name="smf") -> ssl.SSLContext:
        files = self.certs.nfs[name]
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(files.cert, files.key)
        context.set_alpn_protocols(["h2"])
        return context


class RawPeer:
    """A client that sends what it likes."""

    @classmethod
    async def open(cls, kit: Kit, preface=True, context=None) -> "RawPeer":
        peer = cls()
        peer.reader, peer.writer = await asyncio.open_connection(
            "127.0.0.1", kit.port, ssl=context or kit.context(), server_hostname="amf.local"
        )
        peer.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        if preface:
            peer.h2.initiate_connection()
            await peer.flush()
        return peer

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    def headers(self, path="/", **more):
        return [(":method", "POST"), (":scheme", "https"), (":authority", "amf.local"), (":path", path), *more.items()]

    async def until(self, kind):
        """Events until one of this kind; None when the connection ended first."""
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, kind):
                    return event
        return None

    async def ended(self) -> bool:
        try:
            while await self.reader.read(65536):
                pass
        except (OSError, ssl.SSLError):
            pass
        return True

    def close(self):
        self.writer.transport.abort()

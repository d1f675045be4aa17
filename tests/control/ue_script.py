"""A scripted UE: real NAS over real TCP with fiveg's own USIM and NAS security, one step at a time."""

import asyncio

from fiveg import keys
from fiveg.aka import Usim
from fiveg.milenage import Milenage
from fiveg.nas.gmm import (
    AuthenticationRequest,
    AuthenticationResponse,
    DlNasTransport,
    PayloadType,
    RegistrationAccept,
    RegistrationComplete,
    RegistrationRequest,
    RequestType,
    SecurityModeCommand,
    SecurityModeComplete,
    UlNasTransport,
    decode,
)
from fiveg.nas.identity import Suci
from fiveg.nas_security import NasSecurityContext, Role, Sht, header_type, peek

K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
SUPI = "imsi-001010000000001"
CAPABILITY = bytes.fromhex("a020")
SNN = keys.snn("001", "01")


class Closed(Exception):
    """The network closed the connection."""


class ScriptedUe:
    def __init__(self, ports, supi=SUPI, k=K, opc=OPC, sqn=0):
        self.ports, self.supi = ports, supi
        self.usim = Usim(Milenage(k, opc), sqn)
        self.security = None
        self.guti = None
        self.links = {}

    # ---- octets

    async def connect(self, access):
        self.links[access] = await asyncio.open_connection("127.0.0.1", self.ports[access])

    def send(self, access, octets):
        self.links[access][1].write(len(octets).to_bytes(2, "big") + octets)

    async def receive(self, access):
        reader = self.links[access][0]
        try:
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed from None

    async def closed(self, access):
        try:
            while True:
                await self.receive(access)
        except Closed:
            return True

    def close(self):
        for _, writer in self.links.values():
            writer.transport.abort()

    # ---- messages

    def protected(self, access, message, sht=Sht.CIPHERED):
        return self.security.protect(message.encode(), access, sht)

    def say(self, access, message, sht=Sht.CIPHERED):
        self.send(access, self.protected(access, message, sht))

    async def hear(self, access, kind):
        """The next message, which must be of this kind."""
        pdu = await self.receive(access)
        plain = pdu if header_type(pdu) is Sht.PLAIN else self.security.unprotect(pdu, access).plain
        message = decode(plain)
        assert isinstance(message, kind), message
        return message

    def request(self, identity=None, **more):
        identity = identity or Suci.of(self.supi, 2)
        return RegistrationRequest(identity=identity, capability=more.pop("capability", CAPABILITY), **more)

    # ---- procedures

    async def challenge(self, access, request=None):
        await self.connect(access)
        self.send(access, (request or self.request()).encode())
        return await self.hear(access, AuthenticationRequest)

    async def authenticate(self, access, challenge):
        """Answers the challenge and takes the security mode command; the command."""
        answer = self.usim.answer(challenge.rand, challenge.autn, SNN)
        self.k_amf = keys.k_amf(answer.k_seaf, self.supi, challenge.abba)
        self.send(access, AuthenticationResponse(res_star=answer.res_star).encode())
        pdu = await self.receive(access)
        command = decode(peek(pdu))
        assert isinstance(command, SecurityModeCommand), command
        self.security = NasSecurityContext(self.k_amf, command.ngksi, Role.UE, ciphering=command.ciphering)
        assert self.security.unprotect(pdu, access).sht is Sht.INTEGRITY_NEW
        return command

    async def finish(self, access):
        accept = await self.hear(access, RegistrationAccept)
        self.guti = accept.guti
        self.say(access, RegistrationComplete())
        return accept

    async def register(self, access="3gpp"):
        command = await self.authenticate(access, await self.challenge(access))
        assert command.capability == CAPABILITY
        self.say(access, SecurityModeComplete(nas_message=self.request()), Sht.CIPHERED_NEW)
        return await self.finish(access)

    async def register_second(self, access="non-3gpp"):
        """With the common security context: no new authentication."""
        await self.connect(access)
        self.say(access, self.request(self.guti, ngksi=self.security.ngksi), Sht.INTEGRITY)
        return await self.finish(access)

    def sm(self, access, psi, payload, request_type=None, dnn="internet"):
        message = UlNasTransport(
            payload_type=PayloadType.N1_SM, payload=payload, pdu_session_id=psi, request_type=request_type, dnn=dnn
        )
        self.say(access, message)

    def ask_session(self, access, psi, payload):
        self.sm(access, psi, payload, RequestType.MA_PDU)

    def container(self, access, psi, octets):
        self.say(access, UlNasTransport(payload_type=PayloadType.MPQUIC_KEY, payload=octets, pdu_session_id=psi))

    async def down(self, access):
        return await self.hear(access, DlNasTransport)

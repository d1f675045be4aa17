"""What removes the protection of a row R-nn of N1 (NAS) where Python has it (tests/rules/rule_sabotage.py), and of the rows of
streams and capsules that came with them."""

from __future__ import annotations

import dataclasses

from rule_sabotage import removes


@removes
def r_29() -> None:
    """Every piece that waits is an object of its own, however small."""
    from mpquic.reassembly import Reassembly

    def put(self, offset, data):
        if offset + len(data) <= self.offset or not data:
            return b""
        pieces = self.window or {}
        pieces[max(offset, self.offset)] = data[max(self.offset - offset, 0) :]
        out = b""
        while (piece := pieces.pop(self.offset, None)) is not None:
            out += piece
            self.offset += len(piece)
        self.window = pieces
        return out

    Reassembly.put = put


@removes
def r_36() -> None:
    """A capsule that is malformed is one that says nothing, and no list has a bound."""
    from mpquic import capsule, connect_ip
    from mpquic.errors import H3StreamError

    capsule.VALUE_MOST = connect_ip.ENTRIES_MOST = 1 << 62

    def forgiving(decode):
        def decode_anyway(value):
            try:
                return decode(value)
            except H3StreamError:
                return []

        return decode_anyway

    for name in ("decode_assign", "decode_request", "decode_routes"):
        setattr(connect_ip, name, forgiving(getattr(connect_ip, name)))
    capsule.CapsuleReader.end = lambda self: None
    from mpquic import tunnel_request

    tunnel_request.REQUESTS_MOST = tunnel_request.ROUTES_MOST = 1 << 62
    answer = tunnel_request.ConnectIp._answer

    def grant(self, wanted):
        """Whatever address is asked for is the session's."""
        self._offered = tuple(dict.fromkeys((*self._offered, *(entry.network for entry in wanted))))
        return answer(self, wanted)

    tunnel_request.ConnectIp._answer = grant


@removes
def r_104() -> None:
    """Every UE has the right algorithms, the AMF compares nothing, and what the UE is commanded is what it wanted."""
    from control.amf.registration import Registration as AtTheAmf
    from fiveg.nas.gmm import RegistrationRequest
    from ue.registration import CAPABILITY
    from ue.registration import Registration as AtTheUe

    RegistrationRequest.offers = lambda self, ciphering, integrity: True
    completed, complete = AtTheAmf.security_mode_complete, AtTheUe._complete_security
    AtTheAmf.security_mode_complete = lambda self, message: completed(self, dataclasses.replace(message, nas_message=None))

    def complete_security(self, pdu, command):
        ngksi = self._challenge.ngksi if self._challenge is not None else command.ngksi
        wanted = dataclasses.replace(command, ciphering=2, integrity=2, ngksi=ngksi, capability=CAPABILITY)
        complete(self, pdu, wanted)

    AtTheUe._complete_security = complete_security


@removes
def r_107() -> None:
    """Any PDU session ID leads to the SMF, of whatever session the message inside is; what had the ID stays; 256 is 0."""
    from control.amf.transport import Transport
    from control.smf import n1_sm
    from control.smf.sm_context import SmContext
    from fiveg.nas.gmm import PayloadType, RequestType
    from fiveg.nas.gsm import GsmMessage

    forward, read, encode = Transport._sm, n1_sm.read, GsmMessage.encode

    def uplink(self, ue, access, message):
        if message.payload_type == PayloadType.MPQUIC_KEY:
            self._keys.from_ue(ue, message.pdu_session_id, message.payload)
        else:
            self._sm(ue, access, message.pdu_session_id or 0, message)

    def sm(self, ue, access, psi, message):
        if psi not in ue.sessions:
            message = dataclasses.replace(message, request_type=RequestType.MA_PDU)
        forward(self, ue, access, psi, message)

    async def amf_releases(self):
        pass

    Transport.uplink, Transport._sm = uplink, sm
    SmContext.amf_releases = amf_releases
    n1_sm.read = lambda octets, psi: read(octets[:1] + bytes((psi,)) + octets[2:], psi)
    GsmMessage.encode = lambda self: encode(dataclasses.replace(self, pdu_session_id=self.pdu_session_id & 0xFF))


@removes
def r_109() -> None:
    """Whatever comes is a key and is taken: for another session, without ciphering, older, or no container at all."""
    from fiveg.key_container import KeyContainer, KeyContainerError, KeyContainerType
    from ue.key_client import KeyClient
    from ue.key_store import Event, KeyStore

    decode = KeyContainer.decode

    def decode_anyway(data):
        try:
            return decode(data)
        except KeyContainerError:
            return KeyContainer(type=KeyContainerType.PROVISION, transaction=0, generation=9, key=bytes(32), lifetime=60)

    def provision(self, access, psi, container, key_allowed):
        self._store.provision(container.generation, self._key(container) or bytes(32), 60)
        self._installed(access, container)

    KeyContainer.decode = decode_anyway
    KeyClient._provision = provision
    KeyStore._event = lambda self, generation, key: Event.NEW


@removes
def r_110() -> None:
    """A container that cannot be is an empty one, rules may contradict each other, and what the UE cannot do is balanced."""
    from fiveg import atsss
    from ue import atsss_rules
    from ue.errors import RuleRefused

    decode, steering = atsss.AtsssContainer.decode, atsss_rules._steering

    def decode_anyway(data):
        try:
            return decode(data)
        except atsss.AtsssError:
            return atsss.AtsssContainer((atsss.AtsssRule(1, 1, load_3gpp=50),), None)

    def steer_anyway(rule):
        try:
            return steering(rule)
        except RuleRefused:
            return steering(atsss.AtsssRule(rule.rule_id, rule.precedence, rule.flow, load_3gpp=50))

    atsss.AtsssContainer.decode = decode_anyway
    atsss._check_rules = lambda rules: None
    atsss_rules._steering = steer_anyway


@removes
def r_112() -> None:
    """A sequence number is a COUNT, and after the last COUNT comes the first again."""
    from fiveg import nas_security
    from fiveg.nas_security import NasSecurityContext

    protect = NasSecurityContext.protect

    def wrap(self, plain, access, sht=nas_security.Sht.CIPHERED):
        self._counts[nas_security.BEARERS[access]].send %= nas_security.COUNT_LIMIT
        return protect(self, plain, access, sht)

    NasSecurityContext.protect = wrap
    NasSecurityContext.exhausting = property(lambda self: False)
    NasSecurityContext._estimate = staticmethod(lambda last, sqn: sqn)

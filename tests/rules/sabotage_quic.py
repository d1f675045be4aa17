"""What removes a rule of QUIC, HTTP datagrams or CONNECT-IP that Python enforces (tests/rules/rule_sabotage.py)."""

from __future__ import annotations

from rule_sabotage import removes


def _never_fails(code: int, about: str = "") -> None:
    """Streams break this code's rules unpunished; `about`: how the reason begins."""
    from mpquic import streams

    original = streams._fail

    def fail(error: int, frame: int, reason: str) -> None:
        if error != code or not reason.startswith(about):
            original(error, frame, reason)

    streams._fail = fail


@removes
def q_64() -> None:
    _never_fails(0x03, "stream")


@removes
def q_65() -> None:
    _never_fails(0x03, "connection")


@removes
def q_66() -> None:
    _never_fails(0x04)


@removes
def q_67() -> None:
    _never_fails(0x05)


@removes
def q_68() -> None:
    _never_fails(0x06)


@removes
def q_69() -> None:
    _never_fails(0x07)


@removes
def q_70() -> None:
    from mpquic import crypto_stream

    crypto_stream.BUFFER_MOST = 1 << 62


@removes
def q_71() -> None:
    from dataclasses import replace

    from mpquic import transport_parameters as tp

    for name, rule in tp._RULES.items():
        tp._RULES[name] = replace(rule, least=0, most=(1 << 62) - 1)


def _parameters_read(change) -> None:
    """What `change` makes of the list of (identifier, whole parameter) is what is decoded."""
    from mpquic.reader import Reader
    from mpquic.transport_parameters import TransportParameters

    original = TransportParameters.decode.__func__

    def decode(cls, data, from_server):
        reader, found = Reader(data), []
        while reader.left:
            start = reader.position
            identifier = reader.varint()
            reader.octets(reader.varint())
            found.append((identifier, data[start : reader.position]))
        return original(cls, b"".join(whole for _, whole in change(found)), from_server)

    TransportParameters.decode = classmethod(decode)


@removes
def q_72() -> None:
    """The first of each counts."""
    _parameters_read(lambda found: list({identifier: (identifier, whole) for identifier, whole in reversed(found)}.values()))


@removes
def q_73() -> None:
    from dataclasses import replace

    from mpquic import transport_parameters as tp

    for name, rule in tp._RULES.items():
        tp._RULES[name] = replace(rule, server_only=False)
    tp._decode_preferred_address = lambda content, from_server: None


@removes
def q_74() -> None:
    """What is not known is an error."""
    from mpquic import transport_parameters as tp

    def known_only(found):
        if any(identifier not in tp._NAMES for identifier, _ in found):
            raise tp.TransportParameterError("an unknown transport parameter")
        return found

    _parameters_read(known_only)


@removes
def q_75() -> None:
    from mpquic.grease import Grease

    Grease.transport_parameter = lambda self: b""


@removes
def q_76() -> None:
    from mpquic.transport_parameters import TransportParameters

    TransportParameters.authenticate = lambda self, **_: None


@removes
def q_79() -> None:
    from mpquic.h3 import H3

    H3.datagram = lambda self, payload: None


@removes
def q_80() -> None:
    """Every type of capsule is known."""
    from mpquic.capsule import CapsuleReader

    original = CapsuleReader.__init__
    CapsuleReader.__init__ = lambda self, known: original(self, frozenset(range(64)))


@removes
def q_81() -> None:
    from mpquic.capsule import CapsuleReader

    CapsuleReader.end = lambda self: None


@removes
def q_82() -> None:
    from mpquic import capsule

    capsule.VALUE_MOST = 1 << 62


@removes
def q_83() -> None:
    from mpquic import h3_message

    h3_message._NO_CAPSULES = frozenset()
    h3_message._check_no_content = lambda headers: None


@removes
def q_84() -> None:
    from mpquic import connect_ip

    connect_ip.decode_request = lambda value: []


@removes
def q_85() -> None:
    from mpquic import connect_ip

    connect_ip.decode_routes = lambda value: []


@removes
def q_86() -> None:
    """What was asked for is not answered."""
    from mpquic.connect_ip import address_assign
    from mpquic.tunnel_request import ConnectIp

    ConnectIp._answer = lambda self, wanted: address_assign([]).encode()


@removes
def q_87() -> None:
    """Request IDs are forgotten at once."""
    from mpquic.tunnel_request import ConnectIp

    original = ConnectIp._answer

    def answer(self, wanted):
        self._requested.clear()
        return original(self, wanted)

    ConnectIp._answer = answer


@removes
def q_111() -> None:
    q_76()


@removes
def q_112() -> None:
    """A token is kept, however often it was shown."""
    from mpquic.token_store import TokenStore

    TokenStore.take = lambda self, server: next(iter(self._tokens.get(server, ())), None)


@removes
def q_148() -> None:
    from mpquic.connection import Connection

    Connection._datagrams_allowed = property(lambda self: True)


@removes
def q_149() -> None:
    """Any value is as good as 1."""
    from mpquic import h3
    from mpquic.h3_settings import Settings

    h3.decode_settings = lambda payload: Settings()


@removes
def q_150() -> None:
    from mpquic.h3 import H3
    from mpquic.h3_settings import Settings

    original = H3.request_connect

    def request_connect(self, headers):
        self.settings = Settings(None, True, True)
        return original(self, headers)

    H3.request_connect = request_connect


@removes
def q_151() -> None:
    from mpquic.h3 import H3

    H3.datagram = lambda self, payload: (payload[0] * 4, payload[1:])


@removes
def q_152() -> None:
    from mpquic.connect_ip import Target

    Target.parse = classmethod(lambda cls, path: cls())


@removes
def q_153() -> None:
    from mpquic import h3

    h3.check_request = lambda headers: None


@removes
def q_154() -> None:
    """What a capsule says is added to what there was."""
    from mpquic import tunnel_request

    for name in ("decode_assign", "decode_routes"):
        original, before = getattr(tunnel_request, name), []

        def decode(value, original=original, before=before):
            before += original(value)
            return list(before)

        setattr(tunnel_request, name, decode)


@removes
def q_157() -> None:
    from mpquic import tunnel_request

    tunnel_request.CAPSULE_PROTOCOL = (b"capsule-protocol", b"?0")


@removes
def q_159() -> None:
    from mpquic.streams import Streams

    Streams._still_needed = lambda self, key, value, stream: False


@removes
def q_160() -> None:
    """What is lost stays lost."""
    from mpquic.streams import Streams

    Streams.lost = lambda self, token: self._flight.pop(token, None) is not None


@removes
def q_161() -> None:
    from mpquic.streams import Streams

    original = Streams._open

    def open_any(self, kind):
        self._most[kind] = max(self._most[kind], self._opened[kind] + 1)
        return original(self, kind)

    Streams._open = open_any


@removes
def q_163() -> None:
    """The peer allows everything."""
    from mpquic.streams import Streams

    original = Streams._open

    def open_unlimited(self, kind):
        stream_id = original(self, kind)
        self._send_limit = self._streams[stream_id].sender.limit = 1 << 62
        return stream_id

    Streams._open = open_unlimited


@removes
def q_164() -> None:
    """A limit falls if the peer says so."""
    from mpquic import streams

    def lowers(self, kind, values):
        self._send_limit = values[0]
        return []

    streams._HANDLERS[0x10] = (1, lowers)

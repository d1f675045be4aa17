"""Python's share of the canaries: how the protection of a rule that Python enforces is removed. One function per rule, named
after its id; called once, before the tests are imported. Rules of the engine are switched off in C instead (native/src/rules.h)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

SABOTAGE: dict[str, Callable[[], None]] = {}


def removes(function: Callable[[], None]) -> Callable[[], None]:
    """Registers a function under the id it is named after: mp_02 -> MP_02."""
    SABOTAGE[function.__name__.upper()] = function
    return function


def remove(switch: str) -> None:
    """Remove the rule, if it is Python's."""
    SABOTAGE.get(switch, lambda: None)()


@removes
def mp_02() -> None:
    """Any initial_max_path_id is taken."""
    from dataclasses import replace

    from mpquic import transport_parameters as tp

    tp._RULES["initial_max_path_id"] = replace(tp._RULES["initial_max_path_id"], most=(1 << 62) - 1)


# ---- PSK: one function each of client_hello_rules, server_flight_rules, psk_choice, tls, tls_messages, crypto_stream


@removes
def mp_04() -> None:
    """An empty CID is good enough for multipath."""
    from mpquic.transport_parameters import TransportParameters

    TransportParameters.check_cid = lambda self, source: None


@removes
def mp_05() -> None:
    """Any AEAD is good enough for multipath."""
    from mpquic.transport_parameters import TransportParameters

    TransportParameters.check_nonce = lambda self, length: None


@removes
def mp_06() -> None:
    """The largest limit that any peer ever announced is remembered."""
    from dataclasses import replace

    from mpquic.engine import Engine

    original = Engine.peer_params
    remembered: list[int] = []

    def peer_params(self, conn, params):
        remembered.append(params.initial_max_path_id or 0)
        original(self, conn, replace(params, initial_max_path_id=max(remembered)))

    Engine.peer_params = peer_params


@removes
def mp_07() -> None:
    """0 is taken for absent."""
    from dataclasses import replace

    from mpquic.engine import Engine

    original = Engine.peer_params
    Engine.peer_params = lambda self, conn, params: original(
        self, conn, replace(params, initial_max_path_id=params.initial_max_path_id or None)
    )


@removes
def psk_01() -> None:
    """Every binder is right, and an unknown identity says so."""
    from mpquic import psk_choice, tls_errors

    psk_choice.binder_matches = lambda expected, received: True
    psk_choice.decoy = lambda hello, common: psk_choice.Offer(b"", bytes(32), "sha256", "ext binder")
    for reason in (tls_errors.UnknownIdentity, tls_errors.SpentKey, tls_errors.KeyWithoutSuite):
        reason.error = 0x173


@removes
def psk_02() -> None:
    """unknown_psk_identity is sent."""
    from mpquic import tls_errors

    tls_errors.UnknownIdentity.error = 0x173


@removes
def psk_03() -> None:
    from mpquic import client_hello_rules as rules

    rules.check_psk = rules.check_group = lambda hello: None
    rules.check_suites = lambda hello, suites: None


@removes
def psk_04() -> None:
    from mpquic import client_hello_rules, server_flight_rules

    client_hello_rules.check_extensions = lambda hello: None
    server_flight_rules.server_parameters = lambda extensions: b""


@removes
def psk_05() -> None:
    from mpquic import client_hello_rules, tls_messages, tls_server

    client_hello_rules.check_binder_count = client_hello_rules.check_key_shares = lambda hello: None
    tls_messages.check_unique = lambda type_, seen: None
    tls_messages.check_psk_last = lambda types: None
    tls_server.x25519_shared = lambda private, share: bytes(32)


@removes
def psk_06() -> None:
    """The client takes what the server selects."""
    from mpquic import server_flight_rules as rules
    from mpquic.suites import SUITES

    rules.selected_suite = lambda hello, offered: SUITES[hello.suite]
    rules.check_identity = lambda index, suite, hashes: None
    rules.selected_share = lambda hello: b"\x09" + bytes(31)


@removes
def psk_07() -> None:
    from mpquic import server_flight_rules

    server_flight_rules.selected_identity = lambda hello: hello.selected_identity or 0


@removes
def psk_08() -> None:
    from mpquic import tls

    tls.finished_matches = lambda expected, received: True


@removes
def psk_09() -> None:
    from mpquic import client_hello_rules, server_flight_rules

    client_hello_rules.check_version = server_flight_rules.check_version = lambda hello: None


@removes
def psk_10() -> None:
    from mpquic import client_hello_rules, server_flight_rules

    client_hello_rules.common_alpn = lambda hello, ours: ours[0]
    server_flight_rules.selected_alpn = lambda extensions, offered: offered[0]


@removes
def psk_11() -> None:
    """What does not parse keeps the name that the cursor gave it."""
    from mpquic import tls_messages

    tls_messages._decoding.__exit__ = lambda *_: None


@removes
def psk_12() -> None:
    """A message that no row names is read over."""
    from mpquic import tls
    from mpquic.tls_states import TABLE, Row

    def row_of(state, level, type_):
        return TABLE.get((state, type_)) or Row(level, "nothing", state, False)

    tls.row_of = row_of
    tls.Tls._on_nothing = lambda self, whole: None


@removes
def psk_13() -> None:
    from mpquic import server_flight_rules

    server_flight_rules.check_offered = lambda extensions: None


@removes
def psk_14() -> None:
    from mpquic import crypto_stream, tls, tls_messages

    tls_messages.check_session_id = lambda session_id: None
    tls.check_quic_allows = lambda type_: None
    tls.check_left_over = lambda buffer: None
    crypto_stream.CryptoReceiver.close = lambda self: None


@removes
def psk_15() -> None:
    from mpquic import crypto_stream, tls

    tls.MESSAGE_MOST = 1 << 24
    crypto_stream.BUFFER_MOST = 1 << 62


@removes
def psk_16() -> None:
    """Any parameters are taken, whoever sends them."""
    from mpquic.transport_parameters import TransportParameters

    TransportParameters.decode = classmethod(lambda cls, data, from_server: cls())
    TransportParameters.authenticate = lambda self, **_: None


@removes
def r_16() -> None:
    """Python's share: what does not parse has no name. The engine's is in C."""
    psk_11()


# ---- attacks and faults


@removes
def r_07() -> None:
    """A key has whatever role it is asked for."""
    from mpquic.psk import Psk

    Psk.claim = lambda self, role: True


@removes
def r_30() -> None:
    """Frames of streams break every rule unpunished."""
    from mpquic.errors import TransportError
    from mpquic.streams import Streams

    original = Streams.receive_frame

    def receive_frame(self, frame):
        with contextlib.suppress(TransportError):
            return original(self, frame)
        return []

    Streams.receive_frame = receive_frame


@removes
def r_34() -> None:
    """Every broken rule has the same code, and what waits has no bound."""
    from mpquic import h3
    from mpquic.errors import H3Error
    from mpquic.h3_codes import Code

    original = H3Error.__init__
    H3Error.__init__ = lambda self, code, *more: original(self, Code.GENERAL_PROTOCOL_ERROR, *more)
    h3.HELD_MOST = 1 << 62


@removes
def r_41() -> None:
    """A spent key makes connections on, each may ask for the address again, and two sessions may have one."""
    from upf.key_slots import KeySlots
    from upf.pfcp_agent import PfcpAgent
    from upf.proxy import Proxy

    original = Proxy._connect_ip

    def connect_ip(self, bound):
        bound.asked = False
        return original(self, bound)

    Proxy._connect_ip = connect_ip
    spend, last = KeySlots.spend, []

    def any_slot(self, identity):
        slot = spend(self, identity)
        last.extend([slot] if slot is not None else [])
        return last[-1]

    KeySlots.spend = any_slot
    PfcpAgent._address_check = lambda self, rules, own: None


@removes
def r_105() -> None:
    """Any RES* is right; an AUTS is believed and changes nothing; other failures are answered with the next challenge."""
    from control.amf import registration
    from control.amf.registration_table import TABLE, Action, Event, State
    from fiveg.aka import AuthenticationVector

    AuthenticationVector.matches = lambda self, res_star: True
    registration.resynchronise = lambda milenage, rand, auts: 0
    registration.RESYNCHRONISATIONS = 99
    TABLE[State.AUTHENTICATING, Event.OTHER_FAILURE] = (State.AUTHENTICATING, Action.CHALLENGE)


@removes
def r_108() -> None:
    """Who is not known is sent away, and anybody may authenticate in anybody's name."""
    from control.amf.registration_table import TABLE, Action, Event, State
    from fiveg.aka import AuthenticationVector

    TABLE[State.DEREGISTERED, Event.REQUEST_UNKNOWN] = (State.CLOSED, Action.ABORT)
    AuthenticationVector.matches = lambda self, res_star: True


@removes
def r_121() -> None:
    """A session is everybody's."""
    from control.amf.ue_context import SmSession

    SmSession.owned_by = lambda self, peer: True


@removes
def r_122() -> None:
    """Whatever SUPI is asked for, some UE is found."""
    from control.amf.amf import Amf

    original = Amf.ue
    Amf.ue = lambda self, supi: original(self, supi) or next(iter(self._ues.values()), None)


@removes
def r_127() -> None:
    """Every question gets a new key."""
    from control.amf.mpquic_keys import MpquicKeys

    MpquicKeys._repetition = lambda self, key, data: False


@removes
def r_134() -> None:
    """The pools have no end."""
    from upf import pfcp_agent, rules

    for module in (pfcp_agent, rules):
        module.NoResources = _Never


class _Never(Exception):
    """An error that nobody handles: what it was to say is not said."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


@removes
def r_135() -> None:
    """What the data path could not do counts as done; a session that is over stays."""
    from upf.errors import DatapathError
    from upf.pfcp_agent import PfcpAgent

    def apply(self, change):
        with contextlib.suppress(DatapathError):
            change()

    PfcpAgent._apply = apply
    PfcpAgent._session_drop = lambda self, session, reason: None


@removes
def r_140() -> None:
    """The data path is not told of changes."""
    from upf.pfcp_agent import PfcpAgent

    PfcpAgent._apply = lambda self, change: None


@removes
def r_39() -> None:
    """Python's share: any address may be a session's."""
    from upf.config import UpfConfig

    UpfConfig.outside = lambda self: []


@removes
def r_111() -> None:
    """A message counts in whatever state it comes, and none is repeated."""
    from control.amf import registration
    from control.amf.registration_table import TABLE, Action, Event

    anywhere = {event: result for (_, event), result in TABLE.items()}

    def step(state, event):
        return (state, Action.IGNORE) if event is Event.TIMER else anywhere.get(event, (state, Action.IGNORE))

    registration.step = step


@removes
def r_126() -> None:
    """A procedure that failed leaves its session without a key in force."""
    from control.smf.key_procedure import KeyProcedure

    KeyProcedure._settle = lambda self: None


# ---- QUIC, HTTP datagrams and CONNECT-IP: what Python enforces


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
def r_172() -> None:
    """A connection ID that nobody announced stays unknown, the other byte order is not read, and no reason is told."""
    from lab.decrypt import Decryptor
    from lab.pcapng import PcapngReader

    Decryptor._process_unannounced = lambda self, slot, last_chance: False
    close, read_packet = Decryptor._close, PcapngReader._read_packet
    Decryptor._close = lambda self, slot, reason: close(self, slot, "")
    PcapngReader._read_packet = lambda self, body: read_packet(self, body) if self.little_endian else None
    PcapngReader._cut = lambda self, where: None


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

"""What removes a rule of multipath or of the external PSK that Python enforces (tests/rules/rule_sabotage.py)."""

from __future__ import annotations

from rule_sabotage import removes


@removes
def mp_02() -> None:
    """Any initial_max_path_id is taken."""
    from dataclasses import replace

    from mpquic import transport_parameters as tp

    tp._RULES["initial_max_path_id"] = replace(tp._RULES["initial_max_path_id"], most=(1 << 62) - 1)


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
    from mpquic.reader import ReadError

    tls_messages.DecodeError = ReadError


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

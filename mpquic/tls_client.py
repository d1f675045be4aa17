"""The client's half of the PSK handshake: ClientHello; ServerHello, EncryptedExtensions, Finished; Finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from mpquic.key_schedule import KeySchedule
from mpquic.psk import Offer, Psk
from mpquic.suites import Suite
from mpquic.tls import HandshakeComplete, Tls, x25519_private, x25519_public, x25519_shared
from mpquic.tls_errors import (
    CryptoBufferExceeded,
    IllegalParameter,
    MissingExtension,
    NoApplicationProtocol,
    ProtocolVersion,
    PskMissing,
    UnsupportedExtension,
)
from mpquic.tls_messages import (
    GROUP_X25519,
    PSK_DHE_KE,
    TLS_1_3,
    ClientHello,
    EncryptedExtensions,
    Extension,
    ServerHello,
)
from mpquic.tls_states import Direction, Level, Role, State

# In our ClientHello, yet not allowed in EncryptedExtensions (RFC 8446 §4.2, table)
_OFFERED_ELSEWHERE = frozenset(
    (
        Extension.KEY_SHARE,
        Extension.SUPPORTED_VERSIONS,
        Extension.SIGNATURE_ALGORITHMS,
        Extension.PSK_KEY_EXCHANGE_MODES,
        Extension.PRE_SHARED_KEY,
    )
)
TICKETS_MOST = 16  # read over in one connection


class ClientTls(Tls):
    role = Role.CLIENT

    def __init__(
        self,
        psk: Psk,
        *,
        alpn: Sequence[bytes],
        transport_parameters: bytes,
        on_peer_parameters: Callable[[bytes], None],
        authorise: Callable[[], None],
        keylog: Callable[[str, bytes, bytes], None] | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """authorise is called before our Finished goes: it raises to stop here (a race that another path has won)."""
        super().__init__(
            State.CLIENT_START,
            alpn=alpn,
            transport_parameters=transport_parameters,
            on_peer_parameters=on_peer_parameters,
            authorise=authorise,
            keylog=keylog,
            random=random,
        )
        self._suites: dict[int, Suite] = {suite.code: suite for suite in psk.suites}
        self._offers: list[Offer] = psk.offers()
        self._schedule: KeySchedule | None = None
        self._client_hello = b""
        self.client_random = random(32)
        self._private = x25519_private(random)
        self._client_secret = self._server_secret = b""

    def start(self) -> None:
        """Sends the ClientHello."""
        hello = ClientHello(
            random=self.client_random,
            suites=list(self._suites),
            key_shares=[(GROUP_X25519, x25519_public(self._private))],
            versions=[TLS_1_3],
            groups=[GROUP_X25519],
            psk_modes=[PSK_DHE_KE],  # psk_ke alone would have no forward secrecy
            alpn=self._alpn_offered,
            transport_parameters=self._transport_parameters,
            identities=[(offer.identity, 0) for offer in self._offers],  # age 0: external (RFC 8446 §4.2.11)
        )
        # Binders have the length of their hash, so the message's final lengths are known before their values
        schedules = [KeySchedule(offer.hash_name, offer.key) for offer in self._offers]
        hello.binders = [bytes(schedule.hash_length) for schedule in schedules]
        truncated = hello.encode()[: -hello.binders_length]
        hello.binders = [
            schedule.binder(offer.binder_label, truncated)
            for schedule, offer in zip(schedules, self._offers, strict=True)
        ]
        self._client_hello = hello.encode()
        self.state = State.CLIENT_WAIT_SERVER_HELLO
        self._send(Level.INITIAL, self._client_hello)

    def _on_server_hello(self, whole: bytes) -> None:
        hello = ServerHello.decode(whole[4:])
        if hello.is_retry:  # we have offered our only group
            raise IllegalParameter("HelloRetryRequest, although the only group was offered")
        if hello.unknown_extensions:
            raise UnsupportedExtension(f"ServerHello extension {hello.unknown_extensions[0]} was not offered")
        if hello.session_id or hello.compression:
            raise IllegalParameter("ServerHello does not echo session id and compression")
        if hello.version is None:
            raise ProtocolVersion("ServerHello without TLS 1.3")
        if hello.version != TLS_1_3:
            raise IllegalParameter(f"ServerHello selects version 0x{hello.version:04x}")
        suite = self._suites.get(hello.suite)
        if suite is None:
            raise IllegalParameter(f"ServerHello selects suite 0x{hello.suite:04x}, which was not offered")
        if hello.selected_identity is None:
            raise PskMissing("ServerHello without pre_shared_key: the server wants certificates")
        if hello.selected_identity >= len(self._offers):
            raise IllegalParameter(f"ServerHello selects identity {hello.selected_identity}")
        offer = self._offers[hello.selected_identity]
        if offer.hash_name != suite.hash_name:
            raise IllegalParameter("ServerHello selects a suite with another hash than the key's")
        if hello.key_share is None:
            raise IllegalParameter("ServerHello without key_share")
        group, share = hello.key_share
        if group != GROUP_X25519:
            raise IllegalParameter(f"ServerHello selects group 0x{group:04x}, which was not offered")
        shared = x25519_shared(self._private, share)

        schedule = self._schedule = KeySchedule(suite.hash_name, offer.key)
        schedule.update(self._client_hello)
        schedule.update(whole)
        self.suite = suite
        self._offers = []
        self._client_secret, self._server_secret = self._handshake_secrets(schedule, shared)
        self._install(Level.HANDSHAKE, Direction.RECEIVE, suite, self._server_secret)
        self._install(Level.HANDSHAKE, Direction.SEND, suite, self._client_secret)

    def _on_encrypted_extensions(self, whole: bytes) -> None:
        assert self._schedule is not None
        extensions = EncryptedExtensions.decode(whole[4:])
        for type_ in extensions.other_extensions:
            if type_ in _OFFERED_ELSEWHERE:
                raise IllegalParameter(f"extension {type_} is not allowed in EncryptedExtensions")
            if type_ != Extension.SUPPORTED_GROUPS:
                raise UnsupportedExtension(f"EncryptedExtensions extension {type_} was not offered")
        if extensions.alpn is None:
            raise NoApplicationProtocol("EncryptedExtensions without ALPN (RFC 9001 §8.1)")
        if extensions.alpn not in self._alpn_offered:
            raise IllegalParameter("ALPN that was not offered")
        if extensions.transport_parameters is None:
            raise MissingExtension("EncryptedExtensions without quic_transport_parameters (RFC 9001 §8.2)")
        self._on_peer_parameters(extensions.transport_parameters)
        self.alpn = extensions.alpn
        self._schedule.update(whole)

    def _on_server_finished(self, whole: bytes) -> None:
        schedule, suite = self._schedule, self.suite
        assert schedule is not None and suite is not None
        self._check_finished(schedule.finished(self._server_secret), whole)
        self._authorise()
        schedule.update(whole)
        finished = self._finished_message(schedule, self._client_secret)
        client, server = self._application_secrets(schedule)
        self._send(Level.HANDSHAKE, finished)
        self._install(Level.ONE_RTT, Direction.RECEIVE, suite, server)
        self._install(Level.ONE_RTT, Direction.SEND, suite, client)
        self.actions.append(HandshakeComplete())
        self._forget()

    def _on_new_session_ticket(self, whole: bytes) -> None:
        self._tickets += 1
        if self._tickets > TICKETS_MOST:
            raise CryptoBufferExceeded(f"more than {TICKETS_MOST} session tickets")

    def _forget(self) -> None:
        self._schedule = None
        self._offers = []
        self._client_secret = self._server_secret = b""

    def _wipe(self) -> None:
        super()._wipe()
        self._forget()

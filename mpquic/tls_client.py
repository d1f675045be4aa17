"""The client's half of the PSK handshake: ClientHello; ServerHello, EncryptedExtensions, Finished; Finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mpquic import server_flight_rules as rules
from mpquic.errors import PskRole
from mpquic.grease import Grease
from mpquic.key_schedule import KeySchedule
from mpquic.psk import Psk
from mpquic.suites import Suite
from mpquic.tls import HandshakeComplete, Tls, x25519_private, x25519_public, x25519_shared
from mpquic.tls_errors import CryptoBufferExceeded, KeyWithdrawn
from mpquic.tls_messages import GROUP_X25519, PSK_DHE_KE, TLS_1_3, ClientHello, EncryptedExtensions, ServerHello, binders_list
from mpquic.tls_states import Direction, Level, Role, State

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
        grease: Grease | None = None,
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
        if not psk.claim(Role.CLIENT):
            raise PskRole("this node is the server of the key")
        self._psk = psk
        self._grease = grease
        self._suites: dict[int, Suite] = {suite.code: suite for suite in psk.suites}
        self._early: list[KeySchedule] = []  # by offered identity, until one is selected
        self._schedule: KeySchedule | None = None
        self._client_hello = b""
        self.client_random = random(32)
        self._private: X25519PrivateKey | None = x25519_private(random)
        self._client_secret = self._server_secret = b""

    def start(self) -> None:
        """Sends the ClientHello."""
        assert self._private is not None
        offers = self._psk.offers()
        self._early = [KeySchedule(offer.hash_name, offer.key) for offer in offers]
        hello = ClientHello(
            random=self.client_random,
            suites=list(self._suites) if self._grease is None else [self._grease.tls(), *self._suites],
            grease=None if self._grease is None else self._grease.tls(),
            key_shares=[(GROUP_X25519, x25519_public(self._private))],
            versions=[TLS_1_3],
            groups=[GROUP_X25519],
            psk_modes=[PSK_DHE_KE],  # psk_ke alone would have no forward secrecy
            alpn=self._alpn_offered,
            transport_parameters=self._transport_parameters,
            identities=[(offer.identity, 0) for offer in offers],  # age 0: external (RFC 8446 §4.2.11)
        )
        # Binders have the length of their hash, so the message's final lengths are known before their values
        hello.binders = [bytes(schedule.hash_length) for schedule in self._early]
        truncated = hello.encode()[: -hello.binders_length]
        self._client_hello = truncated + binders_list(
            [schedule.binder(offer.binder_label, truncated) for schedule, offer in zip(self._early, offers, strict=True)]
        )
        self.state = State.CLIENT_WAIT_SERVER_HELLO
        self._send(Level.INITIAL, self._client_hello)

    def _on_server_hello(self, whole: bytes) -> None:
        hello = ServerHello.decode(whole[4:])
        rules.check_form(hello)
        rules.check_version(hello)
        suite = rules.selected_suite(hello, self._suites)
        index = rules.selected_identity(hello)
        rules.check_identity(index, suite, [schedule.hash_name for schedule in self._early])
        share = rules.selected_share(hello)
        if self._psk.wiped:
            raise KeyWithdrawn("the key was wiped while the handshake ran")
        assert self._private is not None
        shared = x25519_shared(self._private, share)

        schedule = self._schedule = self._early[index]
        schedule.update(self._client_hello)
        schedule.update(whole)
        self.suite = suite
        self._early, self._private = [], None
        self._client_secret, self._server_secret = self._handshake_secrets(schedule, shared)
        self._install(Level.HANDSHAKE, Direction.RECEIVE, suite, self._server_secret)
        self._install(Level.HANDSHAKE, Direction.SEND, suite, self._client_secret)

    def _on_encrypted_extensions(self, whole: bytes) -> None:
        assert self._schedule is not None
        extensions = EncryptedExtensions.decode(whole[4:])
        rules.check_offered(extensions)
        alpn = rules.selected_alpn(extensions, self._alpn_offered)
        self._on_peer_parameters(rules.server_parameters(extensions))
        self.alpn = alpn
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
        self.forget()

    def _on_new_session_ticket(self, whole: bytes) -> None:
        self._tickets += 1
        if self._tickets > TICKETS_MOST:
            raise CryptoBufferExceeded(f"more than {TICKETS_MOST} session tickets")

    def forget(self) -> None:
        """The ephemeral key above all: with it, a recorded handshake would open for whoever reads our memory later."""
        super().forget()
        self._schedule = self._private = None
        self._early = []
        self._client_secret = self._server_secret = b""

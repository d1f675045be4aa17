"""The server's half of the PSK handshake: ClientHello; ServerHello, EncryptedExtensions, Finished; Finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from mpquic import client_hello_rules
from mpquic.psk import Psk
from mpquic.psk_choice import PskLookup, choose
from mpquic.suites import SUITES, Suite
from mpquic.tls import HandshakeComplete, Tls, x25519_private, x25519_public, x25519_shared
from mpquic.tls_messages import GROUP_X25519, TLS_1_3, ClientHello, EncryptedExtensions, ServerHello
from mpquic.tls_states import Direction, Level, Role, State


class ServerTls(Tls):
    role = Role.SERVER

    def __init__(
        self,
        lookup: PskLookup,
        *,
        suites: Sequence[Suite] = tuple(SUITES.values()),
        alpn: Sequence[bytes],
        transport_parameters: bytes,
        on_peer_parameters: Callable[[bytes], None],
        authorise: Callable[[], None],
        keylog: Callable[[str, bytes, bytes], None] | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """lookup: identity -> Psk or None, or raises PskSpent. authorise is called when the client's Finished has been
        verified: it raises SpentKey when another connection was faster with this key. suites: in our order."""
        super().__init__(
            State.SERVER_WAIT_CLIENT_HELLO,
            alpn=alpn,
            transport_parameters=transport_parameters,
            on_peer_parameters=on_peer_parameters,
            authorise=authorise,
            keylog=keylog,
            random=random,
        )
        self.psk: Psk | None = None
        self._lookup = lookup
        self._suites = list(suites)
        self._client_finished = self._client_application = b""

    def _on_client_hello(self, whole: bytes) -> None:
        hello = ClientHello.decode(whole[4:])
        self.client_random = hello.random
        share, alpn = client_hello_rules.check(hello, self._suites, self._alpn_offered)
        # The binder before the DH: it is the cheaper one, and only who has the key makes us pay for the other
        choice = choose(hello, whole[: -hello.binders_length], self._lookup, self._suites)
        assert hello.transport_parameters is not None  # client_hello_rules
        self._on_peer_parameters(hello.transport_parameters)
        self.alpn = alpn
        private = x25519_private(self._random)
        shared = x25519_shared(private, share)

        suite, schedule = choice.suite, choice.schedule
        schedule.update(whole)
        server_hello = ServerHello(
            random=self._random(32),
            suite=suite.code,
            version=TLS_1_3,
            key_share=(GROUP_X25519, x25519_public(private)),
            selected_identity=choice.index,
        ).encode()
        schedule.update(server_hello)
        client_secret, server_secret = self._handshake_secrets(schedule, shared)
        # early_data, if offered, is not answered: rejected, the handshake goes on in 1-RTT (RFC 9001 §4.6.2)
        extensions = EncryptedExtensions(alpn=self.alpn, transport_parameters=self._transport_parameters).encode()
        schedule.update(extensions)
        finished = self._finished_message(schedule, server_secret)
        schedule.update(finished)
        self._send(Level.INITIAL, server_hello)
        self._install(Level.HANDSHAKE, Direction.SEND, suite, server_secret)
        self._install(Level.HANDSHAKE, Direction.RECEIVE, suite, client_secret)
        self._send(Level.HANDSHAKE, extensions + finished)
        # The client's Finished covers CH .. server Finished, and so do the application secrets: the transcript stands
        self._client_finished = schedule.finished(client_secret)
        self._client_application, server_application = self._application_secrets(schedule)
        self._install(Level.ONE_RTT, Direction.SEND, suite, server_application)
        self.psk, self.suite = choice.psk, suite

    def _on_client_finished(self, whole: bytes) -> None:
        suite = self.suite
        assert suite is not None
        self._check_finished(self._client_finished, whole)
        self._authorise()
        self._install(Level.ONE_RTT, Direction.RECEIVE, suite, self._client_application)
        self.actions.append(HandshakeComplete())
        self.forget()

    def forget(self) -> None:
        super().forget()
        self._client_finished = self._client_application = b""

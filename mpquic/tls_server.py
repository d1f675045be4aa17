"""The server's half of the PSK handshake: ClientHello; ServerHello, EncryptedExtensions, Finished; Finished."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpquic.errors import PskSpent
from mpquic.key_schedule import KeySchedule
from mpquic.psk import ImportedIdentity, Offer, Psk, PskMode
from mpquic.suites import SUITES, Suite
from mpquic.tls import HandshakeComplete, Tls, x25519_private, x25519_public, x25519_shared
from mpquic.tls_errors import (
    IllegalParameter,
    KeyRefused,
    MissingExtension,
    NoApplicationProtocol,
    NoCommonParameters,
    ProtocolVersion,
    PskMissing,
    SpentKey,
    UnknownIdentity,
    WrongBinder,
)
from mpquic.tls_messages import (
    GROUP_X25519,
    PSK_DHE_KE,
    TLS_1_3,
    ClientHello,
    EncryptedExtensions,
    ServerHello,
)
from mpquic.tls_states import Direction, Level, Role, State

IDENTITIES_MOST = 8  # of one ClientHello; the further ones are not looked up
PskLookup = Callable[[bytes], Psk | None]


@dataclass(slots=True)
class _Choice:
    index: int
    psk: Psk
    offer: Offer
    suite: Suite


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
        share = self._check(hello)
        truncated = whole[: -hello.binders_length]
        choice, schedule = self._accept_key(hello, truncated)  # the binder before the DH: it is the cheaper one
        assert hello.transport_parameters is not None
        self._on_peer_parameters(hello.transport_parameters)
        private = x25519_private(self._random)
        shared = x25519_shared(private, share)

        suite = choice.suite
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
        self._forget()

    def _check(self, hello: ClientHello) -> bytes:
        """Everything that does not need a key; returns the client's key share."""
        if hello.versions is None or TLS_1_3 not in hello.versions:
            raise ProtocolVersion("ClientHello without TLS 1.3")
        if hello.transport_parameters is None:
            raise MissingExtension("ClientHello without quic_transport_parameters (RFC 9001 §8.2)")
        if hello.identities is None:
            raise PskMissing("ClientHello without pre_shared_key: there are no certificates here")
        if hello.psk_modes is None:
            raise MissingExtension("pre_shared_key without psk_key_exchange_modes (RFC 8446 §4.2.9)")
        if len(hello.binders) != len(hello.identities):
            raise IllegalParameter(f"{len(hello.identities)} identities and {len(hello.binders)} binders")
        if PSK_DHE_KE not in hello.psk_modes:
            raise NoCommonParameters("psk_dhe_ke is not offered")
        if hello.groups is None or hello.key_shares is None:
            raise MissingExtension("ClientHello without supported_groups or key_share")
        groups = [group for group, _ in hello.key_shares]
        if len(set(groups)) != len(groups) or not set(groups) <= set(hello.groups):
            raise IllegalParameter("key shares twice for one group, or for a group that is not offered")
        shares = dict(hello.key_shares)
        if GROUP_X25519 not in shares:
            raise NoCommonParameters("no x25519 key share")
        if len(shares[GROUP_X25519]) != 32:
            raise IllegalParameter(f"x25519 key share of {len(shares[GROUP_X25519])} octets")
        if not any(suite.code in hello.suites for suite in self._suites):
            raise NoCommonParameters("no common cipher suite")
        common = [name for name in self._alpn_offered if hello.alpn is not None and name in hello.alpn]
        if not common:
            raise NoApplicationProtocol("no common ALPN (RFC 9001 §8.1)")
        self.alpn = common[0]
        return shares[GROUP_X25519]

    def _accept_key(self, hello: ClientHello, truncated: bytes) -> tuple[_Choice, KeySchedule]:
        """The suite first, then the first identity that is known, then only its binder (RFC 8446 §4.2.11). Without one
        the work is the same: a dummy HMAC of the length of a real one, then the same alert (RFC 8446 App. E.6)."""
        choice, refusal = self._choose(hello)
        if choice is None:
            dummy = KeySchedule("sha256", bytes(32))
            hmac.compare_digest(dummy.binder("ext binder", truncated), hello.binders[0])
            raise refusal
        schedule = KeySchedule(choice.offer.hash_name, choice.offer.key)
        binder = schedule.binder(choice.offer.binder_label, truncated)
        if not hmac.compare_digest(binder, hello.binders[choice.index]):
            raise WrongBinder("binder does not verify")
        return choice, schedule

    def _choose(self, hello: ClientHello) -> tuple[_Choice | None, KeyRefused]:
        assert hello.identities is not None
        refusal: KeyRefused = UnknownIdentity("no identity is known")
        known: list[tuple[int, Psk, bytes]] = []
        for index, (identity, _age) in enumerate(hello.identities[:IDENTITIES_MOST]):
            try:
                psk = self._find(identity)
            except PskSpent:
                refusal = SpentKey("the key has made its connection")
                continue
            if psk is not None:
                known.append((index, psk, identity))
        for suite in self._suites:
            if suite.code not in hello.suites:
                continue
            for index, psk, identity in known:
                if suite not in psk.suites:
                    continue
                offer = psk.offer(suite)
                if offer.identity == identity:  # an imported identity names the hash it is for
                    return _Choice(index, psk, offer, suite), refusal
        return None, refusal

    def _find(self, identity: bytes) -> Psk | None:
        """The identity as it stands, of an external PSK; or the external identity inside an imported one (RFC 9258).
        A key has one mode: offered in the other it is unknown."""
        psk = self._lookup(identity)
        if psk is not None:
            return psk if psk.mode is PskMode.EXTERNAL and not psk.wiped else None
        imported = ImportedIdentity.decode(identity)
        if imported is None:
            return None
        psk = self._lookup(imported.external_identity)
        return psk if psk is not None and psk.mode is PskMode.IMPORTED and not psk.wiped else None

    def _forget(self) -> None:
        self._client_finished = self._client_application = b""

    def _wipe(self) -> None:
        super()._wipe()
        self._forget()

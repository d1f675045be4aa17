"""The PSK-only TLS 1.3 handshake inside QUIC (RFC 8446, RFC 9001 §4): what both roles share.

Sans-IO: `receive` takes CRYPTO octets in order, `actions` says what to send and which keys to install. There is no
certificate code: a peer that wants certificates is refused.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mpquic.key_schedule import KeySchedule
from mpquic.suites import Suite
from mpquic.tls_errors import (
    CryptoBufferExceeded,
    DecodeError,
    IllegalParameter,
    TlsProtocolViolation,
    UnexpectedMessage,
    WrongFinished,
)
from mpquic.tls_messages import X25519_LENGTH, MessageType, message
from mpquic.tls_states import LEVELS, READING, TABLE, Direction, Level, Role, Row, State

MESSAGE_MOST = 8192  # octets of one handshake message (ours are below 300; RFC 9000 §7.5 wants 4096 at least)


@dataclass(frozen=True, slots=True)
class SendCrypto:
    level: Level
    data: bytes


@dataclass(frozen=True, slots=True, repr=False)
class InstallKeys:
    level: Level
    direction: Direction
    suite: Suite
    secret: bytes


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    pass


Action = SendCrypto | InstallKeys | HandshakeComplete


class Tls:
    """One handshake. The subclasses are the roles."""

    role: Role

    def __init__(
        self,
        start: State,
        *,
        alpn: Sequence[bytes],
        transport_parameters: bytes,
        on_peer_parameters: Callable[[bytes], None],
        authorise: Callable[[], None],
        keylog: Callable[[str, bytes, bytes], None] | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.state = start
        self.actions: list[Action] = []
        self.alpn: bytes | None = None  # chosen
        self.client_random = b""
        self.suite: Suite | None = None
        self._alpn_offered = list(alpn)
        self._transport_parameters = transport_parameters
        self._on_peer_parameters = on_peer_parameters
        self._authorise = authorise
        self._keylog = keylog
        self._random = random
        self._buffers: dict[Level, bytearray] = {level: bytearray() for level in LEVELS}
        self._tickets = 0

    # ---- input

    def receive(self, level: Level, data: bytes) -> None:
        """In-order CRYPTO octets of a level. Raises a TransportError by name; then this handshake is over."""
        if self.state is State.FAILED:
            return
        try:
            self._receive(level, data)
        except BaseException:  # whatever a callback raises: nothing of a broken handshake stays
            self.state = State.FAILED
            self._wipe()
            raise

    def _receive(self, level: Level, data: bytes) -> None:
        buffer = self._buffers[level]
        buffer += data
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[1:4], "big")
            check_quic_allows(buffer[0])
            # A message out of order is refused by its header: its body is not waited for
            row = row_of(self.state, level, buffer[0])
            if length > MESSAGE_MOST:
                raise CryptoBufferExceeded(f"handshake message of {length} octets: at most {MESSAGE_MOST}")
            if len(buffer) < 4 + length:
                return
            whole = bytes(buffer[: 4 + length])
            del buffer[: 4 + length]
            if row.key_change:
                check_left_over(buffer)
            handler: Callable[[bytes], None] = getattr(self, "_on_" + row.action)
            handler(whole)
            self.state = row.next

    @property
    def reading(self) -> Level:
        """The level whose CRYPTO octets are wanted: those below are over (RFC 9001 §4.1.3)."""
        return READING[self.state]

    def take_actions(self) -> list[Action]:
        actions, self.actions = self.actions, []
        return actions

    # ---- steps of both roles

    def _send(self, level: Level, data: bytes) -> None:
        self.actions.append(SendCrypto(level, data))

    def _install(self, level: Level, direction: Direction, suite: Suite, secret: bytes) -> None:
        self.actions.append(InstallKeys(level, direction, suite, secret))

    def _log(self, label: str, secret: bytes) -> None:
        if self._keylog is not None:
            self._keylog(label, self.client_random, secret)

    def _handshake_secrets(self, schedule: KeySchedule, shared: bytes) -> tuple[bytes, bytes]:
        """Client's and server's handshake traffic secrets; the transcript is CH ‖ SH."""
        schedule.advance(shared)
        client, server = schedule.derive("c hs traffic"), schedule.derive("s hs traffic")
        self._log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", client)
        self._log("SERVER_HANDSHAKE_TRAFFIC_SECRET", server)
        return client, server

    def _application_secrets(self, schedule: KeySchedule) -> tuple[bytes, bytes]:
        """Client's and server's first application secrets; the transcript is CH .. server Finished."""
        schedule.advance(None)
        client, server = schedule.derive("c ap traffic"), schedule.derive("s ap traffic")
        self._log("CLIENT_TRAFFIC_SECRET_0", client)
        self._log("SERVER_TRAFFIC_SECRET_0", server)
        self._log("EXPORTER_SECRET", schedule.derive("exp master"))
        return client, server

    @staticmethod
    def _finished_message(schedule: KeySchedule, base: bytes) -> bytes:
        return message(MessageType.FINISHED, schedule.finished(base))

    @staticmethod
    def _check_finished(verify_data: bytes, whole: bytes) -> None:
        body = whole[4:]
        if len(body) != len(verify_data):
            raise DecodeError(f"Finished of {len(body)} octets: {len(verify_data)} wanted")
        if not finished_matches(verify_data, body):
            raise WrongFinished("Finished does not verify")

    def forget(self) -> None:
        """The handshake is over, well or not. Drops the references to secrets (Python cannot overwrite its bytes objects), and to
        whoever made us: both go at once then, not when the garbage collector comes by."""
        self._on_peer_parameters, self._authorise = _no_parameters, _no_authority

    def _wipe(self) -> None:
        """And what was to be sent, what was not read yet."""
        self.forget()
        self.actions = []
        for buffer in self._buffers.values():
            buffer.clear()


def _no_parameters(_data: bytes) -> None:
    raise UnexpectedMessage("transport parameters: the handshake is over")


def _no_authority() -> None:
    raise UnexpectedMessage("Finished: the handshake is over")


def row_of(state: State, level: Level, type_: int) -> Row:
    try:
        row = TABLE[state, MessageType(type_)]
    except (KeyError, ValueError):
        raise UnexpectedMessage(f"message type {type_}: {state.value}") from None
    if row.level is not level:
        raise UnexpectedMessage(f"message type {type_} at level {level.name}: {state.value}")
    return row


def check_quic_allows(type_: int) -> None:
    if type_ == MessageType.END_OF_EARLY_DATA:
        raise TlsProtocolViolation("EndOfEarlyData in QUIC (RFC 9001 §8.3)")


def check_left_over(buffer: bytearray) -> None:
    if buffer:
        raise TlsProtocolViolation("CRYPTO octets left over at a key change (RFC 9001 §4.1.3)")


def finished_matches(expected: bytes, received: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(expected, received)


def x25519_private(random: Callable[[int], bytes]) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(random(X25519_LENGTH))


def x25519_public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def x25519_shared(private: X25519PrivateKey, peer: bytes) -> bytes:
    """RFC 8446 §7.4.2: an all-zero result is refused."""
    if len(peer) != X25519_LENGTH:
        raise IllegalParameter(f"x25519 key share of {len(peer)} octets: {X25519_LENGTH} wanted")
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:
        raise IllegalParameter("x25519 key share of low order") from None

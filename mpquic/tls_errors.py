"""Every way in which the handshake fails, by name: one class a cause, each with its counter. Causes that must look alike
on the wire share their code and keep their counters. Alerts become CONNECTION_CLOSE 0x0100 + alert (RFC 9001 §4.8)."""

from __future__ import annotations

from typing import ClassVar

from mpquic.errors import TransportError
from mpquic.transport_codes import FrameType, TransportCode


class HandshakeError(TransportError):
    """Found in CRYPTO data: a transport error of the class's own `error` code."""

    error: ClassVar[int]

    def __init__(self, reason: str) -> None:
        super().__init__(self.error, FrameType.CRYPTO, reason)


class TlsError(HandshakeError):
    """A TLS failure with its alert."""

    alert: ClassVar[int]
    counter = "tls_error"

    def __init_subclass__(cls) -> None:
        cls.error = TransportCode.CRYPTO_ERROR + cls.alert


class KeyRefused(TlsError):
    """The PSK is not accepted. Its reasons look alike on the wire: same alert, no reason phrase, equal work."""

    alert = 51  # decrypt_error


class UnknownIdentity(KeyRefused):
    counter = "psk_unknown_identity"


class WrongBinder(KeyRefused):
    counter = "psk_wrong_binder"


class SpentKey(KeyRefused):
    counter = "psk_spent"


class KeyWithoutSuite(KeyRefused):
    """The identity is known, but no common suite has its hash, or the import was for another context."""

    counter = "psk_no_suite"


class KeyOfAnotherRole(KeyRefused):
    """Our own client uses this key: the hello is a reflection, or the key is shared by three (RFC 9257 §4.1)."""

    counter = "psk_wrong_role"


class KeyWithdrawn(TlsError):
    """Our key was wiped while the handshake ran: internal_error, for nothing is wrong with the peer."""

    alert = 80
    counter = "psk_withdrawn"


class WrongFinished(TlsError):
    alert = 51
    counter = "tls_wrong_finished"


class DecodeError(TlsError):
    alert = 50
    counter = "tls_decode_error"


class IllegalParameter(TlsError):
    alert = 47
    counter = "tls_illegal_parameter"


class NoCommonParameters(TlsError):
    """handshake_failure: no common suite or group, only psk_ke, no PSK where one is needed."""

    alert = 40
    counter = "tls_handshake_failure"


class PskMissing(NoCommonParameters):
    """The peer wants certificates. There are none here."""

    counter = "psk_missing"


class MissingExtension(TlsError):
    alert = 109
    counter = "tls_missing_extension"


class UnsupportedExtension(TlsError):
    alert = 110
    counter = "tls_unsupported_extension"


class ProtocolVersion(TlsError):
    alert = 70
    counter = "tls_protocol_version"


class NoApplicationProtocol(TlsError):
    alert = 120
    counter = "tls_no_application_protocol"


class UnexpectedMessage(TlsError):
    alert = 10
    counter = "tls_unexpected_message"


class TlsProtocolViolation(HandshakeError):
    """What QUIC itself forbids in the handshake (RFC 9001 §4.1.3, §8.3, §8.4)."""

    error = TransportCode.PROTOCOL_VIOLATION
    counter = "tls_protocol_violation"


class CryptoBufferExceeded(HandshakeError):
    error = TransportCode.CRYPTO_BUFFER_EXCEEDED
    counter = "crypto_buffer_exceeded"


class TransportParameterError(HandshakeError):
    error = TransportCode.TRANSPORT_PARAMETER_ERROR
    counter = "transport_parameter_error"


class EmptyConnectionId(HandshakeError):
    """initial_max_path_id together with an empty connection ID (RFC 10069 §2.1)."""

    error = TransportCode.PROTOCOL_VIOLATION
    counter = "multipath_empty_cid"

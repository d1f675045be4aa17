"""Every way in which the handshake fails, by name. Alerts become CONNECTION_CLOSE 0x0100 + alert (RFC 9001 §4.8)."""

from __future__ import annotations

from typing import ClassVar

from mpquic.errors import TransportError

FRAME_CRYPTO = 0x06
PROTOCOL_VIOLATION = 0x0A
CRYPTO_BUFFER_EXCEEDED = 0x0D


class TlsError(TransportError):
    """A TLS failure with its alert."""

    alert: ClassVar[int]
    counter: ClassVar[str] = "tls_error"

    def __init__(self, reason: str) -> None:
        super().__init__(0x0100 + self.alert, FRAME_CRYPTO, reason)


class KeyRefused(TlsError):
    """The PSK is not accepted. Its three reasons look alike on the wire: same alert, no reason phrase, equal work."""

    alert = 51  # decrypt_error


class UnknownIdentity(KeyRefused):
    counter: ClassVar[str] = "psk_unknown_identity"


class WrongBinder(KeyRefused):
    counter: ClassVar[str] = "psk_wrong_binder"


class SpentKey(KeyRefused):
    counter: ClassVar[str] = "psk_spent"


class WrongFinished(TlsError):
    alert = 51
    counter: ClassVar[str] = "tls_wrong_finished"


class DecodeError(TlsError):
    alert = 50
    counter: ClassVar[str] = "tls_decode_error"


class IllegalParameter(TlsError):
    alert = 47
    counter: ClassVar[str] = "tls_illegal_parameter"


class NoCommonParameters(TlsError):
    """handshake_failure: no common suite or group, only psk_ke, no PSK where one is needed."""

    alert = 40
    counter: ClassVar[str] = "tls_handshake_failure"


class PskMissing(NoCommonParameters):
    """The peer wants certificates. There are none here."""

    counter: ClassVar[str] = "psk_missing"


class MissingExtension(TlsError):
    alert = 109
    counter: ClassVar[str] = "tls_missing_extension"


class UnsupportedExtension(TlsError):
    alert = 110
    counter: ClassVar[str] = "tls_unsupported_extension"


class ProtocolVersion(TlsError):
    alert = 70
    counter: ClassVar[str] = "tls_protocol_version"


class NoApplicationProtocol(TlsError):
    alert = 120
    counter: ClassVar[str] = "tls_no_application_protocol"


class UnexpectedMessage(TlsError):
    alert = 10
    counter: ClassVar[str] = "tls_unexpected_message"


class TlsProtocolViolation(TransportError):
    """What QUIC itself forbids in the handshake (RFC 9001 §4.1.3, §8.3, §8.4)."""

    counter: ClassVar[str] = "tls_protocol_violation"

    def __init__(self, reason: str) -> None:
        super().__init__(PROTOCOL_VIOLATION, FRAME_CRYPTO, reason)


class CryptoBufferExceeded(TransportError):
    counter: ClassVar[str] = "crypto_buffer_exceeded"

    def __init__(self, reason: str) -> None:
        super().__init__(CRYPTO_BUFFER_EXCEEDED, FRAME_CRYPTO, reason)

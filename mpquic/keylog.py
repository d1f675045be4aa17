"""Key log lines (draft-ietf-tls-keylogfile): LABEL <client random> <secret>. Never the PSK, never an early secret."""

from __future__ import annotations


def line(label: str, client_random: bytes, secret: bytes) -> str:
    """One line, with its line end. QUIC uses TLS's labels."""
    return f"{label} {client_random.hex()} {secret.hex()}\n"

"""TLS of the SBI (TS 33.501 §13.1): 1.3 only, certificates on both sides, ALPN h2, and who the peer is."""

from __future__ import annotations

import os
import ssl
import uuid
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SbiConfig:
    """`sbi` in amf.json and smf.json."""

    address: str
    port: int
    cert: Path
    key: Path
    ca: Path
    nf_instance_id: str
    keylog: Path | None = None
    """SSLKEYLOGFILE: opens every SBI message, the keys in them too. Only where a user asked for it."""

    def __post_init__(self) -> None:
        uuid.UUID(self.nf_instance_id)  # ValueError: badly formed UUID
        if not 0 <= self.port < 65536:
            raise ValueError("port: must be 0..65535")

    @property
    def instance(self) -> uuid.UUID:
        return uuid.UUID(self.nf_instance_id)


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who the certificate says the peer is. The NF type is the first label of its host name."""

    nf_type: str
    host: str
    nf_instance_id: uuid.UUID

    @classmethod
    def of_certificate(cls, certificate: dict[str, object]) -> PeerIdentity | None:
        """From `getpeercert()`; None when it is no certificate of a network function."""
        names = certificate.get("subjectAltName", ())
        if not isinstance(names, tuple):
            return None
        hosts = [v for k, v in names if k == "DNS"]
        uris = [v for k, v in names if k == "URI" and v.startswith("urn:uuid:")]
        if len(hosts) != 1 or len(uris) != 1:
            return None
        try:
            return cls(hosts[0].partition(".")[0], hosts[0], uuid.UUID(uris[0].removeprefix("urn:uuid:")))
        except ValueError:
            return None


def server_context(config: SbiConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # every connection shows its certificate
    return _fill(context, config)


def client_context(config: SbiConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    return _fill(context, config)


def _fill(context: ssl.SSLContext, config: SbiConfig) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(config.cert, config.key)
        context.load_verify_locations(config.ca)
    except OSError as e:  # ssl.SSLError is one; its text holds no key
        raise ConfigError(f"sbi: certificate, key or CA cannot be used: {e}") from None
    if config.keylog is not None:
        log_keys(context, config.keylog)
    return context


def log_keys(context: ssl.SSLContext, path: Path) -> None:
    """Secrets of the connections that are made from now on, into a file that only its owner can read. ConfigError."""
    try:  # OpenSSL would make it readable by all
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        context.keylog_filename = str(path)
    except OSError as e:
        raise ConfigError(f"sbi: the key log cannot be written: {path}: {e.strerror}") from None

"""Certificates of one run: a CA whose key is thrown away, and one certificate per network function.

SAN of an NF: DNS `amf.local`, URI `urn:uuid:<NF instance id>` (TS 33.310 §6.1.3c.3: the instance id stands in the URI).
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=7)
CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class NfFiles:
    """What the configuration of one NF names."""

    host: str
    nf_instance_id: uuid.UUID
    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class RunCertificates:
    ca: Path
    nfs: dict[str, NfFiles]


def make_run_certificates(
    directory: str | Path, names: Sequence[str] = ("amf", "smf"), lifetime: datetime.timedelta = LIFETIME
) -> RunCertificates:
    """Write `ca.pem`, `<name>.pem`, `<name>.key` (0600). The CA's key exists in this function only."""
    directory = Path(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mpquic-upf run CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    ca_path = directory / "ca.pem"
    _write(ca_path, ca.public_bytes(Encoding.PEM), 0o644)
    nfs = {}
    for name in names:
        host, instance = f"{name}.local", uuid.uuid4()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        alternative = [x509.DNSName(host), x509.UniformResourceIdentifier(f"urn:uuid:{instance}")]
        cert = (
            _builder(subject, ca_name, key.public_key(), now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        files = NfFiles(host, instance, directory / f"{name}.pem", directory / f"{name}.key", ca_path)
        _write(files.cert, cert.public_bytes(Encoding.PEM), 0o644)
        _write(files.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        nfs[name] = files
    return RunCertificates(ca_path, nfs)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)

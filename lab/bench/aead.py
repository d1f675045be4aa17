"""AEAD with header protection for one packet, each backend's time against a bare OpenSSL loop with kept contexts."""

from __future__ import annotations

from lab.bench.figure import Figure
from lab.bench.pair import BenchError
from native._engine import ffi, lib

SUITES = {
    "aead.aes_128_gcm": 0x1301,
    "aead.aes_256_gcm": 0x1302,
    "aead.chacha20_poly1305": 0x1303,
}


def _nanoseconds(backend: bytes | None, suite: int, opening: int, packets: int) -> float:
    result = ffi.new("double *")
    name = ffi.NULL if backend is None else backend
    if lib.aead_bench(name, suite, opening, packets, result) < 0:
        raise BenchError(f"aead_bench refuses suite {suite:#x}")
    return float(result[0])


def measure_aead(runs: int, packets: int) -> list[Figure]:
    """Seal of 1350-octet packets with header protection, and open beside it, by the backend that a connection would take here;
    `.openssl`: by the backend that every CPU has. Ratio `openssl`: to the bare EVP loop of the same turn."""
    figures = []
    for name, suite in SUITES.items():
        for backend, suffix in ((None, ""), (b"openssl", ".openssl")):
            for operation, opening in (("", 0), (".open", 1)):
                figure = Figure(name + suffix + operation, "ns/packet")
                for _ in range(runs):
                    bare = _nanoseconds(b"bare", suite, opening, packets)
                    figure.add(_nanoseconds(backend, suite, opening, packets), openssl=bare)
                figures.append(figure)
    return figures

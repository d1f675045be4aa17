"""MILENAGE (TS 35.206): the functions f1 to f5* of an operator's USIMs and home network."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fiveg.errors import FivegError

BLOCK = 16


class MilenageError(FivegError, ValueError):
    """A value of a wrong length; the text names it and never shows it."""


def _aes(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def xor(a: bytes, b: bytes) -> bytes:
    """⊕ of two values of the same length"""
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _rotate(block: bytes, bits: int) -> bytes:
    n = bits // 8  # all rotation constants r1..r5 are whole octets
    return block[n:] + block[:n]


def opc_from_op(k: bytes, op: bytes) -> bytes:
    """OPc = E_K(OP) ⊕ OP (§4.1)"""
    return xor(_aes(k, op), op)


@dataclass(frozen=True, slots=True)
class Milenage:
    """K and OPc of one subscriber."""

    k: bytes = field(repr=False)
    opc: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("K", self.k), ("OPc", self.opc)):
            if len(value) != BLOCK:
                raise MilenageError(f"{name} must have {BLOCK} octets, it has {len(value)}")

    def _temp(self, rand: bytes) -> bytes:
        if len(rand) != BLOCK:
            raise MilenageError(f"RAND must have {BLOCK} octets, it has {len(rand)}")
        return _aes(self.k, xor(rand, self.opc))

    def _out1(self, rand: bytes, sqn: bytes, amf: bytes) -> bytes:
        if len(sqn) != 6 or len(amf) != 2:
            raise MilenageError("SQN must have 6 octets and AMF 2")
        block = _rotate(xor((sqn + amf) * 2, self.opc), 64)  # c1 = 0
        return xor(_aes(self.k, xor(self._temp(rand), block)), self.opc)

    def _out(self, rand: bytes, rotation: int, constant: int) -> bytes:
        block = bytearray(_rotate(xor(self._temp(rand), self.opc), rotation))
        block[-1] ^= constant
        return xor(_aes(self.k, bytes(block)), self.opc)

    def f1(self, rand: bytes, sqn: bytes, amf: bytes) -> bytes:
        """MAC-A"""
        return self._out1(rand, sqn, amf)[:8]

    def f1_star(self, rand: bytes, sqn: bytes, amf: bytes) -> bytes:
        """MAC-S"""
        return self._out1(rand, sqn, amf)[8:]

    def f2(self, rand: bytes) -> bytes:
        """RES"""
        return self._out(rand, 0, 1)[8:]

    def f3(self, rand: bytes) -> bytes:
        """CK"""
        return self._out(rand, 32, 2)

    def f4(self, rand: bytes) -> bytes:
        """IK"""
        return self._out(rand, 64, 4)

    def f5(self, rand: bytes) -> bytes:
        """AK"""
        return self._out(rand, 0, 1)[:6]

    def f5_star(self, rand: bytes) -> bytes:
        """AK*"""
        return self._out(rand, 96, 8)[:6]

"""How much memory C code holds: what a flood must not make grow. Resident memory tells too much (rings and pools are touched bit by
bit, Python keeps its arenas); the allocator knows to the octet."""

from __future__ import annotations

import ctypes


class _Info(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _Info


def heap_in_use() -> int:
    """Octets that are allocated now, by whomever in this process: malloc's own count and what it has from mmap."""
    info = _libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)

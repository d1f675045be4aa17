"""What offload.c writes to a TUN of packets that it could join."""

from __future__ import annotations

import socket

from native import ffi, lib
from native.sim import check

HEADER = 10  # virtio_net_hdr


def joined_writes(packets: list[bytes]) -> list[bytes]:
    """Of IP packets that arrive one after the other, the IP packet of each write."""
    device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with device, kernel:
        device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        kernel.settimeout(5)
        lengths = ffi.new("uint16_t[]", [len(p) for p in packets])
        count = check(lib.offload_join(device.fileno(), b"".join(packets), lengths, len(packets)))
        return [kernel.recv(1 << 17)[HEADER:] for _ in range(count)]

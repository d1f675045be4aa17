"""Addresses of PDU sessions: one IPv4 address and one IPv6 /64 each, reused as late as possible."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from control.errors import ProcedureFailed
from control.smf.config import PoolConfig

MOST = 4096
"""Sessions of one SMF: bounds the pool whatever its prefix."""
FIRST = 2
"""The first host addresses are left to the network's side."""
INTERFACE_ID = 1
"""Interface identifier that the SMF gives to every UE (TS 23.501 §5.8.2.2.3): unique within the session's own /64."""


@dataclass(frozen=True, slots=True)
class SessionAddress:
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    slot: int

    @property
    def interface_id(self) -> bytes | None:
        return None if self.ipv6 is None else self.ipv6.packed[8:]


class AddressPool:
    def __init__(self, config: PoolConfig) -> None:
        self._ipv4 = IPv4Network(config.ipv4)
        self._ipv6 = IPv6Network(config.ipv6)
        count = min(MOST, self._ipv4.num_addresses - FIRST - 1, (1 << (64 - self._ipv6.prefixlen)) - FIRST)
        self._free = deque(range(FIRST, FIRST + count))

    def take(self, ipv4: bool, ipv6: bool) -> SessionAddress:
        if not self._free:
            raise ProcedureFailed("no address is left in the pool")
        slot = self._free.popleft()
        return SessionAddress(
            self._ipv4[slot] if ipv4 else None,
            self._ipv6[(slot << 64) + INTERFACE_ID] if ipv6 else None,
            slot,
        )

    def give_back(self, address: SessionAddress) -> None:
        self._free.append(address.slot)

    @property
    def free(self) -> int:
        return len(self._free)

"""The TUN's MTU follows what the paths carry (RFC 9484 §7.2, RFC 9000 §14.3): it begins at IPv6's least and grows as path MTU
discovery goes on, so that no application's packet is too large for the path it is steered to."""

from __future__ import annotations

import asyncio

from node.counters import Counters
from node.events import Events
from ue.errors import UeError
from ue.ports import ConnectionPort, TunPort

LEAST = 1280
"""RFC 8200 §5: every path of a session carries it, or is not validated."""
LOWER_AFTER = 2.0
"""Seconds: a path that was just validated does not know its MTU yet; only one that stays small makes the TUN smaller."""
CARRIES = ("active", "standby", "suspect")


class TunMtu:
    """`most`: the configured MTU, never exceeded."""

    def __init__(self, tun: TunPort, most: int, events: Events, counters: Counters) -> None:
        self._tun, self._most, self._events, self._counters = tun, most, events, counters
        self._mtu = LEAST
        self._connection: ConnectionPort | None = None
        self._lowering: asyncio.TimerHandle | None = None

    def follow(self, connection: ConnectionPort) -> None:
        """From now on the paths of this connection count, and no other's."""
        self._connection = connection
        connection.on_path(lambda name, _fields: self._changed(connection) if name.startswith("path_") else None)
        self._changed(connection)

    def stop(self) -> None:
        self._connection = None
        if self._lowering is not None:
            self._lowering.cancel()
            self._lowering = None

    def _wanted(self) -> int | None:
        if self._connection is None:
            return None
        known = [p["inner_mtu"] for p in self._connection.paths() if p.get("state") in CARRIES and p.get("inner_mtu")]
        return max(LEAST, min(self._most, *known)) if known else None

    def _changed(self, connection: ConnectionPort) -> None:
        if connection is not self._connection:
            return
        wanted = self._wanted()
        if wanted is None or wanted == self._mtu:
            return
        if wanted > self._mtu:
            self._set(wanted)
        elif self._lowering is None:
            self._lowering = asyncio.get_running_loop().call_later(LOWER_AFTER, self._lower)

    def _lower(self) -> None:
        self._lowering = None
        wanted = self._wanted()
        if wanted is not None and wanted < self._mtu:
            self._set(wanted)

    def _set(self, mtu: int) -> None:
        try:
            self._tun.mtu_set(mtu)
        except UeError as error:
            self._counters.inc("tun.mtu_not_set")
            self._events.emit("tun_mtu_refused", mtu=mtu, text=str(error))
            return
        self._mtu = mtu
        self._events.emit("tun_mtu", mtu=mtu)

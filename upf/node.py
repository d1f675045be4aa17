"""The UPF as a process: N4, access paths, MPQUIC proxy and N6 put together, and the verbs of its control channel."""

from __future__ import annotations

import os
import time
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from fiveg.pfcp.codes import NTP_EPOCH
from fiveg.pfcp.transaction import Transactions
from node.errors import VerbError
from node.keylog import keylog_verb
from node.main import NodeContext
from node.secrets import read_secret
from upf.access import AccessPath
from upf.config import UpfConfig
from upf.errors import UpfError
from upf.n4 import N4
from upf.n6 import N6
from upf.pfcp_agent import PfcpAgent
from upf.proxy import Proxy
from upf.quic import QuicEndpoint

K_N4_LENGTH = 32


class Upf:
    """UPF: PFCP agent, access paths, MPQUIC proxy, N6."""

    def __init__(self, config: UpfConfig, context: NodeContext) -> None:
        self._config = config
        self._context = context
        self._k_n4 = context.events.register_secret(read_secret(config.n4.key, K_N4_LENGTH))
        self._transactions = Transactions(int.from_bytes(os.urandom(3), "big"))
        self._proxy = Proxy(config, context.events, context.counters)
        recovery = int(time.time()) + NTP_EPOCH & 0xFFFFFFFF
        self._agent = PfcpAgent(
            config, self._k_n4, recovery, self._transactions, self._proxy, context.events, context.counters, os.urandom
        )
        self._n4: N4 | None = None
        self._n6: N6 | None = None
        self._endpoint: QuicEndpoint | None = None
        self._accesses: dict[str, AccessPath] = {}
        channel = context.channel
        channel.verb("access_ready", self._access_ready)
        channel.verb("paths", self._paths)
        channel.verb("tunnel", self._tunnel)
        keylog_verb(channel, self._log_keys, already=config.keylog)

    async def start(self) -> None:
        self._endpoint = QuicEndpoint(self._config, self._proxy.psk_lookup, self._proxy.connected)
        self._n6 = N6(self._config.tun, self._config.tun_mtu)
        self._n6.up()
        for network in (*self._config.outside(), self._n6.network_of(IPv4Address(self._config.n4.address))):
            self._endpoint.forbid(network)
        self._proxy.attach(self._endpoint, self._n6, self._agent.keys, self._flush)
        self._endpoint.start()
        for access in self._config.accesses:
            path = AccessPath(access, self._config.proxy)
            self._accesses[access.name] = path
            path.prepare()
            self._context.channel.hand_over_netns(access.name, path.netns.fd)
        self._n4 = await N4.open(
            self._agent,
            self._transactions,
            self._context.events,
            self._context.counters,
            self._config.n4.address,
            self._config.n4.port,
        )

    async def stop(self) -> None:
        if self._n4 is not None:
            self._n4.close()
        await self._proxy.close()
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._n6 is not None:
            self._n6.close()
        for path in self._accesses.values():
            path.close()
        self._agent.wipe()
        self._k_n4.wipe()

    def _log_keys(self, path: Path) -> None:
        if self._endpoint is None:
            raise VerbError("not_ready", "the UPF has no endpoint yet")
        self._endpoint.log_keys(path)

    def _flush(self) -> None:
        if self._n4 is not None:
            self._n4.flush()

    # ---- verbs

    async def _access_ready(self, args: dict[str, Any]) -> dict[str, Any]:
        """The supervisor has plugged the wire of this access in."""
        name = args.get("access")
        path = self._accesses.get(name) if isinstance(name, str) else None
        if path is None:
            raise VerbError("unknown_access", f"there is no such access; there are {', '.join(self._accesses)}")
        try:
            sockets = path.ready()
            self._proxy.access_add(path.config, sockets)
            path.watch(partial(self._proxy.access_state, path.config), self._context.counters)
        except UpfError as error:
            raise VerbError("access_not_ready", str(error)) from error
        return {"sockets": [str(s.getsockname()[0]) for s in sockets]}

    async def _paths(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        return self._proxy.paths()

    async def _tunnel(self, args: dict[str, Any]) -> dict[str, Any]:
        """With the time that it is of: the asker may be late."""
        return {"t": time.monotonic(), **self._proxy.tunnels()}

    def status(self) -> dict[str, Any]:
        ready = [name for name, path in self._accesses.items() if path.sockets]
        return {"node": "upf", "accesses": ready, **self._agent.status(), "connections": self._proxy.status()}

    def metrics(self) -> dict[str, Any]:
        return {"pfcp": dict(sorted(self._transactions.counters.items())), **self._proxy.metrics()}

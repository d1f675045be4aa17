"""The UE as a process: NAS over both accesses, the MA PDU session, its key, the MPQUIC client and the TUN put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from fiveg.keys import psk_identity
from fiveg.nas.gmm import PayloadType, UlNasTransport
from node.counters import Counters
from node.errors import VerbError
from node.keylog import keylog_verb
from node.main import NodeContext
from node.secrets import Secret
from node.subscriber import load_subscriber
from ue.config import UeConfig
from ue.errors import HandshakeRefused, UeError
from ue.key_client import KeyClient
from ue.key_store import KeyStore, Slot
from ue.mpquic_client import MpquicClient
from ue.nas_client import NasClient
from ue.ports import EndpointPort, TunPort
from ue.registration import Timer
from ue.sm import Session, SmClient
from ue.tun_mtu import LEAST

REKEY_LIMIT = 20.0
KEY_RETRY = 5.0
"""Seconds until a new key is asked for again when nobody could be asked, or the network refused."""


def _after(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, call)


class NodeEndpoint(EndpointPort, Protocol):
    """The endpoint's own life."""

    def start(self) -> None: ...

    async def close(self) -> None: ...

    def counters(self) -> dict[str, int]: ...

    def log_keys(self, path: Path) -> None: ...


class NodeTun(TunPort, Protocol):
    fd: int

    def close(self) -> None: ...


class Ue:
    """UE: NAS client, ATSSS rules, MPQUIC client, TUN."""

    def __init__(
        self,
        config: UeConfig,
        context: NodeContext,
        make_tun: Callable[[str, int], NodeTun],
        make_endpoint: Callable[[UeConfig, int, Counters], NodeEndpoint],
    ) -> None:
        self._config, self._context = config, context
        self._make_tun, self._make_endpoint = make_tun, make_endpoint
        events, counters = context.events, context.counters
        self._subscriber = load_subscriber(config.subscriber)
        for secret in (self._subscriber.k, self._subscriber.opc):
            events.register_secret(secret)
        self._store = KeyStore(time.monotonic, keep_spent=config.probe_spent_key)
        self._nas = NasClient(config, self._subscriber, self, events, counters)
        self._sm = SmClient(config.session, len(config.accesses), self, events, counters, _after)
        self._keys = KeyClient(config.session.id, config.key, self._store, self, events, counters, _after)
        self._tun: NodeTun | None = None
        self._endpoint: NodeEndpoint | None = None
        self._client: MpquicClient | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._retry: Timer | None = None
        channel = context.channel
        channel.verb("paths", self._paths)
        channel.verb("tunnel", self._tunnel)
        channel.verb("rekey", self._rekey)
        channel.verb("key_update", self._key_update)
        channel.verb("probe_spent_key", self._probe_spent_key)
        channel.verb("connect_with_key", self._connect_with_key)
        keylog_verb(channel, self._log_keys, already=config.keylog)

    async def start(self) -> None:
        """Ready means: registering. The session comes as events."""
        config = self._config
        self._tun = self._make_tun(config.tun, LEAST)
        self._endpoint = self._make_endpoint(config, self._tun.fd, self._context.counters)
        self._client = MpquicClient(
            config,
            self._store,
            self._endpoint,
            self._tun,
            self._context.events,
            self._context.counters,
            refused=self._keys.refused_by_proxy,
            key_wanted=self._key_wanted,
        )
        self._endpoint.start()
        self._tasks = [self._context.spawn(link.run(), f"N1 over {link.name}") for link in self._nas.links]
        self._tasks.append(self._context.spawn(self._client.run(), "MPQUIC client"))

    async def stop(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._keys.close()
        self._sm.close()
        self._nas.deregister()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.stop()
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._tun is not None:
            self._tun.close()
        self._store.clear()
        self._nas.wipe()
        self._subscriber.wipe()

    def _log_keys(self, path: Path) -> None:
        if self._endpoint is None:
            raise VerbError("not_ready", "the UE has no endpoint yet")
        self._endpoint.log_keys(path)

    # ---- user of NAS

    def registered(self, access: str) -> None:
        self._sm.registered(access)

    def context_changed(self) -> None:
        """A new K_AMF: the AMF has forgotten the sessions of the one before."""
        self._store.forget()
        self._sm.context_lost()

    def sm(self, access: str, psi: int, payload: bytes) -> None:
        self._sm.received(access, psi, payload)

    def key(self, access: str, psi: int, payload: bytes, *, key_allowed: bool) -> None:
        self._keys.received(access, psi, payload, key_allowed=key_allowed)

    def not_forwarded(self, kind: int, psi: int) -> None:
        if kind == PayloadType.N1_SM:
            self._sm.not_forwarded(psi)

    # ---- host of 5GSM

    def send_transport(self, message: UlNasTransport, *, prefer: str | None = None, avoid: str | None = None) -> str | None:
        return self._nas.send(message, prefer=prefer, avoid=avoid)

    def accesses(self) -> list[str]:
        return self._nas.accesses()

    def session_changed(self, session: Session | None) -> None:
        if session is None:
            self._store.clear()
        assert self._client is not None
        self._client.session_changed(session)

    # ---- host of the keys

    @property
    def k_amf(self) -> Secret | None:
        return self._nas.k_amf

    @property
    def supi(self) -> str:
        return self._nas.supi

    def session_known(self, psi: int) -> bool:
        return psi == self._config.session.id and self._sm.known

    def send_container(self, psi: int, octets: bytes, *, prefer: str | None, avoid: str | None) -> str | None:
        message = UlNasTransport(payload_type=PayloadType.MPQUIC_KEY, payload=octets, pdu_session_id=psi)
        return self._nas.send(message, prefer=prefer, avoid=avoid)

    def key_installed(self, slot: Slot) -> None:
        if self._client is not None:
            self._client.key_installed()

    def key_revoked(self, generation: int) -> None:
        if self._client is not None:
            self._client.key_revoked(generation)

    def request_refused(self, cause: int) -> None:
        error = HandshakeRefused(f"the network gives no new key (cause {cause})", key_refused=False)
        if self._client is not None:
            self._client.fail_waiters(error)
            if self._client.status() is None:
                self._retry_later()

    # ---- keys that the client wants

    def _key_wanted(self) -> None:
        """The connection is gone and its key is spent."""
        if self._sm.session is not None and not self._keys.request():
            self._retry_later()

    def _retry_later(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = _after(KEY_RETRY, self._want_again)

    def _want_again(self) -> None:
        self._retry = None
        if self._client is not None and self._client.status() is None and self._store.usable() is None:
            self._key_wanted()

    # ---- verbs

    def _ready_client(self) -> MpquicClient:
        if self._client is None:
            raise VerbError("not_ready", "the UE is starting")
        return self._client

    async def _rekey(self, args: dict[str, Any]) -> dict[str, Any]:
        """KEY REQUEST; done when a connection of the new key carries the session."""
        client = self._ready_client()
        if self._sm.session is None:
            raise VerbError("no_session", "there is no MA PDU session")
        before = self._store.generation
        self._keys.request()  # one that is under way serves as well
        try:
            async with asyncio.timeout(REKEY_LIMIT):
                generation = await client.carried_beyond(before)
        except TimeoutError:
            raise VerbError("timeout", f"no connection of a new key within {REKEY_LIMIT:.0f} s") from None
        except UeError as e:
            raise VerbError("failed", f"no new key: {e}") from None
        status = client.status() or {}
        return {"generation": generation, "fingerprint": status.get("fingerprint")}

    async def _key_update(self, args: dict[str, Any]) -> dict[str, Any]:
        """QUIC's key update, which the UPF follows. The key from the core stays."""
        try:
            self._ready_client().key_update()
        except UeError as e:
            raise VerbError("failed", f"no key update: {e}") from None
        return {}

    async def _paths(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        return self._ready_client().paths()

    async def _tunnel(self, args: dict[str, Any]) -> dict[str, Any]:
        """With the time that it is of: the asker may be late."""
        return {"t": time.monotonic(), **self._ready_client().tunnel()}

    async def _probe_spent_key(self, args: dict[str, Any]) -> dict[str, Any]:
        """One handshake with the last spent key: the proxy must not take it."""
        if not self._config.probe_spent_key:
            raise VerbError("not_allowed", "the configuration does not allow probe_spent_key")
        slot = self._store.last_spent
        if slot is None:
            raise VerbError("no_spent_key", "no key is spent yet")
        outcome = await self._ready_client().probe(slot.key.reveal(), slot.identity)
        return {"outcome": outcome, "generation": slot.generation, "fingerprint": slot.fingerprint}

    async def _connect_with_key(self, args: dict[str, Any]) -> dict[str, Any]:
        if not self._config.test_verbs:
            raise VerbError("not_allowed", "connect_with_key is for tests: the configuration does not allow it")
        text = args.get("key")
        try:
            key = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            key = b""
        if len(key) != 32:
            raise VerbError("misused", "connect_with_key needs key: 64 hex digits")
        return {"outcome": await self._ready_client().probe(key, psk_identity(key))}

    def status(self) -> dict[str, Any]:
        session, slot = self._sm.session, self._store.slot
        return {
            "node": "ue",
            "accesses": self._nas.status(),
            "session": None
            if session is None
            else {
                "pdu_session_id": session.psi,
                "ipv4": None if session.ipv4 is None else str(session.ipv4),
                "rules": [rule.rule_id for rule in session.atsss.steering],
            },
            "key": None
            if slot is None
            else {
                "generation": slot.generation,
                "fingerprint": slot.fingerprint,
                "state": self._store.state.name.lower(),
            },
            "connection": None if self._client is None else self._client.status(),
        }

    def metrics(self) -> dict[str, Any]:
        return {
            "engine": {} if self._endpoint is None else self._endpoint.counters(),
            "tunnel": {} if self._client is None else self._client.tunnel(),
            "paths": [] if self._client is None else self._client.paths(),
        }

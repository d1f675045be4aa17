"""The AMF (playing SEAF, AUSF and UDM too): N1 towards UEs, SBI towards the SMF, and the keys."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from control.amf.config import MOST_SUBSCRIBERS, AmfConfig
from control.amf.mpquic_keys import MpquicKeys, SessionKey
from control.amf.n1_messages import N1Messages
from control.amf.n1_server import N1Connection, N1Server
from control.amf.reachability import Reachability
from control.amf.registration import Candidate
from control.amf.transport import Transport
from control.amf.ue_context import UeContext
from control.sbi.client import SbiClient
from control.sbi.server import Request, Response, SbiServer
from fiveg.nas.gmm import PayloadType
from fiveg.sbi.errors import SbiError
from node.errors import VerbError
from node.keylog import keylog_verb
from node.main import NodeContext
from node.subscriber import Subscriber, load_subscribers


class Amf:
    """Access and Mobility Management Function: registration, NAS security, MPQUIC keys."""

    def __init__(
        self,
        config: AmfConfig,
        context: NodeContext,
        random: Callable[[int], bytes] = secrets.token_bytes,
        clock: Callable[[], float] = time.monotonic,
        schedule: tuple[float, ...] | None = None,
    ) -> None:
        self.config, self.context, self.random, self.clock = config, context, random, clock
        self.events, self.counters = context.events, context.counters
        self.subscribers = load_subscribers(config.subscribers, MOST_SUBSCRIBERS)
        for subscriber in self.subscribers.values():
            self.events.register_secret(subscriber.k)
            self.events.register_secret(subscriber.opc)
        self._ues: dict[str, UeContext] = {}
        self._by_tmsi: dict[bytes, UeContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.smf = SbiClient(config.sbi, config.smf, self.counters)
        self.sbi = SbiServer(config.sbi, self._handle, self.counters)
        self.keys = MpquicKeys(self, config.key, self.events, self.counters, random, clock, schedule)
        self.transport = Transport(
            self, config, self.smf, self.keys, self.events, self.counters, random, clock, lambda: self.sbi.port
        )
        self.reachability = Reachability(config.implicit_deregistration_s, self._deregister_implicitly)
        self.n1 = N1Server(config.n1, N1Messages(self), self.counters, clock)
        context.channel.verb("rekey", self._rekey)
        keylog_verb(context.channel, self.smf.log_keys, self.sbi.log_keys, already=config.sbi.keylog)

    # ---- life

    async def start(self) -> None:
        await self.sbi.start()
        await self.n1.start()

    async def stop(self) -> None:
        await self.n1.stop()
        await self.sbi.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.smf.close()
        self.reachability.stop()
        for ue in self._ues.values():
            for session in ue.sessions.values():
                self.keys.forget(session)
            ue.wipe()
        for subscriber in self.subscribers.values():
            subscriber.wipe()

    def status(self) -> dict[str, Any]:
        return {
            "ues": [
                {
                    "supi": ue.supi,
                    "accesses": sorted(a for a, c in ue.connections.items() if c.open),
                    "sessions": [{"pdu_session_id": s.pdu_session_id, "key": _key_status(s.key)} for s in ue.sessions.values()],
                }
                for ue in self._ues.values()
            ]
        }

    def metrics(self) -> dict[str, Any]:
        return {"ues": len(self._ues)}

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as e:  # one UE's fault is not the others'
            self.counters.inc(f"amf.fault.{type(e).__name__}")

    # ---- SBI

    async def _handle(self, request: Request) -> Response:
        for service in (self.keys, self.transport):
            response = await service.handle(request)
            if response is not None:
                return response
        raise SbiError(404, "RESOURCE_URI_STRUCTURE_NOT_FOUND", "no such resource")

    async def notify_smf(self, path: str, body: bytes, *, idempotent: bool) -> None:
        await self.smf.call("POST", path, body, idempotent=idempotent)

    # ---- the verb

    async def _rekey(self, args: dict[str, Any]) -> dict[str, Any]:
        supi, psi, reason = args.get("supi"), args.get("pdu_session_id"), args.get("reason", "POLICY")
        if not isinstance(supi, str) or type(psi) is not int or not isinstance(reason, str):
            raise VerbError("misused", "rekey needs supi (string), pdu_session_id (number) and reason (string)")
        return await self.keys.rekey(supi, psi, reason)

    # ---- UEs

    def subscriber(self, supi: str) -> Subscriber | None:
        return self.subscribers.get(supi)

    def ue(self, supi: str) -> UeContext | None:
        return self._ues.get(supi)

    def ues(self) -> list[UeContext]:
        return list(self._ues.values())

    def by_tmsi(self, tmsi: bytes) -> UeContext | None:
        return self._by_tmsi.get(tmsi)

    def adopt(self, connection: N1Connection, candidate: Candidate) -> UeContext:
        """A UE that has authenticated and switched security on: what was known of it before ends here."""
        assert candidate.security is not None and candidate.secret is not None
        supi = candidate.subscriber.supi
        old = self._ues.get(supi)
        if old is not None:
            self._forget(old)
            for other in list(old.connections.values()):
                if other is not connection:
                    other.close()
            old.connections.clear()
        tmsi = self.random(4)
        while tmsi in self._by_tmsi:  # counted on, not drawn again: a random source that is stuck must not stop us
            tmsi = ((int.from_bytes(tmsi, "big") + 1) % (1 << 32)).to_bytes(4, "big")
        ue = UeContext(candidate.subscriber, candidate.security, candidate.secret, tmsi)
        self._ues[supi] = ue
        self._by_tmsi[tmsi] = ue
        return ue

    def attach(self, connection: N1Connection, ue: UeContext) -> None:
        """This connection is the UE's access of its type from now on."""
        previous = ue.connections.get(connection.access)
        ue.connections[connection.access] = connection
        self.reachability.reached(ue)
        if previous is not None and previous is not connection:
            previous.close()

    def detach(self, connection: N1Connection, ue: UeContext) -> None:
        """What is for this UE must not go out there any more."""
        if ue.connections.get(connection.access) is connection:
            del ue.connections[connection.access]
            self.lost(ue)

    def heard(self, connection: N1Connection, ue: UeContext) -> None:
        """A message with a right MAC: the UE is there."""
        connection.heard_at = self.clock()
        self.keys.came_back(ue)

    def leave_elsewhere(self, connection: N1Connection, ue: UeContext) -> None:
        """Deregistered over both accesses (TS 24.501 §5.5.2.2.2): the other one ends, too."""
        for other in [c for c in ue.connections.values() if c is not connection]:
            self.detach(other, ue)
            self.events.emit("deregistered", access=other.access)
            other.close()

    def release(self, connection: N1Connection, ue: UeContext) -> None:
        """Deregistered over this access. With the last one its sessions end."""
        self.detach(connection, ue)
        self.events.emit("deregistered", access=connection.access)
        connection.close()
        if not ue.connections:
            self._forget(ue)

    def lost(self, ue: UeContext) -> None:
        """An access of this UE has ended."""
        if self._ues.get(ue.supi) is ue:
            self.reachability.lost(ue)

    def _deregister_implicitly(self, ue: UeContext) -> None:
        self.counters.inc("n1.implicit_deregistration")
        self.events.emit("deregistered_implicitly", sessions=len(ue.sessions))
        self._forget(ue)

    def _forget(self, ue: UeContext) -> None:
        """The end of a registration: its sessions are released, its keys wiped, its names free."""
        self.reachability.reached(ue)
        self.transport.release_all(ue)
        ue.wipe()
        if self._ues.get(ue.supi) is ue:
            del self._ues[ue.supi]
        self._by_tmsi.pop(ue.guti_tmsi, None)

    def send_container(self, ue: UeContext, pdu_session_id: int, container: bytes, avoid: str | None) -> str | None:
        return self.transport.downlink(ue, pdu_session_id, container, kind=PayloadType.MPQUIC_KEY, avoid=avoid)


def _key_status(key: SessionKey | None) -> dict[str, Any] | None:
    if key is None:
        return None
    return {"generation": key.generation, "fingerprint": key.fingerprint, "state": key.state.name.lower()}

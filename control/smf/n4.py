"""The SMF's end of N4: the UDP socket, the association with the UPF, heartbeats, and requests that can be awaited.

The SMF sets the association up and keeps trying; it also answers a UPF that asks first. A UPF whose recovery time stamp
changed has started again and knows nothing of its sessions (TS 23.527 §4.3): `on_restart` is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, TypeVar

from control.errors import PfcpRefused, PfcpUnreachable
from control.smf.config import N4Config
from fiveg.pfcp.codes import NTP_EPOCH, Cause, KeyCapabilityFlags, UpFeature
from fiveg.pfcp.errors import NoAssociation, PfcpError, ServiceNotSupported
from fiveg.pfcp.keywrap import N4KeyWrap
from fiveg.pfcp.message import (
    AssociationReleaseRequest,
    AssociationReleaseResponse,
    AssociationSetupRequest,
    AssociationSetupResponse,
    AssociationUpdateRequest,
    AssociationUpdateResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    NodeReportRequest,
    NodeReportResponse,
    SessionReportRequest,
    SessionReportResponse,
    rejection,
)
from fiveg.pfcp.mpquic_ies import MpquicKeyCapability
from fiveg.pfcp.transaction import (
    Event,
    Peer,
    RequestFaulty,
    RequestReceived,
    RequestTimedOut,
    ResponseFaulty,
    ResponseReceived,
    Transaction,
    Transactions,
)
from fiveg.pfcp.values import FSeid, NodeId
from node.counters import Counters
from node.events import Events
from node.secrets import Secret

M = TypeVar("M", bound=Message)
HEARTBEAT_INTERVAL = 5.0
RETRY_INTERVAL = 0.5
REPORTS_AT_ONCE = 256

ReportHandler = Callable[[int, SessionReportRequest], Awaitable[tuple[SessionReportResponse, int]]]


@dataclass(frozen=True, slots=True)
class Association:
    """The UPF as it presented itself."""

    up_recovery: int
    features: frozenset[UpFeature]
    keys: bool
    era: int
    """another one when the UPF has lost its sessions: what was set up in an older era is not there any more"""

    @property
    def carries_mpquic(self) -> bool:
        return self.keys and UpFeature.MPQUIC_IP in self.features


class N4(asyncio.DatagramProtocol):
    def __init__(
        self,
        config: N4Config,
        k_n4: Secret,
        counters: Counters,
        events: Events,
        on_report: ReportHandler,
        on_restart: Callable[[], None],
        random: Callable[[int], bytes],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._k_n4, self._counters, self._events = config, k_n4, counters, events
        self._on_report, self._on_restart, self._clock = on_report, on_restart, clock
        self._peer: Peer = (config.upf, config.upf_port)
        self._transactions = Transactions(int.from_bytes(random(3), "big"))
        self._recovery = (int(wall()) + NTP_EPOCH) & 0xFFFFFFFF
        self._node_id = NodeId(IPv4Address(config.address))
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self.association: Association | None = None
        self._last_recovery: int | None = None
        self._era = 0
        self._sessions_lost = False

    # ---- life

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(self._config.address, self._config.port))

    async def run(self) -> None:
        """Set the association up, keep it alive, set it up again: until cancelled."""
        while True:
            if self.association is None:
                try:
                    await self._set_up()
                except (PfcpRefused, PfcpUnreachable):
                    await asyncio.sleep(RETRY_INTERVAL)
                continue
            self._lost.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_INTERVAL):
                    await self._lost.wait()
            except TimeoutError:
                await self._heartbeat()

    async def associated(self) -> Association:
        while self.association is None:  # it may be gone again before a waiter runs
            await self._up.wait()
        return self.association

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    # ---- association

    async def _set_up(self) -> None:
        request = AssociationSetupRequest(
            node_id=self._node_id, recovery_time_stamp=self._recovery, key_capability=MpquicKeyCapability()
        )
        answer = await self.request(request, None, AssociationSetupResponse)
        if not answer.cause.accepted:
            raise PfcpRefused(f"the UPF refused the association: {answer.cause.name}", int(answer.cause))
        capability = answer.key_capability
        self._associated(
            answer.recovery_time_stamp,
            answer.up_features or frozenset(),
            capability is not None and bool(capability.flags & KeyCapabilityFlags.AES_KW_256),
        )

    def _associated(self, recovery: int, features: frozenset[UpFeature], keys: bool) -> None:
        restarted = self._last_recovery is not None and self._last_recovery != recovery
        lost = restarted or self._sessions_lost
        self._era += lost
        self.association = Association(recovery, features, keys, self._era)
        self._last_recovery, self._sessions_lost = recovery, False
        self._up.set()
        self._events.emit("association_up", peer=self._config.upf, keys=keys)
        if restarted:
            self._counters.inc("n4.upf_restarted")
        if lost:
            self._on_restart()

    def _dissociated(self, reason: str, *, sessions_lost: bool = False) -> None:
        if self.association is None:
            return
        self._sessions_lost = self._sessions_lost or sessions_lost
        self.association = None
        self._up.clear()
        self._lost.set()
        self._events.emit("association_down", peer=self._config.upf, reason=reason)

    async def _heartbeat(self) -> None:
        try:
            beat = HeartbeatRequest(recovery_time_stamp=self._recovery)
            answer = await self.request(beat, None, HeartbeatResponse)
        except (PfcpRefused, PfcpUnreachable):
            self._counters.inc("n4.heartbeat_lost")
            self._dissociated("no heartbeat")
            return
        self._recovery_seen(answer.recovery_time_stamp)

    def _recovery_seen(self, recovery: int) -> None:
        if self.association is not None and recovery != self.association.up_recovery:
            self._dissociated("the UPF started again")

    # ---- what sessions need

    @property
    def recovery(self) -> int:
        return self._recovery

    def f_seid(self, seid: int) -> FSeid:
        return FSeid(seid, IPv4Address(self._config.address))

    @property
    def node_id(self) -> NodeId:
        return self._node_id

    def key_wrap(self, up_seid: int) -> N4KeyWrap:
        if self.association is None:
            raise PfcpUnreachable("no association with the UPF")
        return N4KeyWrap(self._k_n4.reveal(), self._recovery, self.association.up_recovery, up_seid)

    async def request(self, message: Message, seid: int | None, kind: type[M]) -> M:
        """Send a request and await its response. PfcpUnreachable, or PfcpRefused for an answer without sense."""
        if seid is not None and self.association is None:
            raise PfcpUnreachable("no association with the UPF")
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        try:
            self._transactions.request(self._peer, message, seid, self._clock(), future)
        except PfcpError as e:
            raise PfcpUnreachable(str(e)) from None
        self._flush()
        answer = await future
        if not isinstance(answer, kind):
            raise PfcpRefused(f"{type(answer).__name__} answers {type(message).__name__}")
        if seid is not None and getattr(answer, "cause", None) is Cause.NO_ESTABLISHED_ASSOCIATION:
            # the UPF has given the association up, and its sessions with it (TS 29.244 §6.2.8.2)
            self._dissociated("unknown to the UPF", sessions_lost=True)
        return answer

    # ---- the socket

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if addr[0] != self._config.upf:
            self._counters.inc("n4.foreign_peer")
            return
        for event in self._transactions.receive(data, (str(addr[0]), int(addr[1])), self._clock()):
            self._event(event)
        self._flush()

    def error_received(self, exc: Exception) -> None:
        self._counters.inc("n4.socket_error")  # ICMP: the UPF is not there yet; retransmission goes on

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data, peer in self._transactions.datagrams():
            self._transport.sendto(data, peer)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._transactions.deadline()
        if deadline is not None:
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._advance)

    def _advance(self) -> None:
        self._timer = None
        for event in self._transactions.advance(self._clock()):
            self._event(event)
        self._flush()

    def _event(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._request_in(event)
            case RequestFaulty():
                self._refuse(event.transaction, event.error)
            case ResponseReceived():
                if not event.token.done():
                    event.token.set_result(event.message)
            case RequestTimedOut():
                self._fail(event.token, PfcpUnreachable("the UPF does not answer"))
            case ResponseFaulty():
                self._fail(event.token, PfcpRefused(f"malformed response: {event.error}"))
            case _:
                self._fail(event.token, PfcpRefused("the UPF does not speak our version of PFCP"))

    @staticmethod
    def _fail(future: asyncio.Future[Message], error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    # ---- requests of the UPF

    def _request_in(self, event: RequestReceived) -> None:
        transaction, message = event.transaction, event.message
        try:
            match message:
                case HeartbeatRequest():
                    answer: Message = HeartbeatResponse(recovery_time_stamp=self._recovery)
                    self._recovery_seen(message.recovery_time_stamp)
                case AssociationSetupRequest():
                    answer = self._set_up_by_peer(message)
                case AssociationUpdateRequest():
                    self._require_association()
                    answer = AssociationUpdateResponse(node_id=self._node_id, cause=Cause.ACCEPTED)
                case AssociationReleaseRequest():
                    self._require_association()
                    self._dissociated("released by the UPF", sessions_lost=True)
                    answer = AssociationReleaseResponse(node_id=self._node_id, cause=Cause.ACCEPTED)
                case NodeReportRequest():
                    self._require_association()
                    answer = NodeReportResponse(node_id=self._node_id, cause=Cause.ACCEPTED)
                case SessionReportRequest():
                    self._require_association()
                    self._report(transaction, event.header.seid or 0, message)
                    return
                case _:
                    raise ServiceNotSupported(f"{message.TYPE.name} is not for an SMF")
        except PfcpError as e:
            self._refuse(transaction, e)
            return
        self._respond(transaction, answer, None)

    def _set_up_by_peer(self, message: AssociationSetupRequest) -> Message:
        capability = message.key_capability
        keys = capability is not None and bool(capability.flags & KeyCapabilityFlags.AES_KW_256)
        if self.association is None or self.association.up_recovery != message.recovery_time_stamp:
            self._dissociated("the UPF started again")
            self._associated(message.recovery_time_stamp, message.up_features or frozenset(), keys)
        return AssociationSetupResponse(
            node_id=self._node_id,
            cause=Cause.ACCEPTED,
            recovery_time_stamp=self._recovery,
            key_capability=MpquicKeyCapability(),
        )

    def _require_association(self) -> None:
        if self.association is None:
            raise NoAssociation("no association")

    def _report(self, transaction: Transaction, seid: int, message: SessionReportRequest) -> None:
        if len(self._tasks) >= REPORTS_AT_ONCE:
            self._counters.inc("n4.reports_at_once")
            answer = SessionReportResponse(cause=Cause.CONGESTION)
            self._respond(transaction, answer, 0)
            return
        task = asyncio.get_running_loop().create_task(self._report_answer(transaction, seid, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report_answer(self, transaction: Transaction, seid: int, message: SessionReportRequest) -> None:
        try:
            answer, up_seid = await self._on_report(seid, message)
        except PfcpError as e:
            self._refuse(transaction, e)
        except Exception as e:  # a fault of ours: the UPF is told, the SMF stays up
            self._counters.inc(f"n4.report_fault.{type(e).__name__}")
            self._respond(transaction, SessionReportResponse(cause=Cause.SYSTEM_FAILURE), 0)
        else:
            self._respond(transaction, answer, up_seid)

    def _refuse(self, transaction: Transaction, error: PfcpError) -> None:
        self._counters.inc(f"n4.refused.{error.cause.name.lower()}")
        answer = rejection(transaction.type, error, self._node_id, self._recovery)
        self._respond(transaction, answer, 0 if answer.SESSION else None)

    def _respond(self, transaction: Transaction, answer: Message, seid: int | None) -> None:
        self._transactions.respond(transaction, answer, seid, self._clock())
        self._flush()

    def metrics(self) -> dict[str, int]:
        return dict(self._transactions.counters)

"""A scripted UPF: answers PFCP on a real UDP socket, opens the keys it gets, and can be told to misbehave."""

import asyncio
import os
import time
from ipaddress import IPv4Address

from fiveg.pfcp.codes import Cause, KeyEvent, KeyReason, ProxyType, ReportFlags, ReportType, UpFeature
from fiveg.pfcp.keywrap import N4KeyWrap
from fiveg.pfcp.message import (
    AssociationReleaseRequest,
    AssociationSetupRequest,
    AssociationSetupResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    SessionDeletionRequest,
    SessionDeletionResponse,
    SessionEstablishmentRequest,
    SessionEstablishmentResponse,
    SessionModificationRequest,
    SessionModificationResponse,
    SessionReportRequest,
)
from fiveg.pfcp.mpquic_ies import MpquicKeyCapability, MpquicKeyReport, MpquicKeyRequest
from fiveg.pfcp.rules import AtsssControlParameters, MpquicParameters
from fiveg.pfcp.transaction import RequestReceived, ResponseReceived, Transactions
from fiveg.pfcp.values import FSeid, LinkSpecificAddress, MpquicAddress, NodeId

NODE = NodeId(IPv4Address("127.0.0.20"))
PROXY = MpquicAddress(ProxyType.CONNECT_IP, 4433, IPv4Address("10.100.0.1"))


class ScriptedUpf(asyncio.DatagramProtocol):
    def __init__(self, k_n4: bytes, *, asks_for_keys: bool = True):
        self.k_n4, self.asks_for_keys = k_n4, asks_for_keys
        self.recovery = 3_900_000_000
        self.smf_recovery = None
        self.smf = None
        self.features = frozenset({UpFeature.MPQUIC_IP})
        self.sessions: dict[int, SessionEstablishmentRequest] = {}
        self.keys: dict[int, list[tuple[int, bytes]]] = {}
        self.revoked: list[int] = []
        self.deleted: list[int] = []
        self.report_answers: list = []
        self.establish_cause = Cause.ACCEPTED
        self.key_cause = Cause.ACCEPTED
        self.deletion_cause = Cause.ACCEPTED
        self.silent: set[type] = set()
        self.names_proxy = True
        self.changed = asyncio.Event()
        self._reset(int.from_bytes(os.urandom(3), "big"))
        self._next_seid = 0x0102030405060700

    def _reset(self, sequence):
        self.transactions = Transactions(sequence)

    @classmethod
    async def open(cls, k_n4: bytes, **more) -> "ScriptedUpf":
        loop = asyncio.get_running_loop()
        _, upf = await loop.create_datagram_endpoint(lambda: cls(k_n4, **more), local_addr=("127.0.0.20", 0))
        return upf

    def connection_made(self, transport):
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def close(self):
        self.transport.close()

    def datagram_received(self, data, addr):
        for event in self.transactions.receive(data, addr, time.monotonic()):
            if isinstance(event, RequestReceived):
                self.request(event)
            elif isinstance(event, ResponseReceived):
                self.report_answers.append(event.message)
        self.flush()
        self.changed.set()

    def flush(self):
        for data, peer in self.transactions.datagrams():
            self.transport.sendto(data, peer)

    async def until(self, condition):
        """Wait until something that came makes the condition true; its value."""
        while not (value := condition()):
            self.changed.clear()
            await self.changed.wait()
        return value

    def request(self, event):
        self.smf = event.transaction.peer
        message, seid = event.message, event.header.seid
        if type(message) in self.silent:
            return
        match message:
            case AssociationSetupRequest():
                self.smf_recovery = message.recovery_time_stamp
                answer = AssociationSetupResponse(
                    node_id=NODE, cause=Cause.ACCEPTED, recovery_time_stamp=self.recovery,
                    up_features=self.features, key_capability=MpquicKeyCapability(),
                )  # fmt: skip
                answer_seid = None
            case HeartbeatRequest():
                answer, answer_seid = HeartbeatResponse(recovery_time_stamp=self.recovery), None
            case SessionEstablishmentRequest():
                answer, answer_seid = self.establish(message), message.cp_f_seid.seid
            case SessionModificationRequest():
                answer, answer_seid = self.modify(seid, message)
            case SessionDeletionRequest():
                session = self.sessions.pop(seid, None)
                answer_seid = 0 if session is None else session.cp_f_seid.seid
                self.deleted.append(seid)
                answer = SessionDeletionResponse(cause=self.deletion_cause)
            case _:
                raise AssertionError(message)
        self.transactions.respond(event.transaction, answer, answer_seid, time.monotonic())
        if isinstance(message, SessionEstablishmentRequest) and answer.cause.accepted and self.asks_for_keys:
            self.ask(self._next_seid)

    def establish(self, message):
        if self.establish_cause is not Cause.ACCEPTED:
            return SessionEstablishmentResponse(node_id=NODE, cause=self.establish_cause)
        self._next_seid += 1
        self.sessions[self._next_seid] = message
        self.keys[self._next_seid] = []
        parameters = AtsssControlParameters(
            mpquic=MpquicParameters(addresses=(PROXY,), link_specific=LinkSpecificAddress(ipv4_3gpp=IPv4Address("10.1.0.2")))
        )
        return SessionEstablishmentResponse(
            node_id=NODE, cause=Cause.ACCEPTED, up_f_seid=FSeid(self._next_seid, NODE.value),
            atsss_parameters=parameters if self.names_proxy else None,
        )  # fmt: skip

    def modify(self, seid, message):
        session = self.sessions.get(seid)
        if session is None:
            return SessionModificationResponse(cause=Cause.SESSION_CONTEXT_NOT_FOUND), 0
        key = message.key
        report = None
        if key is not None and not key.wrapped:
            self.revoked.append(key.generation)
        elif key is not None and self.key_cause is Cause.ACCEPTED:
            wrap = N4KeyWrap(self.k_n4, self.smf_recovery, self.recovery, seid)
            self.keys[seid].append((key.generation, wrap.unwrap(key.wrapped, key.generation)))
            report = MpquicKeyReport(KeyEvent.INSTALLED, key.generation)
        return SessionModificationResponse(cause=self.key_cause, key_report=report), session.cp_f_seid.seid

    def ask(self, seid, reason=KeyReason.INITIAL, cp_seid=None):
        held = self.keys[seid][-1][0] if self.keys.get(seid) else 0
        report = SessionReportRequest(report_type=ReportType.UISR, flags=ReportFlags(0), key_request=MpquicKeyRequest(reason, held))
        target = self.sessions[seid].cp_f_seid.seid if cp_seid is None else cp_seid
        self.transactions.request(self.smf, report, target, time.monotonic())
        self.flush()

    def release(self, peer):
        """Gives the association up."""
        self.sessions.clear()
        self.transactions.request(peer, AssociationReleaseRequest(node_id=NODE), None, time.monotonic())
        self.flush()

    def restart(self):
        """As a UPF that knows nothing any more: what it tells the SMF shows by its recovery time stamp."""
        self.recovery += 100
        self.sessions.clear()
        self._reset(1)
        self.transactions.request(
            self.smf,
            AssociationSetupRequest(
                node_id=NODE, recovery_time_stamp=self.recovery, up_features=self.features,
                key_capability=MpquicKeyCapability(),
            ),
            None,
            time.monotonic(),
        )  # fmt: skip
        self.flush()

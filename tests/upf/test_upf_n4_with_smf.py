"""N4 as it runs: the SMF's N4 and session rules against the UPF's agent, over UDP in a namespace of their own.

SMF 10.90.0.11 ── lo ── 10.90.0.20 UPF
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from upf_rig import K_N4, KEY, UP_RECOVERY, Recorder, config

from control.smf.config import ModeConfig, N4Config, PoolConfig, RuleConfig, SmfConfig
from control.smf.n4 import N4 as SmfN4
from control.smf.n4_rules import establishment
from control.smf.pool import SessionAddress
from fiveg.pfcp.codes import Cause, KeyEvent, KeyReason
from fiveg.pfcp.message import (
    SessionDeletionRequest,
    SessionDeletionResponse,
    SessionEstablishmentResponse,
    SessionModificationRequest,
    SessionModificationResponse,
    SessionReportRequest,
    SessionReportResponse,
)
from fiveg.pfcp.mpquic_ies import MpquicKey
from fiveg.pfcp.transaction import Transactions
from node.counters import Counters
from node.events import EventList, Events
from node.netns import Netns
from node.secrets import Secret
from upf.n4 import N4 as UpfN4
from upf.pfcp_agent import PfcpAgent

RULES = (
    RuleConfig(1, 10, "MPQUIC_IP", ModeConfig("ACTIVE_STANDBY", None, "3GPP_ACCESS", "NON_3GPP_ACCESS"), {"port": 53}),
    RuleConfig(2, 200, "MPQUIC_IP", ModeConfig("LOAD_BALANCING", 30)),
)
CP_SEID = 77


class Pair:
    def __init__(self) -> None:
        self.datapath, self.events = Recorder(), EventList()
        self.reports: asyncio.Queue[SessionReportRequest] = asyncio.Queue()
        transactions = Transactions(1)
        self.counters = Counters()
        self.agent = PfcpAgent(
            config(), Secret(K_N4), UP_RECOVERY, transactions, self.datapath, Events(self.events), self.counters, os.urandom
        )
        self._transactions = transactions
        self.n4_config = N4Config("10.90.0.11", 8805, "10.90.0.20", 8805, Path("unused"))
        self.smf = SmfN4(self.n4_config, Secret(K_N4), Counters(), Events(EventList()), self._report, lambda: None, os.urandom)

    async def _report(self, seid: int, report: SessionReportRequest) -> tuple[SessionReportResponse, int]:
        assert seid == CP_SEID
        self.reports.put_nowait(report)
        return SessionReportResponse(cause=Cause.ACCEPTED), next(iter(self.agent.sessions))

    async def run(self, work: Callable[[Pair], Awaitable[None]]) -> None:
        upf = await UpfN4.open(self.agent, self._transactions, Events(self.events), self.counters, "10.90.0.20", 8805)
        await self.smf.open()
        task = asyncio.create_task(self.smf.run())
        try:
            async with asyncio.timeout(30):
                await self.smf.associated()
                await work(self)
        finally:
            task.cancel()
            await self.smf.close()
            upf.close()


def run(work: Callable[[Pair], Awaitable[None]]) -> None:
    with Netns() as netns:

        def inside() -> None:
            for address in ("10.90.0.11", "10.90.0.20"):
                netns.ipr.addr("add", index=1, address=address, prefixlen=32)

        netns.call_sync(inside)
        netns.call_sync(lambda: asyncio.run(Pair().run(work)))


def smf_config(pair: Pair) -> SmfConfig:
    unused: object = None
    return SmfConfig(
        node="smf",
        sbi=unused,  # type: ignore[arg-type]
        amf=unused,  # type: ignore[arg-type]
        n4=pair.n4_config,
        ue_pool=PoolConfig("10.45.0.0/16", "fd45::/48"),
        dnn="internet",
        rules=RULES,
    )


def test_procedure_from_association_to_key() -> None:
    async def work(pair: Pair) -> None:
        smf = pair.smf
        address = SessionAddress(IPv4Address("10.45.0.2"), IPv6Address("fd45:0:0:2::1"), 2)
        request = establishment(smf_config(pair), address, smf.node_id, smf.f_seid(CP_SEID))
        answer = await smf.request(request, 0, SessionEstablishmentResponse)
        assert answer.cause is Cause.ACCEPTED and answer.up_f_seid is not None
        seid = answer.up_f_seid.seid
        standby, balancing = pair.datapath.sessions[seid]
        assert (standby.active, standby.standby, standby.match.port) == ("3gpp", "non-3gpp", (53, 53))
        assert balancing.weights == {"3gpp": 30, "non-3gpp": 70}

        report = await pair.reports.get()
        assert report.key_request is not None and report.key_request.reason is KeyReason.INITIAL
        key = MpquicKey(1, 3600, bytes(8), smf.key_wrap(seid).wrap(KEY, 1))
        delivered = await smf.request(SessionModificationRequest(key=key), seid, SessionModificationResponse)
        assert delivered.cause is Cause.ACCEPTED
        assert delivered.key_report is not None and delivered.key_report.event is KeyEvent.INSTALLED
        slot = pair.agent.sessions[seid].keys.next
        assert slot is not None and slot.key.reveal() == KEY

        again = await smf.request(SessionModificationRequest(key=key), seid, SessionModificationResponse)
        assert again.cause is Cause.MANDATORY_IE_INCORRECT
        gone = await smf.request(SessionDeletionRequest(), seid, SessionDeletionResponse)
        assert gone.cause is Cause.ACCEPTED and pair.agent.sessions == {}

    run(work)

"""N4 of the SMF over UDP on loopback against a scripted UPF: association, heartbeat, restart, refusals, silence."""

import asyncio
import os

import pytest
from upf_script import ScriptedUpf

from control.errors import PfcpRefused, PfcpUnreachable
from control.smf.config import N4Config
from control.smf.n4 import N4
from fiveg.pfcp.codes import Cause
from fiveg.pfcp.errors import SessionNotFound
from fiveg.pfcp.message import (
    AssociationSetupRequest,
    HeartbeatRequest,
    HeartbeatResponse,
    SessionDeletionRequest,
    SessionDeletionResponse,
    SessionReportResponse,
)
from node.counters import Counters
from node.events import EventList, Events
from node.secrets import Secret

K_N4 = bytes([0x11] * 32)


class Bench:
    async def __aenter__(self):
        self.upf = await ScriptedUpf.open(K_N4)
        self.sink, self.counters = EventList(), Counters()
        self.reports, self.restarts = [], []
        config = N4Config("127.0.0.11", 0, "127.0.0.20", self.upf.port, "unused")
        self.n4 = N4(
            config,
            Secret(K_N4),
            self.counters,
            Events(self.sink),
            self.report,
            lambda: self.restarts.append(1),
            os.urandom,
        )
        await self.n4.open()
        self.task = asyncio.create_task(self.n4.run())
        return self

    async def report(self, seid, report):
        self.reports.append((seid, report))
        if seid != 77:
            raise SessionNotFound("no such session")
        return SessionReportResponse(cause=Cause.ACCEPTED), 5

    async def __aexit__(self, *_):
        self.task.cancel()
        await self.n4.close()
        self.upf.close()


def run(work):
    async def limited():
        async with asyncio.timeout(30), Bench() as bench:
            await work(bench)

    asyncio.run(limited())


def test_association_and_heartbeat():
    async def main(b):
        association = await b.n4.associated()
        assert association.carries_mpquic and association.up_recovery == b.upf.recovery
        assert b.upf.smf_recovery == b.n4.recovery
        assert b.sink.of("association_up") == [{"peer": "127.0.0.20", "keys": True}]
        answer = await b.n4.request(HeartbeatRequest(recovery_time_stamp=1), None, HeartbeatResponse)
        assert answer.recovery_time_stamp == b.upf.recovery

    run(main)


def test_a_upf_without_keys_carries_no_mpquic():
    async def main(b):
        b.upf.features = frozenset()
        assert not (await b.n4.associated()).carries_mpquic

    run(main)


def test_no_session_request_without_association():
    async def main(b):
        b.upf.silent = {AssociationSetupRequest}
        with pytest.raises(PfcpUnreachable):
            await b.n4.request(SessionDeletionRequest(), 5, SessionDeletionResponse)

    run(main)


def test_silence_is_unreachable_after_the_retransmissions():
    async def main(b):
        await b.n4.associated()
        b.upf.silent = {SessionDeletionRequest}
        with pytest.raises(PfcpUnreachable):
            await b.n4.request(SessionDeletionRequest(), 5, SessionDeletionResponse)
        assert b.n4.metrics()["requests_retransmitted"] == 3

    run(main)


def test_a_upf_that_starts_again_is_noticed():
    async def main(b):
        await b.n4.associated()
        b.upf.restart()
        await b.upf.until(lambda: b.restarts)
        assert b.n4.association.up_recovery == b.upf.recovery
        assert b.counters.get("n4.upf_restarted") == 1

    run(main)


def test_reports_reach_the_session_and_unknown_ones_are_refused():
    async def main(b):
        await b.n4.associated()
        for seid in (77, 78):
            b.upf.keys, b.upf.sessions = {1: []}, {}
            b.upf.smf = await b.upf.until(lambda: b.upf.smf)
            b.upf.ask(1, cp_seid=seid)
        await b.upf.until(lambda: len(b.upf.report_answers) == 2)
        assert [a.cause for a in b.upf.report_answers] == [Cause.ACCEPTED, Cause.SESSION_CONTEXT_NOT_FOUND]

    run(main)


def test_datagrams_of_others_and_junk_change_nothing():
    async def main(b):
        await b.n4.associated()
        loop = asyncio.get_running_loop()
        target = b.upf.smf
        foreign, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.66", 0))
        foreign.sendto(bytes.fromhex("20050000"), target)
        for junk in (b"", b"\x00", b"\x20\x05\x00\xff", b"\x20\x05\x00\x04\x00\x00\x01\x00", os.urandom(300)):
            b.upf.transport.sendto(junk, target)
        answer = await b.n4.request(HeartbeatRequest(recovery_time_stamp=1), None, HeartbeatResponse)
        assert answer.recovery_time_stamp == b.upf.recovery
        assert b.counters.get("n4.foreign_peer") == 1
        assert b.counters.get("n4.refused.mandatory_ie_missing") == 1
        foreign.close()

    run(main)


def test_an_answer_of_another_kind_is_refused():
    async def main(b):
        await b.n4.associated()
        with pytest.raises(PfcpRefused):
            await b.n4.request(HeartbeatRequest(recovery_time_stamp=1), None, SessionDeletionResponse)

    run(main)


def test_an_association_that_is_gone_before_its_waiter_runs():
    """Set-up and release in one go: the waiter waits on."""

    async def main(b):
        association = await b.n4.associated()
        b.n4._dissociated("for this test")
        waiting = asyncio.create_task(b.n4.associated())
        await asyncio.sleep(0)
        b.n4._associated(association.up_recovery, association.features, True)
        b.n4._dissociated("at once")
        await asyncio.sleep(0)
        assert not waiting.done()
        assert (await waiting).up_recovery == association.up_recovery  # the SMF sets it up again

    run(main)


@pytest.mark.parametrize("how", ["released", "no association", "heartbeat lost"])
def test_sessions_that_a_upf_lost_without_a_restart(how):
    """R-88: it gave the association up, and its sessions with it. A lost heartbeat alone says nothing of its sessions."""

    async def main(b):
        before = await b.n4.associated()
        if how == "released":
            b.upf.release(b.upf.smf)
        elif how == "no association":
            b.upf.deletion_cause = Cause.NO_ESTABLISHED_ASSOCIATION
            await b.n4.request(SessionDeletionRequest(), 5, SessionDeletionResponse)
        else:
            b.n4._dissociated("no heartbeat")
        while b.n4.association is None or b.n4.association is before:  # noqa: ASYNC110  (another task's state)
            await asyncio.sleep(0.005)
        lost = how != "heartbeat lost"
        assert b.restarts == [1] * lost and (b.n4.association.era != before.era) is lost
        assert b.counters.get("n4.upf_restarted") == 0

    run(main)

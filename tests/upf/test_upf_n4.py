"""The N4 socket when our own code fails: the node stays up, its timers run, the fault has a name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from upf_rig import SMF, Rig

from node.events import Events
from upf.n4 import N4


class Transport:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def sendto(self, data: bytes, peer: Any) -> None:
        self.sent.append((data, peer))

    def close(self) -> None: ...


@pytest.mark.parametrize("where", ["receive", "advance"])
def test_a_fault_of_ours_is_named_and_the_timers_go_on(where: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.establish()
        n4 = N4(rig.agent, rig.transactions, Events(rig.events), rig.counters, lambda: rig.now)
        n4.connection_made(Transport())

        def fail(*_: object) -> None:
            raise RuntimeError("a fault, and what it says: 000102030405060708090a0b0c0d0e0f")

        setattr(rig.agent, where, fail)
        if where == "receive":
            n4.datagram_received(b"\x20\x01\x00\x0c", SMF)
        else:
            n4._advance()
        assert rig.counters.get("n4.internal_error") == 1
        assert rig.events.of("n4_internal_error") == [{"what": where, "error": "RuntimeError"}]
        assert n4._timer is not None  # or no heartbeat, no retransmission would ever come again
        n4.close()

    asyncio.run(main())

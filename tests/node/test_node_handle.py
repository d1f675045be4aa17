"""The supervisor's end of a node: a request that is cancelled is cancelled, whatever comes at the same moment."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from node.handle import NodeHandle


def test_a_cancellation_that_comes_with_the_answer_is_not_lost() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        handle = NodeHandle("test", ours)
        task = asyncio.create_task(handle.request("status"))
        await asyncio.sleep(0)
        number = json.loads(theirs.recv(1000))["id"]
        handle._line({"id": number, "ok": True, "result": {}}, [])  # the answer, and before the task sees it:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        handle.close()
        theirs.close()

    asyncio.run(main())

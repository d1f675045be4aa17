"""The node's end of the control channel, alone: what a supervisor sends that it should not, and what cannot be told to it."""

import asyncio
import json
import os
import socket

import pytest

from node.control import ControlChannel
from node.errors import NodeError, VerbError
from node.main import _stopped


def run(work):
    async def limited():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs.settimeout(5)
        async with asyncio.timeout(10):
            channel = ControlChannel(ours)
            try:
                await work(channel, theirs)
            finally:
                channel.close()
                theirs.close()

    asyncio.run(limited())


async def answer(theirs):
    return json.loads(await asyncio.get_running_loop().run_in_executor(None, theirs.recv, 4096))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_descriptor_that_nobody_asked_for_is_closed():
    async def main(channel, theirs):
        async def ask(args):
            return {}

        channel.verb("ask", ask)
        await answer_to(theirs, {"id": 1, "verb": "ask"})
        before = descriptors()
        line = json.dumps({"id": 2, "verb": "ask", "netns": {}}).encode() + b"\n"
        fd = os.open("/dev/null", os.O_RDONLY)
        socket.send_fds(theirs, [line], [fd])
        os.close(fd)
        assert (await answer(theirs))["ok"] is True
        assert descriptors() == before and channel.counters.get("control.descriptor_unasked") == 1

    async def answer_to(theirs, message):
        theirs.sendall(json.dumps(message).encode() + b"\n")
        return await answer(theirs)

    run(main)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "x" * (2 << 20)])
def test_an_event_that_cannot_be_told_does_not_stop_the_node(value):
    async def main(channel, theirs):
        channel.event("odd", 1.0, {"value": value})
        channel.event("next", 2.0, {})
        assert (await answer(theirs))["event"] == "next"
        assert channel.counters.get("control.events_lost") == 1

    run(main)


def test_the_text_of_a_fault_is_not_told():
    """A KeyError's text is the key that was looked for: it may be one of ours."""

    async def main(channel, theirs):
        key = b"\xab" * 32

        async def faulty(args):
            return {}[key]

        async def refused(args):
            raise VerbError("no", "a sentence of ours")

        channel.verb("faulty", faulty)
        channel.verb("refused", refused)
        theirs.sendall(b'{"id":1,"verb":"faulty"}\n')
        text = str(await answer(theirs))
        assert "KeyError at test_node_control.py:" in text and "xab" not in text
        theirs.sendall(b'{"id":2,"verb":"refused"}\n')
        assert (await answer(theirs))["error"] == "a sentence of ours"

    run(main)


def test_an_end_that_takes_too_long_is_named(monkeypatch):
    class Stuck:
        async def stop(self):
            await asyncio.sleep(60)

    monkeypatch.setattr("node.main.STOP_LIMIT", 0.05)
    with pytest.raises(NodeError, match="clean end took more than"):
        asyncio.run(_stopped(Stuck()))

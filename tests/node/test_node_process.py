"""The control channel from both ends: a real process, real signals."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import ControlError, VerbError
from node.handle import NodeHandle
from node.netns import Netns

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent.parent}"}


class Watch:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict]] = []
        self.netns: list[tuple[dict, int]] = []

    def on_event(self, name, t, fields):
        self.events.append((name, fields))

    def on_netns(self, info, fd):
        self.netns.append((info, fd))


async def start(tmp_path, watch=None, behave="", netns=None, config=None) -> NodeHandle:
    path = tmp_path / "node.json"
    path.write_text(json.dumps({"node": "test", "behave": behave} if config is None else config))
    watch = watch or Watch()
    with (tmp_path / "stderr").open("wb") as err:
        return await NodeHandle.spawn(
            "test", "node_for_tests", path, netns=netns, on_event=watch.on_event, on_netns=watch.on_netns,
            stderr=err, environment=ENVIRONMENT,
        )  # fmt: skip


def test_a_life(tmp_path):
    async def main():
        watch = Watch()
        node = await start(tmp_path, watch, behave="well")
        await node.ready(20)
        assert await node.request("status") == {"behave": "well"}
        assert await node.request("metrics") == {"counters": {}, "n": 1}
        big = {"text": "x" * 300_000, "n": [1, 2, 3]}
        assert await node.request("echo", big) == big
        many = await asyncio.gather(*(node.request("echo", {"i": i}) for i in range(50)))
        assert many == [{"i": i} for i in range(50)]
        with pytest.raises(VerbError, match="this is refused") as e:
            await node.request("refuse")
        assert e.value.code == "no_way"
        with pytest.raises(VerbError, match="no verb 'nonsense'"):
            await node.request("nonsense")
        with pytest.raises(VerbError, match="fault failed: KeyError"):
            await node.request("fault")
        assert (await node.request("metrics"))["counters"] == {"control.verb_failed": 1}
        info, fd = watch.netns.pop()
        assert info == {"access": "3gpp", "devices": ["wire"]}
        with Netns.open(fd) as ns:
            assert ns.call_sync(lambda: len(list(ns.ipr.get_links()))) == 1
        os.close(fd)
        assert await node.stop() == 0
        assert watch.events == [("started", {"behave": "well"}), ("stopped", {})]
        with pytest.raises(ControlError):
            await node.request("status")

    asyncio.run(main())


def test_it_runs_in_the_namespace_it_is_given(tmp_path):
    async def main():
        with Netns() as ns:
            node = await start(tmp_path, netns=ns)
            await node.ready(20)
            assert os.stat(f"/proc/{node.process.pid}/ns/net").st_ino == os.fstat(ns.fd).st_ino
            assert await node.stop() == 0

    asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path, number):
    async def main():
        watch = Watch()
        node = await start(tmp_path, watch)
        await node.ready(20)
        hanging = asyncio.create_task(node.request("hang"))
        await node.request("status")
        node.process.send_signal(number)
        assert await asyncio.wait_for(node.exited, 10) == 0
        with pytest.raises((ControlError, VerbError)):
            await hanging
        assert watch.events[-1] == ("stopped", {})
        node.close()

    asyncio.run(main())


def test_it_ends_when_the_channel_closes(tmp_path):
    async def main():
        node = await start(tmp_path)
        await node.ready(20)
        node.close()
        assert await asyncio.wait_for(node.exited, 10) == 0

    asyncio.run(main())


def test_it_dies_with_a_supervisor_that_is_killed(tmp_path):
    path = tmp_path / "node.json"
    path.write_text('{"node":"test"}')
    code = (
        "import asyncio,sys,os\nfrom node.handle import NodeHandle\n"
        "async def main():\n"
        f"    n = await NodeHandle.spawn('t','node_for_tests',{str(path)!r})\n"
        "    await n.ready(20)\n    print(n.process.pid, flush=True)\n    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE)
    pid = int(supervisor.stdout.readline())
    pidfd = os.pidfd_open(pid)
    supervisor.kill()
    supervisor.wait()
    import select

    assert select.select([pidfd], [], [], 10)[0], "the node outlived its supervisor"
    os.close(pidfd)


@pytest.mark.parametrize(
    ("behave", "config", "code", "text"),
    [
        ("bad", None, 2, "behave: nobody can do that"),
        ("", {"node": "test", "x": 1}, 2, "node.json: x: unknown; allowed: behave, node"),
        ("", {"node": 5}, 2, "node.json: node: must be a string"),
    ],
)
def test_bad_configuration_is_a_sentence_and_exit_2(tmp_path, behave, config, code, text):
    async def main():
        node = await start(tmp_path, behave=behave, config=config)
        with pytest.raises(ControlError):
            await node.ready(20)
        assert await asyncio.wait_for(node.exited, 10) == code
        node.close()

    asyncio.run(main())
    stderr = (tmp_path / "stderr").read_text()
    assert text in stderr and "Traceback" not in stderr


def test_a_failing_background_task_ends_it_with_1(tmp_path):
    async def main():
        watch = Watch()
        node = await start(tmp_path, watch)
        await node.ready(20)
        await node.request("die")
        assert await asyncio.wait_for(node.exited, 10) == 1
        assert watch.events[-1] == ("stopped", {})
        node.close()

    asyncio.run(main())
    assert "a background task failed" in (tmp_path / "stderr").read_text()


def test_a_stop_while_it_starts(tmp_path):
    async def main():
        node = await start(tmp_path, behave="never ready")
        with pytest.raises(ControlError, match="not ready"):
            await node.ready(0.01)
        assert await node.stop() == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\n", b"[]\n", b'{"id":1}\n', b'{"id":true,"verb":"x"}\n', b'{"netns":1}\n', b"x" * 1_200_000]
)
def test_junk_on_the_channel_ends_the_node_cleanly(tmp_path, junk):
    path = tmp_path / "node.json"
    path.write_text('{"node":"test"}')
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "node_for_tests", "--config", str(path), "--control-fd", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], env=ENVIRONMENT, stderr=subprocess.PIPE,
    )  # fmt: skip
    theirs.close()
    with contextlib.suppress(OSError):  # it may close before all is written
        ours.sendall(junk)
    assert process.wait(20) == 0
    assert b"Traceback" not in process.stderr.read()
    ours.close()


def test_arguments(tmp_path):
    path = tmp_path / "node.json"
    path.write_text('{"node":"test"}')
    run = [sys.executable, "-m", "node_for_tests"]
    for arguments in ([], ["--config", str(path), "--control-fd", "99"], ["--config", str(path), "--control-fd", "x"]):
        result = subprocess.run(run + arguments, env=ENVIRONMENT, capture_output=True, timeout=20, check=False)
        assert result.returncode == 2 and b"Traceback" not in result.stderr

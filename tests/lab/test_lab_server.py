"""The lab's socket: every line is answered by name, and the lab stays up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError, Misuse
from lab.server import LINE_LIMIT, LabServer


class ScriptedLab:
    """What the server asks of a lab."""

    name = "scripted"

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.sleeping, self.ended = asyncio.Event(), asyncio.Event()

    async def status(self) -> dict[str, Any]:
        return {"lab": self.name}

    def cut(self, access: str, *, link_down: bool = False) -> None:
        if access != "wifi":
            raise Misuse(f"{access}: there is no such access; there are wifi")
        self.done.append(("cut", access, link_down))

    def shape(self, access: str, change: dict[str, Any]) -> None:
        raise RuntimeError("a fault of ours")

    async def rekey(self, by: str) -> dict[str, Any]:
        raise LabError("amf: not registered")

    async def run_command(self, node: str, command: list[str], limit: float) -> dict[str, Any]:
        self.done.append((node, command, limit))
        if command == ["sleep"]:
            try:
                self.sleeping.set()
                await asyncio.sleep(60)
            finally:
                self.ended.set()
        return {"stdout": "", "stderr": "", "code": 0}


Ask = Callable[[bytes], Awaitable[dict[str, Any]]]


def serve(tmp_path: Path, work: Callable[[LabServer, ScriptedLab, Ask], Awaitable[None]]) -> None:
    async def main() -> None:
        lab = ScriptedLab()
        server = LabServer(lab, tmp_path / "socket")  # type: ignore[arg-type]
        await server.start()

        async def ask(line: bytes) -> dict[str, Any]:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(line + b"\n")
            await writer.drain()
            answer: dict[str, Any] = json.loads(await reader.readline())
            writer.close()
            return answer

        await work(server, lab, ask)
        await server.finish()

    asyncio.run(main())


WRONG = [
    (b"", 2), (b"nonsense", 2), (b"[]", 2), (b"{}", 2), (b'{"verb": "dance"}', 2), (b'{"verb": "status", "args": 3}', 2),
    (b'{"verb": "cut", "args": {}}', 2), (b'{"verb": "cut", "args": {"access": "wlan"}}', 2),
    (b'{"verb": "exec", "args": {"node": "ue", "command": []}}', 2),
    (b'{"verb": "exec", "args": {"node": "ue", "command": ["true"], "limit": -1}}', 2),
    (b'{"verb": "shape", "args": {"access": "wifi", "change": {}}}', 2),
    (b'{"verb": "shape", "args": {"access": "wifi", "change": {"rate_mbps": 3}}}', 1),
    (b'{"verb": "shape", "args": {"access": "wifi", "change": {"rate_mbps": -3}}}', 2),
    (b'{"verb": "shape", "args": {"access": "wifi", "change": {"up": 3}}}', 2),
    (b'{"verb": "shape", "args": {"access": "wifi", "change": {"colour": "red"}}}', 2),
    (b'{"verb": "exec", "args": {"node": "ue", "command": ["true"], "limit": 1e999}}', 2),
    (b'{"verb": "exec", "args": {"node": "ue", "command": ["true"], "limit": true}}', 2),
    (b'{"verb": "rekey", "args": {"by": "core"}}', 1), (b"x" * (LINE_LIMIT + 10), 2), (b"\xff\xfe", 2), (b"[" * 100_000, 2),
]


@pytest.mark.parametrize(("line", "code"), WRONG, ids=[str(w[0][:40]) for w in WRONG])
def test_a_wrong_request_has_a_named_answer(tmp_path: Path, line: bytes, code: int) -> None:
    async def work(server: LabServer, lab: ScriptedLab, ask: Ask) -> None:
        answer = await ask(line)
        assert answer["ok"] is False and answer["exit"] == code and answer["error"]
        assert lab.done == []
        assert (await ask(b'{"verb": "status"}'))["result"] == {"lab": "scripted"}

    serve(tmp_path, work)


def test_down_is_answered_when_the_lab_is_down(tmp_path: Path) -> None:
    async def work(server: LabServer, lab: ScriptedLab, ask: Ask) -> None:
        waiting = asyncio.ensure_future(ask(b'{"verb": "down"}'))
        await server.stopping.wait()
        assert not waiting.done()
        await server.finish()
        assert (await waiting)["result"] == {"lab": "scripted", "down": True}

    serve(tmp_path, work)


def test_a_command_ends_when_its_asker_leaves(tmp_path: Path) -> None:
    async def work(server: LabServer, lab: ScriptedLab, ask: Ask) -> None:
        _, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(b'{"verb": "exec", "args": {"node": "ue", "command": ["sleep"]}}\n')
        await writer.drain()
        async with asyncio.timeout(10):
            await lab.sleeping.wait()
            writer.close()
            await lab.ended.wait()
        assert (await ask(b'{"verb": "status"}'))["ok"]

    serve(tmp_path, work)


def test_cut_and_exec_reach_the_lab(tmp_path: Path) -> None:
    async def work(server: LabServer, lab: ScriptedLab, ask: Ask) -> None:
        assert (await ask(b'{"verb": "cut", "args": {"access": "wifi", "link_down": true}}'))["ok"]
        assert (await ask(b'{"verb": "exec", "args": {"node": "ue", "command": ["ip", "a"]}}'))["ok"]
        assert lab.done == [("cut", "wifi", True), ("ue", ["ip", "a"], 60.0)]

    serve(tmp_path, work)

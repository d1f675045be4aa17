"""The socket of a lab: one JSON line asks, one JSON line answers. It lies in the lab's 0700 state directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lab.client import LONGEST_S
from lab.errors import LabError, Misuse
from lab.lab import Lab
from lab.scenario import check_wire
from node.config import strict_json

LINE_LIMIT = 1 << 20
ASKER_SEEN_S = 0.2  # how often a long request looks whether its asker is still there
Handler = Callable[[dict[str, Any]], Awaitable[Any]]


def _text(args: dict[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise Misuse(f"{name}: must be a text")
    return value


class LabServer:
    """`stopping` is set by the verb `down`; its asker is answered when the lab is down (`finish`)."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self._lab = lab
        self._path = path
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self.stopping = asyncio.Event()
        self._handlers: dict[str, Handler] = {
            "status": self._status,
            "top": self._top,
            "down": self._down,
            "exec": self._exec,
            "cut": self._cut,
            "restore": self._restore,
            "shape": self._shape,
            "rebind": self._rebind,
            "rekey": self._rekey,
            "craft": self._craft,
            "capture": self._capture,
            "capture_end": self._capture_end,
            "captures": self._captures,
        }

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._client, self._path, limit=LINE_LIMIT)

    async def finish(self) -> None:
        """The lab is down: whoever waits for it hears so."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        if self._server is not None:
            self._server.close()
        for writer in list(self._clients):
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.drain(), 1.0)
        await asyncio.sleep(0)  # the answers above are written by tasks that are only now woken

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await self._line(reader):
                writer.write(json.dumps(await self._while_asked(reader, line)).encode() + b"\n")
                await writer.drain()
        except OSError:  # the asker left
            pass
        except ValueError:  # where its next request begins is not known
            refusal = {"ok": False, "error": f"a request is one line of at most {LINE_LIMIT} octets", "exit": 2}
            with contextlib.suppress(OSError):
                writer.write(json.dumps(refusal).encode() + b"\n")
                await writer.drain()
        finally:
            self._clients.discard(writer)
            writer.close()

    @staticmethod
    async def _line(reader: asyncio.StreamReader) -> bytes:
        """A request; empty when the asker left. ValueError when it is over the limit."""
        line = await reader.readline()
        return line if line.endswith(b"\n") else b""

    async def _while_asked(self, reader: asyncio.StreamReader, line: bytes) -> dict[str, Any]:
        """The answer. When the asker leaves before it (Ctrl-C at `mpq exec`), what it asked for ends."""
        answer = asyncio.ensure_future(self._answer(line))
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=ASKER_SEEN_S)
                if reader.at_eof() and not answer.done():
                    raise ConnectionResetError
            return answer.result()
        finally:
            answer.cancel()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = strict_json(line)
            if not isinstance(request, dict) or not isinstance(request.get("args", {}), dict):
                raise Misuse("a request is an object with verb and args")
            handler = self._handlers.get(str(request.get("verb")))
            if handler is None:
                raise Misuse(f"no verb {str(request.get('verb'))[:40]!r}; there are {', '.join(sorted(self._handlers))}")
            result = await handler(request.get("args", {}))
            return {"ok": True, "result": {} if result is None else result}
        except LabError as error:
            return {"ok": False, "error": str(error), "exit": error.exit_code}
        except ValueError as error:
            return {"ok": False, "error": f"not a request: {error}", "exit": 2}
        except Exception as error:  # a fault of ours: named to the asker, the lab stays up
            return {"ok": False, "error": f"{type(error).__name__}: {error}", "exit": 1}

    async def _status(self, args: dict[str, Any]) -> Any:
        return await self._lab.status()

    async def _top(self, args: dict[str, Any]) -> Any:
        return await self._lab.top()

    async def _down(self, args: dict[str, Any]) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.stopping.set()
        await future
        return {"lab": self._lab.name, "down": True}

    async def _exec(self, args: dict[str, Any]) -> Any:
        command = args.get("command")
        if not isinstance(command, list) or not command or not all(isinstance(c, str) for c in command):
            raise Misuse("exec takes a command")
        limit = args.get("limit", 60.0)
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= LONGEST_S:
            raise Misuse(f"limit: must be a number of seconds above 0, at most {LONGEST_S:g}")
        return await self._lab.run_command(_text(args, "node"), command, float(limit))

    async def _cut(self, args: dict[str, Any]) -> Any:
        self._lab.cut(_text(args, "access"), link_down=args.get("link_down") is True)
        return {"access": args["access"], "state": "cut"}

    async def _restore(self, args: dict[str, Any]) -> Any:
        self._lab.restore(_text(args, "access"))
        return {"access": args["access"], "state": "restored"}

    async def _shape(self, args: dict[str, Any]) -> Any:
        change = args.get("change")
        if not isinstance(change, dict) or not change:
            raise Misuse("change: must say what to change")
        change = check_wire(change)
        self._lab.shape(_text(args, "access"), change)
        return {"access": args["access"], "change": change}

    async def _rebind(self, args: dict[str, Any]) -> Any:
        return {"access": args.get("access"), "state": "rebound", "port": self._lab.rebind(_text(args, "access"))}

    async def _rekey(self, args: dict[str, Any]) -> Any:
        return await self._lab.rekey(_text(args, "by"))

    async def _craft(self, args: dict[str, Any]) -> Any:
        return await self._lab.craft(_text(args, "attack"), canary=args.get("canary") is True)

    async def _capture(self, args: dict[str, Any]) -> Any:
        """Answered when the capture is over: at a limit, by `capture_end`, with the lab. When its asker leaves, it is over, too."""
        return await self._lab.live_capture(args)

    async def _capture_end(self, args: dict[str, Any]) -> Any:
        name = _text(args, "name")
        self._lab.captures.end(name)
        return {"name": name}

    async def _captures(self, args: dict[str, Any]) -> Any:
        return self._lab.captures.status()

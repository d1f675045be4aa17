"""The process that `mpq up` leaves: one lab and its socket (`python -m lab.supervisor`). The lab ends with it, however it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.lab import Lab
from lab.scenario import load
from lab.server import LabServer
from lab.state import StateDir
from lab.topology import NODES
from node.errors import NodeError


def _say(fd: int, document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError), os.fdopen(fd, "w") as pipe:
        pipe.write(json.dumps(document) + "\n")


async def _main(options: argparse.Namespace) -> int:
    state = StateDir(options.lab)
    scenario = load(Path(options.scenario))
    lab = Lab(options.lab, scenario, state.path, Path(options.run_dir), named=options.named, keys=options.keys)
    if options.named:
        state.will_show([f"{options.lab}-{name}" for name in (*NODES, "wires")])
    server = LabServer(lab, state.socket)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopping.set)
    try:
        try:
            up, stop = asyncio.ensure_future(lab.up()), asyncio.ensure_future(server.stopping.wait())
            await asyncio.wait([up, stop], return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                up.cancel()
                await asyncio.wait([up])
                raise LabError("ended while it was brought up")
            up.result()
            await server.start()
        except (LabError, NodeError, OSError) as error:
            stop.cancel()
            _say(options.ready_fd, {"ok": False, "error": str(error)})
            return 1
        _say(options.ready_fd, {"ok": True, "seconds": round(lab.now(), 2)})
        await stop
    finally:
        await lab.down()
        await server.finish()
        state.remove()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--lab", "--scenario", "--run-dir"):
        parser.add_argument(name, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    for name in ("--named", "--keys"):
        parser.add_argument(name, action="store_true")
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())

"""Kernel MPTCP over the two links of a line, end to end: no tunnel, no cryptography, no process between. What the applications
would get who speak it themselves; it carries TCP only."""

from __future__ import annotations

import subprocess

from lab.bench.pair import CLIENT, OUTER, SERVER, BenchError, Line

COMMAND_S = 10


class MptcpPair:
    """The path manager of both ends set so that each connection to OUTER[0][SERVER] takes both links."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._ip(SERVER, "limits", "set", "subflows", "2", "add_addr_accepted", "2")
        self._ip(CLIENT, "limits", "set", "subflows", "2", "add_addr_accepted", "2")
        self._ip(SERVER, "endpoint", "flush")
        self._ip(SERVER, "endpoint", "add", OUTER[1][SERVER], "dev", "line1", "signal")

    def _ip(self, side: int, *arguments: str) -> None:
        done = self.line.spaces[side].call_sync(
            lambda: subprocess.run(["ip", "mptcp", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
        )
        if done.returncode != 0:
            raise BenchError(f"ip mptcp {' '.join(arguments)}: {done.stderr.strip()}")

    def cpu_ns(self) -> int:
        """The work is done in the kernel for iperf3 itself: no CPU time of its own can be told."""
        return 0

    def close(self) -> None:
        self._ip(SERVER, "endpoint", "flush")

"""The established data path needs no Python: with the interpreter stalled for 5 s, packets keep flowing (design §4)."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import threading
import time

from needs import needs_tun

from lab.bench.pair import INNER, EnginePair, Line
from native._engine import lib

STALL_S = 5.0
LONGEST_GAP_S = 2.0
pytestmark = needs_tun


def probe(line: Line, side: int, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lab.probe", *arguments]
    return line.spaces[side].call_sync(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def test_packets_flow_while_the_interpreter_is_stalled() -> None:
    ticks: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.05):
            ticks.append(time.monotonic())

    with Line() as line:
        pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256)
        witness = threading.Thread(target=tick)
        try:
            receiver = probe(line, 1, "receive", "--listen", f"{INNER[1]}:7000", "--duration", str(STALL_S + 2))
            assert receiver.stdout is not None
            assert "ready" in receiver.stdout.readline()
            sender = probe(line, 0, "send", "--to", f"{INNER[1]}:7000", "--duration", str(STALL_S + 1))
            witness.start()
            time.sleep(0.5)
            begin = time.monotonic()
            ctypes.PyDLL(None).usleep(int(STALL_S * 1e6))  # a call that keeps the interpreter's lock
            end = time.monotonic()
            sent = json.loads(sender.communicate(timeout=30)[0].splitlines()[-1])["sent"]
            flow = json.loads(receiver.communicate(timeout=30)[0].splitlines()[-1])["flows"]["0"]
        finally:
            ended.set()
            if witness.ident is not None:
                witness.join()
            pair.close()
    assert end - begin >= STALL_S
    assert len([t for t in ticks if begin + 0.2 < t < end - 0.2]) <= 1  # canary: no other Python thread ran
    assert flow["received"] > 0.9 * sent
    assert not [gap for gap in flow["gaps"] if gap[1] - gap[0] > LONGEST_GAP_S]

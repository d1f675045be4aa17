"""Datagrams that are nothing, in a tight stream, on a real socket (bars R-18)."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

from needs import needs_tun

from lab.bench.pair import CLIENT, INNER, SERVER, EnginePair, Line, only
from native import lib

pytestmark = needs_tun
SECONDS = 1.5
GAP_MOST = 0.25  # of a probe every 5 ms, on a machine that has other work


class Stranger:
    """Sends empty datagrams and such of one octet to an open path, as fast as one thread can."""

    def __init__(self, line: Line) -> None:
        self.sent = 0
        self._socket = line.spaces[CLIENT].call_sync(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(line.sockets[SERVER][0].getsockname())
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            for _ in range(64):
                with contextlib.suppress(OSError):
                    self.sent += self._socket.send(b"" if self.sent % 2 else b"@") >= 0

    def __enter__(self) -> Stranger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()


def longest_gap(line: Line) -> tuple[float, int]:
    """Of a probe from the client's TUN to the server's for SECONDS: seconds between arrivals, and how many arrived."""
    near, far = (
        line.spaces[side].call_sync(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) for side in (CLIENT, SERVER)
    )
    with near, far:
        near.bind((INNER[CLIENT], 0))
        far.bind((INNER[SERVER], 6100))
        start = last = time.monotonic()
        gap, count, following = 0.0, 0, start
        while (now := time.monotonic()) < start + SECONDS:
            if now >= following:
                near.sendto(b"probe", far.getsockname())
                following += 0.005
            if select.select([far], [], [], max(0.0, following - time.monotonic()))[0]:
                far.recv(100)
                now, count = time.monotonic(), count + 1
                gap, last = max(gap, now - last), now
        return max(gap, time.monotonic() - last), count


def test_a_tight_stream_of_empty_datagrams_holds_nothing_up() -> None:
    """R-18: the other socket of the same thread, its TUN and its timers go on; every datagram that came is counted."""
    with Line(2) as line:
        pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256, rule=only(1))
        try:
            server = pair.sides[SERVER]
            before = server.counters()
            with Stranger(line) as stranger:
                gap, count = longest_gap(line)
            after = server.counters()
            assert gap < GAP_MOST, f"{gap:.3f} s with {stranger.sent} datagrams"
            assert count > SECONDS / 0.005 / 2
            short = after["datagram_short"] - before.get("datagram_short", 0)
            assert short > 5_000 and short <= stranger.sent
            refused = {name for name in ("auth_failed", "cid_unknown") if after.get(name, 0) > before.get(name, 0)}
            assert not refused
        finally:
            pair.close()

"""Bulk data over kernel MPTCP (RFC 8684): `python -m lab.mptcp_flow serve|connect`. One end sends for a time, the other one counts
what came after the first `--omit` seconds and prints it as one JSON document, as iperf3's receiver does."""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time

CHUNK = 1 << 17
MPTCP_INFO, SOL_MPTCP = 1, 284  # linux/mptcp.h
FALLBACK = 1  # MPTCP_INFO_FLAG_FALLBACK
INFO_FLAGS = slice(8, 12)  # of struct mptcp_info
CONNECT_S = 5.0


def make() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def fallen_back(sock: socket.socket) -> bool:
    """The peer, or something between, does not speak MPTCP: RFC 8684 §3.7."""
    try:
        info = sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 128)
    except OSError:
        return True  # on a socket that became plain TCP there is nothing to ask
    return bool(int.from_bytes(info[INFO_FLAGS], sys.byteorder) & FALLBACK)


def send(sock: socket.socket, until: float) -> None:
    block = bytes(CHUNK)
    sock.settimeout(CONNECT_S)
    try:
        while time.monotonic() < until:
            sock.send(block)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(CHUNK):  # the receiver ends it
            pass
    except OSError:
        pass  # the receiver tells what came


def receive(sock: socket.socket, start: float, end: float, counts: list[int]) -> None:
    sock.settimeout(CONNECT_S)
    try:
        while True:
            data = sock.recv(CHUNK)
            now = time.monotonic()
            if not data or now >= end:
                return
            if now >= start:
                counts[0] += len(data)
    except OSError:
        return


def run(socks: list[socket.socket], sending: bool, seconds: float, omit: float) -> dict[str, object]:
    begin = time.monotonic()
    fallback = any(fallen_back(sock) for sock in socks)
    counts = [[0] for _ in socks]
    threads = []
    for sock, count in zip(socks, counts, strict=True):
        if sending:
            threads.append(threading.Thread(target=send, args=(sock, begin + seconds)))
        else:
            threads.append(threading.Thread(target=receive, args=(sock, begin + omit, begin + seconds, count)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sock in socks:
        sock.close()
    return {"octets": sum(c[0] for c in counts), "seconds": seconds - omit, "fallback": fallback}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.mptcp_flow", description=__doc__)
    parser.add_argument("role", choices=["serve", "connect"])
    parser.add_argument("--at", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--source", default="")
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--omit", type=float, default=0.0)
    parser.add_argument("--send", action="store_true")
    arguments = parser.parse_args(argv)
    host, _, port = arguments.at.rpartition(":")
    socks: list[socket.socket] = []
    try:
        if arguments.role == "serve":
            listener = make()  # open to the end: further subflows join through it
            listener.bind((host, int(port)))
            listener.listen(arguments.flows)
            listener.settimeout(CONNECT_S)
            print(json.dumps({"ready": True}), flush=True)
            socks = [listener.accept()[0] for _ in range(arguments.flows)]
        else:
            for _ in range(arguments.flows):
                sock = make()
                socks.append(sock)
                sock.settimeout(CONNECT_S)
                sock.bind((arguments.source, 0))
                sock.connect((host, int(port)))
    except OSError as error:
        print(json.dumps({"error": f"MPTCP: {error.strerror or error}"}), flush=True)
        return 1
    print(json.dumps(run(socks, arguments.send, arguments.seconds, arguments.omit)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A random file over HTTP/1.1: `python -m lab.http_file serve|fetch`; both ends print its SHA-256. `page` fetches many small pieces
of it, as a browser does a page: one first, then the others over six connections, each of which stays open."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import http.server
import json
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor

CHUNK = 1 << 16
CONNECTIONS = 6  # of a browser to one server
SIZES = (2_000, 4_000, 8_000, 12_000, 20_000, 40_000, 90_000)  # octets, by turns: most are small, most octets are in the large ones


def serve(address: str, port: int, octets: int) -> int:
    """Serves one random file until killed. First line of output: its hash."""
    content = secrets.token_bytes(octets)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.path.lstrip("/")
            body = content[:int(asked)] if asked.isdecimal() and len(asked) < 12 else content
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((address, port), Handler) as server:
        print(json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "octets": octets}), flush=True)
        server.serve_forever()
    return 0


def fetch(address: str, port: int, limit: float) -> int:
    digest, octets = hashlib.sha256(), 0
    start = time.monotonic()
    connection = http.client.HTTPConnection(address, port, timeout=limit)
    try:
        connection.request("GET", "/file")
        response = connection.getresponse()
        while data := response.read(CHUNK):
            digest.update(data)
            octets += len(data)
    except (OSError, http.client.HTTPException) as error:
        print(json.dumps({"error": str(error), "octets": octets}), flush=True)
        return 1
    seconds = time.monotonic() - start
    print(json.dumps({"sha256": digest.hexdigest(), "octets": octets, "seconds": seconds}), flush=True)
    return 0


def _pieces(address: str, port: int, limit: float, sizes: list[int]) -> int:
    """These pieces, one after the other over one connection; their octets."""
    connection = http.client.HTTPConnection(address, port, timeout=limit)
    try:
        octets = 0
        for size in sizes:
            connection.request("GET", f"/{size}")
            octets += len(connection.getresponse().read())
        return octets
    finally:
        connection.close()


def page(address: str, port: int, limit: float, objects: int, seconds: float) -> int:
    """Pages, one after the other, for so long; prints how long each took."""
    sizes = [SIZES[i % len(SIZES)] for i in range(objects)]
    loads: list[float] = []
    octets, begin = 0, time.monotonic()
    try:
        with ThreadPoolExecutor(CONNECTIONS) as browser:
            while not loads or time.monotonic() - begin < seconds:
                start = time.monotonic()
                octets += _pieces(address, port, limit, sizes[:1])
                parts = [sizes[1 + i::CONNECTIONS] for i in range(CONNECTIONS)]
                octets += sum(browser.map(lambda part: _pieces(address, port, limit, part), parts))
                loads.append(time.monotonic() - start)
    except (OSError, http.client.HTTPException) as error:
        print(json.dumps({"error": str(error), "octets": octets}), flush=True)
        return 1
    print(json.dumps({"loads_s": loads, "octets": octets, "seconds": time.monotonic() - begin}), flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.http_file", description=__doc__)
    parser.add_argument("role", choices=["serve", "fetch", "page"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--octets", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=30.0)
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args(argv)
    if arguments.role == "serve":
        return serve(arguments.address, arguments.port, arguments.octets)
    if arguments.role == "page":
        return page(arguments.address, arguments.port, arguments.limit, arguments.objects, arguments.seconds)
    return fetch(arguments.address, arguments.port, arguments.limit)


if __name__ == "__main__":
    sys.exit(main())

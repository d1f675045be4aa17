"""A random file over HTTP/1.1: `python -m lab.http_file serve|fetch`. Both ends print its SHA-256."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import http.server
import json
import secrets
import sys
import time

CHUNK = 1 << 16


def serve(address: str, port: int, octets: int) -> int:
    """Serves one random file until killed. First line of output: its hash."""
    content = secrets.token_bytes(octets)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            self.wfile.write(content)

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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.http_file", description=__doc__)
    parser.add_argument("role", choices=["serve", "fetch"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--octets", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=30.0)
    arguments = parser.parse_args(argv)
    if arguments.role == "serve":
        return serve(arguments.address, arguments.port, arguments.octets)
    return fetch(arguments.address, arguments.port, arguments.limit)


if __name__ == "__main__":
    sys.exit(main())

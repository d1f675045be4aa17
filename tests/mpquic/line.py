"""Two mpquic endpoints on a line in memory, and a key that both know."""

from __future__ import annotations

from lab.bench.memory_line import KEY, MILLISECOND, Line, client_of
from lab.bench.memory_line import SERVER_ADDRESS as SERVER
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.psk import Psk

IDENTITY = b"mpquic-kat-1"


def psk(key: bytes = KEY, identity: bytes = IDENTITY) -> Psk:
    return Psk(key, identity)


def make_line(server: EndpointConfig, **options: object) -> Line:
    client = Endpoint(EndpointConfig(role="client", random_seed=11))
    return Line(client, Endpoint(server), **options)  # type: ignore[arg-type]


__all__ = ["IDENTITY", "KEY", "MILLISECOND", "SERVER", "Line", "client_of", "make_line", "psk"]

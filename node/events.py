"""Events: what a node did, in names and plain values. Keys never pass: only their fingerprints do."""

from __future__ import annotations

import base64
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from node.errors import SecretLeak
from node.secrets import Secret

SHORTEST_SECRET = 8  # octets: shorter ones would be found by chance in ordinary values


class EventSink(Protocol):
    def __call__(self, name: str, t: float, fields: dict[str, Any]) -> None: ...


class Events:
    """Checks every event and hands it to a sink (the control channel; a list in tests)."""

    __slots__ = ("_clock", "_secrets", "_sink")

    def __init__(self, sink: EventSink, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._secrets: dict[int, weakref.ref[Secret]] = {}

    def register_secret(self, secret: Secret) -> Secret:
        """From now on no event may hold this secret in hex or base64. Forgotten when the secret goes."""
        number = id(secret)

        def forget(_: weakref.ref[Secret]) -> None:
            self._secrets.pop(number, None)

        self._secrets[number] = weakref.ref(secret, forget)
        return secret

    def emit(self, name: str, /, **fields: Any) -> None:
        for key, value in fields.items():
            self._check(f"{name}.{key}", value)
        self._sink(name, self._clock(), fields)

    def _check(self, where: str, value: Any) -> None:
        if value is None or isinstance(value, bool | int | float):
            return
        if isinstance(value, str):
            self._check_text(where, value)
        elif isinstance(value, list | tuple):
            for item in value:
                self._check(where, item)
        elif isinstance(value, dict):
            for key, item in value.items():
                self._check(where, key)
                self._check(where, item)
        else:  # bytes, Secret and everything that JSON does not know
            raise SecretLeak(f"event {where}: a {type(value).__name__} cannot be in an event")

    def _check_text(self, where: str, text: str) -> None:
        if len(text) < SHORTEST_SECRET:
            return
        lower = text.lower()
        for ref in list(self._secrets.values()):
            secret = ref()
            if secret is None or len(secret) < SHORTEST_SECRET or 3 * len(text) < 4 * len(secret):  # too short even for base64
                continue
            data = secret.reveal()
            if data.hex() in lower or base64.b64encode(data).decode().rstrip("=") in text:
                raise SecretLeak(f"event {where}: the value holds a secret")


class EventList:
    """A sink that keeps everything: for tests."""

    def __init__(self) -> None:
        self.items: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, t: float, fields: dict[str, Any]) -> None:
        self.items.append((name, dict(fields)))

    def names(self) -> list[str]:
        return [name for name, _ in self.items]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [fields for n, fields in self.items if n == name]

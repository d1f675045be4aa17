"""Tokens of NEW_TOKEN frames: what a client shows a server that it has spoken with before (RFC 9000 §8.1.3)."""

from __future__ import annotations

from collections import OrderedDict, deque

from mpquic.engine import Remote

SERVERS = 64
TOKENS_PER_SERVER = 4
TOKEN_OCTETS = 1024  # longer ones leave no room in an Initial


class TokenStore:
    """Newest first, each given out once: a token seen twice would link two connections. Bounded; the oldest go."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[Remote, deque[bytes]] = OrderedDict()

    def put(self, server: Remote, token: bytes) -> None:
        if len(token) > TOKEN_OCTETS:
            return
        self._tokens.setdefault(server, deque(maxlen=TOKENS_PER_SERVER)).append(token)
        self._tokens.move_to_end(server)
        if len(self._tokens) > SERVERS:
            self._tokens.popitem(last=False)

    def take(self, server: Remote) -> bytes | None:
        kept = self._tokens.get(server)
        return kept.pop() if kept else None

"""Both ends: every rule that binds both is tested with the engine as client and as server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_peer import RawPeer


@pytest.fixture(params=["client", "server"])
def peer(request: pytest.FixtureRequest) -> Iterator[RawPeer]:
    """A raw peer of an engine in each role, connected, with three further paths possible."""
    with RawPeer(request.param) as p:
        p.connect()
        yield p


@pytest.fixture
def two(peer: RawPeer) -> RawPeer:
    """The same with path 1 open on access 1."""
    peer.open_path()
    return peer

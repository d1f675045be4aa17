"""Connection IDs as QUIC itself has them, with the frames of RFC 9000 §19.15, §19.16 (§5.1)."""

from __future__ import annotations

from collections import Counter

import frames as f
import pytest
from raw_peer import RawPeer, Role

from native import lib
from native.sim import SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
CONNECTION_ID_LIMIT_ERROR = 0x09


@pytest.mark.parametrize("multipath", [0, 1])
@both
def test_no_more_cids_than_the_peer_keeps(role: Role, multipath: int) -> None:
    """RFC 9000 §5.1.1: and one more for each that is retired."""
    with RawPeer(role, params={"multipath": multipath, "active_connection_id_limit": 2}) as peer:
        peer.connect()
        issued = Counter(path for path, _ in peer.engine_cids)
        assert issued and max(issued.values()) == 2
        peer.send(0, f.frame(f.RETIRE_CONNECTION_ID, 0))
        peer.run(SECOND)
        assert Counter(path for path, _ in peer.engine_cids) == issued + Counter({0: 1})


def test_retire_prior_to_is_obeyed(peer: RawPeer) -> None:
    """RFC 9000 §5.1.2: before anything else is sent to the new one."""
    at = peer.mark()
    cid = peer.cid_of(0, 1)
    peer.cids[cid] = (0, 1)
    peer.send(0, f.new_cid(None, 1, 1, cid, peer.token_of(cid)))
    assert [x.fields["sequence"] for x in peer.frames(f.RETIRE_CONNECTION_ID, since=at)] == [0]
    peer.engine_sends(MAX_DATA, path=0)
    assert {p.dcid for p in peer.packets[at:] if p.path == 0} == {cid}


def test_more_cids_than_we_keep(peer: RawPeer) -> None:
    """RFC 9000 §5.1.1."""
    peer.send(0, *(peer.cid_frame(0, sequence) for sequence in (1, 2, 3)))
    assert peer.error is None
    peer.send(0, peer.cid_frame(0, 4))
    assert peer.error == CONNECTION_ID_LIMIT_ERROR


def test_a_late_number_is_retired_at_once(peer: RawPeer) -> None:
    """RFC 9000 §19.15: below the Retire Prior To of an earlier frame."""
    peer.send(0, peer.cid_frame(0, 5, retire=5))
    at = peer.mark()
    peer.send(0, peer.cid_frame(0, 2))
    assert [x.fields["sequence"] for x in peer.frames(f.RETIRE_CONNECTION_ID, since=at)] == [2]
    assert peer.error is None and not peer.events(lib.EVENT_CLOSED)

"""Retry as a client takes it (RFC 9000 §8.1.2, §17.2.5; RFC 9001 §5.8)."""

from __future__ import annotations

import frames as f
import pytest
from crafted import VERSION_1, unread
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from raw_peer import HANDSHAKE, INITIAL, RawPeer

from native.sim import MS, SECOND

KEY, NONCE = bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"), bytes.fromhex("461599d35d632bf2239825bb")
SCID, TOKEN = b"retryCID", b"a token of the server" * 3


def retry(peer: RawPeer, token: bytes = TOKEN, scid: bytes = SCID, first: int = 0xF0) -> bytes:
    """The answer to the client's first Initial, with the tag that belongs to it."""
    hello = peer.packets[0]
    header = bytes([first]) + VERSION_1 + bytes([len(hello.scid)]) + hello.scid + bytes([len(scid)]) + scid + token
    return header + AESGCM(KEY).encrypt(NONCE, b"", bytes([len(hello.dcid)]) + hello.dcid + header)


@pytest.mark.parametrize("first", [0xF0, 0xFF])
def test_the_token_and_the_cid_of_a_retry_are_in_every_initial(first: int) -> None:
    """Repeated ones, too; the unused bits of the first octet mean nothing."""
    with RawPeer("client") as peer:
        peer.start_client()
        at, answer = peer.mark(), retry(peer, first=first)
        peer._initial_keys(SCID)
        peer.deliver(answer)
        peer.run(2 * SECOND)
        initials = peer.packets[at:]
        assert len(initials) >= 3 and {p.level for p in initials} == {INITIAL}
        assert {(p.dcid, p.token) for p in initials} == {(SCID, TOKEN)}
        assert min(p.size for p in initials) >= 1200
        hello = peer.seal_long(INITIAL, f.ack(*(p.pn for p in initials)) + peer.crypto(b"server hello"))
        peer.deliver(hello + peer.seal_long(HANDSHAKE, peer.crypto(b"server finished")))
        assert peer.spaces[HANDSHAKE, 0].received


def test_a_retry_begins_neither_the_numbers_nor_the_handshake_anew() -> None:
    """The same ClientHello, in packets whose numbers go on: the keys of both Initials could be the same."""
    with RawPeer("client") as peer:
        peer.start_client()
        before = list(peer.packets)
        answer = retry(peer)
        peer._initial_keys(SCID)
        peer.deliver(answer)
        after = peer.packets[len(before) :]
        assert after and min(p.pn for p in after) > max(p.pn for p in before)
        assert [x.data for p in after for x in p.frames if x.kind == f.CRYPTO] == [
            x.data for p in before for x in p.frames if x.kind == f.CRYPTO
        ]


@pytest.mark.parametrize("fault", ["no token", "same cid"])
def test_a_retry_that_changes_nothing_is_discarded(fault: str) -> None:
    with RawPeer("client") as peer:
        peer.start_client()
        answer = retry(peer, token=b"") if fault == "no token" else retry(peer, scid=peer.packets[0].dcid)
        out = unread(peer)
        peer.deliver(answer)
        peer.run(10 * MS)
        assert not out and peer.counter("retry_ignored") == 1 and not peer.counter("retry_accepted")

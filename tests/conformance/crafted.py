"""Packets with every field chosen, whatever the rules say: what RawPeer's own sealing always does right."""

from __future__ import annotations

import frames as f
from raw_peer import INITIAL, ONE_RTT, Keys, RawPeer

from native import ffi, lib
from native.sim import check

VERSION_1 = b"\0\0\0\1"


def seal(keys: Keys, header: bytes, payload: bytes, path: int, pn: int, pn_length: int = 4, generation: int = 0) -> bytes:
    """`header` without the packet number."""
    head = header + (pn & (1 << 8 * pn_length) - 1).to_bytes(pn_length, "big")
    buffer = ffi.new("uint8_t[]", head + payload + bytes(17))
    n = check(lib.packet_seal(keys._key(generation), buffer, len(head), pn_length, len(payload), path, pn))
    return bytes(buffer[0:n])


def short_packet(
    peer: RawPeer, path: int, payload: bytes, *, first: int = 0x40, pn: int | None = None, pn_length: int = 4
) -> bytes:
    """To the engine's newest CID of the path; `first`: without the length of the packet number."""
    space = peer.spaces[ONE_RTT, path]
    pn = space.next_pn if pn is None else pn
    space.next_pn = max(space.next_pn, pn + 1)
    cid = peer.engine_cids[max(key for key in peer.engine_cids if key[0] == path)]
    return seal(peer.send_keys[ONE_RTT], bytes([first | pn_length - 1]) + cid, payload, path, pn, pn_length)


def long_packet(
    peer: RawPeer,
    level: int,
    payload: bytes,
    *,
    first: int = 0xC0,
    version: bytes = VERSION_1,
    dcid: bytes | None = None,
    scid: bytes | None = None,
    token: bytes = b"",
) -> bytes:
    """`first`: without type and length of the packet number."""
    space = peer.spaces[level, 0]
    pn, space.next_pn = space.next_pn, space.next_pn + 1
    target = peer.engine_cids[0, 0] if dcid is None else dcid
    source = peer.own_cid if scid is None else scid
    header = bytes([first | (0 if level == INITIAL else 0x20) | 3]) + version
    header += bytes([len(target)]) + target + bytes([len(source)]) + source
    if level == INITIAL:
        header += f.varint(len(token)) + token
    header += (0x4000 | 4 + len(payload) + 16).to_bytes(2, "big")
    return seal(peer.send_keys[level], header, payload, 0, pn)


def unread(peer: RawPeer) -> list[tuple[bytes, tuple[str, int]]]:
    """From now on the engine's datagrams stay as they are: each with where it went."""
    out: list[tuple[bytes, tuple[str, int]]] = []

    def keep(datagram: bytes, link: int, remote: tuple[str, int], ecn: int) -> None:
        out.append((datagram, remote))

    peer._read = keep  # type: ignore[method-assign]
    return out

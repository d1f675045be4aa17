"""Which connection a packet of a capture is for. A short header does not say how long its Destination Connection ID is
(RFC 9000 §17.3): that follows from the IDs that were announced. One of no octets is told by the addresses alone (§5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from lab.decrypt_connection import Connection, Ends
from lab.packets.headers import CID_LENGTH

CIDS_MAX = 65536
ENDS_MAX = 65536                # pairs of addresses with connections that have no connection IDs
SEGMENT_CID = 4                 # octets of a connection ID that is not found by chance
SEGMENT_LEAST = 21              # octets of a packet with a short header
REUSED_MAX = 4                  # such connections of one pair of addresses, newest first

Key = bytes | tuple[bool, Ends]             # what a packet may be found by: a connection ID, or direction and addresses


def segment_size(raw: bytes, lengths: list[int]) -> int:
    """Of packets with short headers that were captured before the kernel cut them apart (UDP GSO), or after it put them together:
    all but the last are of one size, and each begins with the same connection ID. 0: it is one packet. lengths: of connection
    IDs."""
    for length in lengths:
        dcid = raw[1:1 + length]
        size = raw.find(dcid, 1 + SEGMENT_LEAST) - 1 if length >= SEGMENT_CID else -1
        if size > 0 and all(raw[start] & 0xC0 == 0x40 and raw[start + 1:start + 1 + length] == dcid[:len(raw) - start - 1]
                            for start in range(size, len(raw), size)):
            return size
    return 0


@dataclass(frozen=True, slots=True)
class Route:
    """One connection that a packet may be for, if its connection ID is this one."""

    connection: Connection
    dcid: bytes
    by_client: bool             # who issued the connection ID
    path: int


class Routes:
    def __init__(self) -> None:
        self.lengths = [CID_LENGTH]             # of the connection IDs that short headers may carry; longest first
        self._by_cid: dict[bytes, Connection] = {}
        self._by_ends: dict[tuple[bool, Ends], list[Connection]] = {}

    def keys(self, raw: bytes, up: bool, ends: Ends | None) -> list[Key]:
        """What this short header may be found by, as far as is known now."""
        keys: list[Key] = [raw[1:1 + length] for length in self.lengths]
        return keys if ends is None else [*keys, (up, ends)]

    def short(self, raw: bytes, up: bool, ends: Ends | None) -> list[Route]:
        """Of a 1-RTT packet, likeliest first: the longest connection ID, the newest connection. More than one only when an
        ID begins like another, or beside connections without IDs."""
        routes = []
        for length in self.lengths:
            dcid = raw[1:1 + length]
            connection = self._by_cid.get(dcid)
            if connection is not None:
                routes.append(Route(connection, dcid, *connection.cids[dcid]))
        if self._by_ends and ends is not None:
            routes += [Route(connection, b"", not up, 0) for connection in self._by_ends.get((up, ends), ())]
        return routes

    def long(self, dcid: bytes, up: bool, ends: Ends | None) -> Connection | None:
        if dcid or ends is None:
            return self._by_cid.get(dcid)
        found = self._by_ends.get((up, ends))
        return found[0] if found else None

    def announce(self, connection: Connection, by_client: bool, cid: bytes, path: int) -> bool:
        """A connection ID that an end issued. Whether it is new."""
        if not cid or cid in self._by_cid or len(self._by_cid) >= CIDS_MAX:
            return False
        connection.cids[cid] = (by_client, path)
        connection.cid_lengths[by_client] = len(cid)
        self._by_cid[cid] = connection
        return True

    def new_length(self, length: int) -> bool:
        """Short headers may carry connection IDs of this length, too. Whether that is news."""
        if length in self.lengths:
            return False
        self.lengths = sorted([*self.lengths, length], reverse=True)
        return True

    def place(self, connection: Connection, ends: Ends | None) -> list[Key]:
        """The connection sends and receives here. What packets can be found by that could not before: those to its ends without
        connection IDs."""
        keys: list[Key] = []
        for up in connection.without_cid if ends is not None else ():
            assert ends is not None
            known = self._by_ends.get((up, ends))
            if known is not None and known[0] is connection:
                continue
            if known is None and len(self._by_ends) >= ENDS_MAX:
                continue
            others = [one for one in known or () if one is not connection]
            self._by_ends[up, ends] = [connection, *others][:REUSED_MAX]
            connection.places.add((up, ends))
            keys.append((up, ends))
        return keys

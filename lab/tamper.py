"""A man in the middle on N4 or N1 that flips single octets, and on N1 puts in PDUs of `lab.craft`:
`python -m lab.tamper`, run inside the core namespace.

A check that passes because nothing is checked is worthless. This relay changes one octet of the message that matters, so that
tests can show that the octet matters: the wrapped key on N4, the weight of a MAR, a ciphered NAS message with the key container or
the ATSSS rules. It sits between the nodes as a relay with an address of its own; the nodes know nothing of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

# Grouped PFCP IEs in which the relay looks for what it is to flip (TS 29.244 §8.1.2).
GROUPED = frozenset({1, 2, 3, 4, 8, 9, 10, 11, 165, 166, 167, 169, 175, 176, 212, 220, 221, 330, 331})
F_SEID = 57
N4_TARGETS = {"mpquic-key": 0x8002, "weight": 173, "steering-mode": 172}
SHT_CIPHERED = 2  # integrity protected and ciphered (TS 24.501 §9.3)

Flip = Callable[[bytearray], bool]


@dataclass(slots=True)
class Tally:
    """What the relay did, printed as JSON lines on stdout."""

    messages: int = 0
    flipped: int = 0

    def report(self, **fields: object) -> None:
        print(json.dumps({"messages": self.messages, "flipped": self.flipped, **fields}), flush=True)


def ies(message: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, value start, value end) of every IE, depth first. Stops at the first length that does not fit."""
    at = start
    while at + 4 <= end:
        kind, length = struct.unpack_from("!HH", message, at)
        if at + 4 + length > end:
            return
        yield kind, at + 4, at + 4 + length
        if kind in GROUPED:
            yield from ies(message, at + 4, at + 4 + length)
        at += 4 + length


def flip_ie(target: int, count: int) -> Flip:
    """Flips the lowest bit of the last octet of the first `count` IEs of this type that pass."""
    left = count

    def flip(message: bytearray) -> bool:
        nonlocal left
        if len(message) < 8 or left == 0:
            return False
        header = 16 if message[0] & 1 else 8
        for kind, _start, end in ies(bytes(message), header, len(message)):
            if kind == target:
                message[end - 1] ^= 1
                left -= 1
                return True
        return False

    return flip


def flip_ciphered(first: int, count: int) -> Flip:
    """Flips one octet of the ciphered NAS messages number first, first + 1, ... (`count` of them), counted from 1."""
    seen = 0

    def flip(message: bytearray) -> bool:
        nonlocal seen
        if len(message) < 8 or message[0] != 0x7E or message[1] & 0x0F != SHT_CIPHERED:
            return False
        seen += 1
        if not first <= seen < first + count:
            return False
        message[-1] ^= 1
        return True

    return flip


def readdress(message: bytearray, here: str, there: str) -> None:
    """F-SEIDs at one address are at the other: a node takes no session whose F-SEID is not where its peer is. IPv4 stands behind
    the flags and the SEID (TS 29.244 §8.2.37)."""
    old, new = IPv4Address(here).packed, IPv4Address(there).packed
    header = 16 if message and message[0] & 1 else 8
    for kind, start, end in ies(bytes(message), header, len(message)):
        if kind == F_SEID and end - start >= 13 and message[start + 9 : start + 13] == old:
            message[start + 9 : start + 13] = new


class N4Relay(asyncio.DatagramProtocol):
    """UDP: whoever is not the UPF is the SMF. `own`: the relay's address, where each takes the other to be."""

    def __init__(self, upf: tuple[str, int], own: str, flip: Flip, tally: Tally) -> None:
        self._upf, self._own, self._flip, self._tally = upf, own, flip, tally
        self._smf: tuple[str, int] | None = None
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:  # asyncio's is no DatagramTransport before Python 3.12
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = bytearray(data)
        self._tally.messages += 1
        if addr[0] == self._upf[0]:
            if self._smf is not None:
                readdress(message, self._upf[0], self._own)
                self._transport.sendto(bytes(message), self._smf)
            return
        self._smf = addr
        readdress(message, addr[0], self._own)
        if self._flip(message):
            self._tally.flipped += 1
            self._tally.report(where="n4", type=message[1])
        self._transport.sendto(bytes(message), self._upf)


Links = dict[int, tuple[asyncio.StreamWriter, asyncio.StreamWriter]]
"""The newest connection by the AMF's port: towards the AMF, towards the UE."""


def inject(line: bytes, links: Links, tally: Tally) -> None:
    """`{"port": 38412, "uplink": true, "pdu": hex}`: a PDU of nobody, between those of the two ends."""
    try:
        order = json.loads(line)
        pdu = bytes.fromhex(order["pdu"])
        towards_amf, towards_ue = links[order["port"]]
        (towards_amf if order["uplink"] else towards_ue).write(struct.pack("!H", len(pdu)) + pdu)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        tally.report(where="n1", not_injected=type(error).__name__)
        return
    tally.report(where="n1", injected=len(pdu))


async def obey(links: Links, tally: Tally) -> None:
    """Orders on standard input, one a line, to its end."""
    reader = asyncio.StreamReader()
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except ValueError:  # no pipe: nobody gives orders
        return
    while line := await reader.readline():
        inject(line, links, tally)


async def relay_n1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flip: Flip, tally: Tally) -> None:
    """One direction of N1: NAS PDUs behind a two-octet length."""
    try:
        while True:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            message = bytearray(await reader.readexactly(length))
            tally.messages += 1
            if flip(message):
                tally.flipped += 1
                tally.report(where="n1", length=length)
            writer.write(struct.pack("!H", length) + message)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve_n1(ways: list[tuple[tuple[str, int], tuple[str, int]]], flip: Flip, tally: Tally) -> None:
    """(listen, to) of every access; ciphered messages are counted over all of them."""
    links: Links = {}

    async def serve(listen: tuple[str, int], to: tuple[str, int]) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            amf_reader, amf_writer = await asyncio.open_connection(*to)
            links[to[1]] = (amf_writer, writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(relay_n1(reader, amf_writer, lambda _message: False, tally))
                both.create_task(relay_n1(amf_reader, writer, flip, tally))

        return await asyncio.start_server(accept, *listen)

    servers = [await serve(listen, to) for listen, to in ways]
    tally.report(ready=True)
    await asyncio.gather(obey(links, tally), *(server.serve_forever() for server in servers))


async def serve_n4(listen: tuple[str, int], to: tuple[str, int], flip: Flip, tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: N4Relay(to, listen[0], flip, tally), local_addr=listen)
    tally.report(ready=True)
    try:
        await loop.create_future()
    finally:
        transport.close()


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.tamper", description=__doc__)
    parser.add_argument("where", choices=["n4", "n1"])
    parser.add_argument("--listen", type=address, action="append", required=True, metavar="ADDRESS:PORT")
    parser.add_argument(
        "--to",
        type=address,
        action="append",
        required=True,
        metavar="ADDRESS:PORT",
        help="the UPF (n4), or the AMF (n1); one --to for each --listen, one pair per access",
    )
    parser.add_argument("--what", choices=[*N4_TARGETS, "none"], default="none", help="n4: the IE whose last octet is flipped")
    parser.add_argument("--from-message", type=int, default=1, help="n1: first downlink ciphered message that is flipped")
    parser.add_argument("--count", type=int, default=1 << 30, help="how many are flipped")
    arguments = parser.parse_args(argv)
    tally = Tally()
    if arguments.where == "n4":
        target = N4_TARGETS.get(arguments.what, -1)
        job = serve_n4(arguments.listen[0], arguments.to[0], flip_ie(target, arguments.count), tally)
    else:
        ways = list(zip(arguments.listen, arguments.to, strict=True))
        job = serve_n1(ways, flip_ciphered(arguments.from_message, arguments.count), tally)
    try:
        asyncio.run(job)
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

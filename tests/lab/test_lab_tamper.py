"""The relay flips exactly the octet that it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import struct

from hypothesis import given
from hypothesis import strategies as st

from lab.tamper import N4_TARGETS, N4Relay, Tally, flip_ciphered, flip_ie


def ie(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value


def request(*parts: bytes) -> bytearray:
    body = bytes(8) + b"\0\0\1\0" + b"".join(parts)
    return bytearray(struct.pack("!BBH", 0x21, 52, len(body)) + body)


def test_the_weight_inside_the_mar_is_found() -> None:
    afai = ie(166, ie(108, bytes(4)) + ie(173, bytes([30])))
    message = request(ie(165, ie(170, b"\0\1") + afai))
    before = bytes(message)
    assert flip_ie(N4_TARGETS["weight"], 1)(message)
    differing = [i for i, (a, b) in enumerate(zip(before, message, strict=True)) if a != b]
    assert len(differing) == 1
    assert message[differing[0]] == 31


def test_only_as_many_as_asked() -> None:
    flip = flip_ie(N4_TARGETS["mpquic-key"], 1)
    message = request(ie(0x8002, bytes(20)))
    assert flip(message)
    again = bytes(message)
    assert not flip(message)
    assert bytes(message) == again


def test_ciphered_messages_are_counted() -> None:
    flip = flip_ciphered(2, 1)
    ciphered = bytes.fromhex("7e02a1a2a3a400") + b"inner"
    plain = bytes.fromhex("7e00560000")
    assert not flip(bytearray(plain))
    assert not flip(bytearray(ciphered))
    second = bytearray(ciphered)
    assert flip(second)
    assert bytes(second[:-1]) == ciphered[:-1]
    assert not flip(bytearray(ciphered))


@given(st.binary(max_size=200))
def test_garbage_passes(data: bytes) -> None:
    message = bytearray(data)
    flip_ie(N4_TARGETS["weight"], 5)(message)
    assert len(message) == len(data)
    flip_ciphered(1, 5)(message)
    assert len(message) == len(data)


class Ear(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.put_nowait((data, addr))


def test_the_n4_relay_passes_both_ways_and_flips_towards_the_upf_only() -> None:
    """It once passed nothing at all, and the tests that it serves were content: no key arrived."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        smf, smf_ear = await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0))
        upf, upf_ear = await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.2", 0))
        tally = Tally()
        to = upf.get_extra_info("sockname")
        relay, _ = await loop.create_datagram_endpoint(
            lambda: N4Relay(to, "127.0.0.1", flip_ie(N4_TARGETS["mpquic-key"], 1), tally), local_addr=("127.0.0.1", 0)
        )
        key, plain = bytes(request(ie(0x8002, bytes(20)))), bytes(request(ie(19, b"\x01")))
        for message in (plain, key):
            smf.sendto(message, relay.get_extra_info("sockname"))
        first, at = await asyncio.wait_for(upf_ear.heard.get(), 5)
        second, _ = await asyncio.wait_for(upf_ear.heard.get(), 5)
        assert first == plain and second == key[:-1] + b"\x01"
        upf.sendto(key, at)
        assert (await asyncio.wait_for(smf_ear.heard.get(), 5))[0] == key
        assert (tally.messages, tally.flipped) == (3, 1)
        for transport in (smf, upf, relay):
            transport.close()

    asyncio.run(main())

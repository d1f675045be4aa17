"""Handshakes under fire: every packet cut at every length and flipped at every bit before the good copy (bars R-15), and
ClientHellos of random octets (R-16)."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator

from handshakes import hello_bytes, server_of
from line import SERVER, client_of, psk
from mpquic_rig import Proxy, run

from mpquic.endpoint import Endpoint
from mpquic.engine import Datagram, check
from mpquic.errors import TransportError
from mpquic.tls_errors import HandshakeError
from mpquic.tls_states import Level, State
from native import ffi, lib

Mutants = Callable[[bytes], Iterator[bytes]]
COUNTERS = ffi.new("uint64_t[]", lib.counter_count())
IS_DROP = [lib.counter_is_drop(i) for i in range(len(COUNTERS))]
SMALL = 100
"""octets: acknowledgements, and stateless resets that answer mutants"""
SILENT = 9
"""mutants of one datagram without a counter: the engine keeps 8 whose keys may still come (and counts them then), and one may be
cut between its packets, and so be whole"""
FIRED = 8
"""datagrams that come under fire: both flights of both ends, and what confirms the handshake"""


def cut(data: bytes) -> Iterator[bytes]:
    return (data[:n] for n in range(len(data)))


def flipped(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        for bit in range(8):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def under_fire(mutants: Mutants) -> int:
    """A handshake in which each datagram comes only after all its mutants; how many there were. Both ends must end up with the same
    keys, each mutant must have been counted by its reason, and nobody else's connection may stand anywhere."""
    count = 0

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        fired: set[bytes] = set()

        def fire(datagram: Datagram, to_server: bool) -> bool:
            nonlocal count
            if datagram.data[1:5] == bytes(4):
                return True  # Version Negotiation, for a mutant: flipped in turn it may name another version and end the attempt
            if datagram.data in fired or len(datagram.data) < SMALL or len(fired) == FIRED:
                return False
            fired.add(datagram.data)
            endpoint = line.server if to_server else line.client
            remote = client_of(datagram.link) if to_server else SERVER
            silent = 0
            for mutant in mutants(datagram.data):
                count += 1
                before = dropped(endpoint)
                endpoint.engine.input(Datagram(datagram.link, remote, mutant, 0), line.now)
                silent += dropped(endpoint) == before
            assert silent <= SILENT
            return False

        line.drop = fire
        connection = await line.do(line.client.connect(psk(), 0, SERVER))
        [served] = proxy.connections
        assert served.client_random == connection.client_random
        assert len(line.server.connections) == 1 and len(line.server.engine.connections()) == 1
        await line.do(connection.open_path(1, SERVER))  # the keys of both are the same: they hear each other
        assert count > 0 and fired

    run(test)
    return count


def dropped(endpoint: Endpoint) -> int:
    """All reasons together; straight from the engine, for it is asked 50,000 times."""
    check("endpoint_counters", lib.endpoint_counters(endpoint.engine._endpoint, COUNTERS, len(COUNTERS)))
    return sum(itertools.compress(COUNTERS, IS_DROP))


def test_every_packet_of_a_handshake_cut_at_every_length() -> None:
    assert under_fire(cut) > 2500


def test_every_packet_of_a_handshake_flipped_at_every_bit() -> None:
    assert under_fire(flipped) > 20_000


def hellos(seed: int) -> Iterator[bytes]:
    """CRYPTO octets of an Initial: noise, noise with the header of a ClientHello, and a true one with some octets changed, put
    in or left out (the length in its header made right again, half of the time)."""
    rng, good = random.Random(seed), hello_bytes()
    while True:
        kind = rng.randrange(4)
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 400))
            continue
        body = bytearray(rng.randbytes(rng.randrange(400)) if kind == 1 else good[4:])
        for _ in range(rng.randrange(1, 5) if kind != 1 else 0):
            at = rng.randrange(len(body))
            change = rng.randrange(3)
            if change == 0:
                body[at] = rng.randrange(256)
            elif change == 1:
                body[at:at] = rng.randbytes(rng.randrange(1, 6))
            elif len(body) > 20:
                del body[at : at + rng.randrange(1, 6)]
        if body == good[4:]:
            continue
        length = len(body) if rng.random() < 0.5 else len(good) - 4
        yield b"\x01" + length.to_bytes(3, "big") + bytes(body)


def random_hellos(count: int, seed: int) -> Counter[str]:
    """How often each reason to refuse came; `waits`: the message is longer than what came."""
    seen: Counter[str] = Counter()
    for _, octets in zip(range(count), hellos(seed), strict=False):
        server = server_of()
        try:
            server.receive(Level.INITIAL, octets)
        except TransportError as error:
            assert isinstance(error, HandshakeError) and error.frame == 0x06 and str(error)
            assert server.state is State.FAILED and server.take_actions() == []
            seen[type(error).__name__] += 1
        else:
            assert server.state is State.SERVER_WAIT_CLIENT_HELLO and len(octets) < 4 + int.from_bytes(octets[1:4], "big")
            seen["waits"] += 1
    return seen


def test_client_hellos_of_random_octets_have_a_named_error() -> None:
    """R-16; a hundred times as many in tests/soak."""
    seen = random_hellos(10_000, 16)
    assert seen.total() == 10_000
    assert {"DecodeError", "IllegalParameter", "UnexpectedMessage", "WrongBinder", "UnknownIdentity"} <= set(seen), seen

"""Handshakes between two endpoints: keys that are refused, spent or wiped, races over the accesses, lost flights."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aioquic.quic.crypto import CryptoPair
from line import IDENTITY, KEY, SERVER, psk
from mpquic_rig import Proxy, run

from mpquic.close_reason import CloseReason
from mpquic.connection import Connection
from mpquic.errors import HandshakeRefused, HandshakeTimeout, PskWiped
from mpquic.psk import Psk, PskMode
from mpquic.reader import Reader
from mpquic.suites import SUITES, Suite
from mpquic.tls_states import Level, Role


def close_frames(datagram: bytes, first_dcid: bytes) -> bytes:
    """The frames of a server's Initial, by aioquic's packet protection."""
    crypto = CryptoPair()
    crypto.setup_initial(first_dcid, is_client=True, version=1)
    reader = Reader(datagram)
    reader.octets(5)
    reader.vector(1)
    reader.vector(1)
    reader.octets(reader.varint())  # token
    length = reader.varint()
    packet = datagram[: reader.position + length]
    return bytes(crypto.decrypt_packet(packet, reader.position, 0)[1])


REFUSED_KEYS = {
    "psk_unknown_identity": (bytes(32), b"somebody els", False),
    "psk_wrong_binder": (bytes(32), IDENTITY, False),
    "psk_spent": (KEY, IDENTITY, True),
}


def test_refused_keys_look_alike_on_the_wire() -> None:
    """PSK-01: the same datagrams in number and length, the same frames in them, no word of why; the counters know."""
    seen: list[tuple[list[int], bytes]] = []

    async def test(proxy: Proxy) -> None:
        counter = list(REFUSED_KEYS)[len(seen)]
        key, identity, proxy.spent = REFUSED_KEYS[counter]
        answers: list[bytes] = []
        line = proxy.line

        def drop(datagram: Any, to_server: bool) -> bool:
            if not to_server:
                answers.append(datagram.data)
            return False

        line.drop = drop
        connecting = asyncio.ensure_future(line.client.connect(psk(key, identity), 0, SERVER))
        await asyncio.sleep(0)
        [connection] = line.client.connections.values()
        first_dcid = bytes.fromhex(connection.original_dcid)
        with pytest.raises(HandshakeRefused) as refused:
            await line.do(connecting)
        assert refused.value.code == 0x133
        assert refused.value.key_refused
        assert "identity" not in str(refused.value) and "binder" not in str(refused.value)
        assert {name: line.server.counters[name] for name in REFUSED_KEYS} == {name: name == counter for name in REFUSED_KEYS}
        assert not proxy.connections and proxy.spent == (counter == "psk_spent")
        frames = close_frames(answers[0], first_dcid)
        assert bytes.fromhex("1c 4133 06 00") in frames  # CONNECTION_CLOSE, CRYPTO_ERROR + 51, CRYPTO, no reason
        seen.append(([len(answer) for answer in answers], frames))

    for _ in REFUSED_KEYS:
        run(test)
    assert seen[0] == seen[1] == seen[2]


def test_a_key_that_cannot_be_used_leaves_nothing_in_the_engine() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        wiped = psk()
        wiped.wipe()
        with pytest.raises(PskWiped):
            await line.do(line.client.connect(wiped, 0, SERVER))
        await line.run(None, 5000)
        assert not line.client.connections and not line.client.engine.connections()

    run(test)


def test_crypto_octets_behind_a_gap_close_the_connection() -> None:
    """PSK-14: the ClientHello is whole, and something waits behind it in the same level."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connecting = asyncio.ensure_future(line.client.connect(psk(), 0, SERVER))
        await asyncio.sleep(0)
        [connection] = line.client.connections.values()
        connection._crypto_out[Level.INITIAL] += 1
        connection._crypto_send(Level.INITIAL, b"behind a gap")
        with pytest.raises(HandshakeRefused) as refused:
            await line.do(connecting)
        assert refused.value.code == 0x0A
        assert line.server.counters["tls_protocol_violation"] == 1

    run(test)


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("ahead", [16000, 16384, 1 << 40])
def test_crypto_octets_far_ahead_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, level: Level, ahead: int) -> None:
    """R-14, RFC 9000 §7.5: at every level. Below the bound they wait, in Initial and Handshake until the level ends (PSK-14)."""
    send = Connection._crypto_send

    def far_ahead(connection: Connection) -> None:
        before, connection._crypto_out[level] = connection._crypto_out[level], ahead
        send(connection, level, b"far ahead")
        connection._crypto_out[level] = before

    def also(connection: Connection, at: Level, data: bytes) -> None:
        if at == level and connection.role is Role.CLIENT:
            far_ahead(connection)
        send(connection, at, data)

    async def test(proxy: Proxy) -> None:
        client, server = proxy.line.client, proxy.line.server
        code: int | None = None
        try:
            connection: Any = await proxy.line.do(client.connect(psk(), 0, SERVER))
            if level == Level.ONE_RTT:
                far_ahead(connection)
            closed: Any = await proxy.line.do(asyncio.wait_for(asyncio.shield(connection.closed), 0.3))
            code = closed.code
        except HandshakeRefused as refused:
            code = refused.code
        except TimeoutError:
            pass
        below = None if level == Level.ONE_RTT else 0x0A
        assert code == (below if ahead < 16384 else 0x0D)
        assert server.counters["crypto_buffer_exceeded"] == (ahead >= 16384)

    monkeypatch.setattr(Connection, "_crypto_send", also)
    run(test)


def test_a_refused_key_does_not_burn_the_true_one() -> None:
    async def test(proxy: Proxy) -> None:
        with pytest.raises(HandshakeRefused):
            await proxy.line.do(proxy.line.client.connect(psk(bytes(32)), 0, SERVER))
        await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        assert len(proxy.connections) == 1

    run(test)


def test_a_key_makes_one_connection() -> None:
    async def test(proxy: Proxy) -> None:
        await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        with pytest.raises(HandshakeRefused) as refused:
            await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        assert refused.value.code == 0x133
        assert proxy.line.server.counters["psk_spent"] == 1
        assert len(proxy.connections) == 1

    run(test)


def test_a_race_is_won_once_and_a_dead_access_does_not_keep_it_down() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.line.drop = lambda datagram, _to_server: datagram.link == 0
        connection: Any = await proxy.line.do(proxy.line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        assert connection.link == 1
        assert len(proxy.connections) == 1

    run(test)


def test_both_accesses_answer_one_finishes() -> None:
    async def test(proxy: Proxy) -> None:
        await proxy.line.do(proxy.line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        await proxy.line.run(None, 1000)
        assert len(proxy.connections) == 1
        assert proxy.line.server.counters["psk_spent"] == 0

    run(test)


def test_a_handshake_survives_lost_flights() -> None:
    async def test(proxy: Proxy) -> None:
        lost = [0]

        def drop(_datagram: Any, _to_server: bool) -> bool:
            lost[0] += 1
            return lost[0] % 3 == 1

        proxy.line.drop = drop
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        await proxy.line.do(connection.connect_ip("proxy"))

    run(test)


def test_the_key_log_has_both_roles_lines_and_no_key() -> None:
    async def test(proxy: Proxy) -> None:
        lines: list[str] = []
        proxy.line.client.config.keylog = lines.append
        await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        assert {one.split()[0] for one in lines} >= {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
        assert KEY.hex() not in "".join(lines)

    run(test)


def test_a_refusal_of_the_slower_access_does_not_hide_the_winner() -> None:
    """The winner's Finished spends the key; a ClientHello that comes after it is refused while HANDSHAKE_DONE is lost."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        done = [0]

        def drop(datagram: Any, to_server: bool) -> bool:
            if to_server and datagram.link == 1 and not proxy.spent:
                return True  # the slow access: its first hello arrives after the key is spent
            if not to_server and datagram.link == 0 and proxy.spent and not line.server.counters["psk_spent"]:
                done[0] += 1
                return True  # the winner's confirmation is lost until the other was refused
            return False

        line.drop = drop
        connection: Any = await line.do(line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        assert connection.link == 0
        assert done[0] and line.server.counters["psk_spent"] == 1
        assert len(proxy.connections) == 1

    run(test)


def test_nobody_answers_is_a_timeout() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.line.drop = lambda _datagram, _to_server: True
        with pytest.raises(HandshakeTimeout):
            await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER), 60_000)

    run(test)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_an_imported_key_carries_every_suite(suite: Suite) -> None:
    """RFC 9258, AES-256 and SHA-384 included: handshake and datagrams through the engine."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.server.config.suites = [suite]
        proxy.key = Psk(KEY, IDENTITY, PskMode.IMPORTED)
        connection: Any = await line.do(line.client.connect(Psk(KEY, IDENTITY, PskMode.IMPORTED), 0, SERVER))
        await line.do(connection.connect_ip("proxy"))
        assert connection._tls.suite is suite

    run(test)


def test_the_parameters_and_the_hello_are_greased() -> None:
    """RFC 9000 §18.1, RFC 8701: and the peer takes no notice."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        for end in (connection, proxy.connections[0]):
            reader, seen = Reader(end.transport_parameters), []
            assert end.transport_parameters == end.transport_parameters  # drawn once
            while reader.left:
                seen.append(reader.varint())
                reader.octets(reader.varint())
            assert [identifier for identifier in seen if identifier > 0x3E and identifier % 31 == 27]

    run(test)


def test_a_refusal_forged_on_one_access_does_not_end_the_race() -> None:
    """Initial packets are protected by public keys: who listens on one access can answer there with anything."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        racing = asyncio.ensure_future(line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        await asyncio.sleep(0)
        [attacked] = [c for c in line.client.connections.values() if c.link == 1]
        attacked.over(CloseReason("peer", 0x133, False, ""))
        await asyncio.sleep(0)
        connection: Any = await line.do(racing)
        assert connection.link == 0

    run(test)


def test_a_refusal_is_believed_when_no_other_access_answers() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.drop = lambda datagram, _to_server: datagram.link == 1
        racing = asyncio.ensure_future(line.client.connect_race(psk(bytes(32)), [(0, SERVER), (1, SERVER)]))
        await line.run(None, 200)
        start = time.monotonic()
        with pytest.raises(HandshakeRefused):
            await racing
        assert time.monotonic() - start < 5

    run(test)

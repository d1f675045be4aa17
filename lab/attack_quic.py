"""Attacks on the accesses: QUIC packets towards the UPF and the UE (bars.md A and B)."""

from __future__ import annotations

import secrets
from dataclasses import replace

from scapy.layers.inet import IP, UDP

from lab.attack import Attack, table
from lab.craft import Craft, Seen, Spoofed
from lab.decrypt_keys import AES_128, PacketKeys
from lab.packets.link import address_text
from lab.packets.quic import FRAME_LAYERS, QuicDatagram, QuicPadding, QuicVersionNegotiation
from lab.topology import DN

QuicPing, QuicPathChallenge = FRAME_LAYERS[0x01], FRAME_LAYERS[0x1A]
FLOOD = 300
AHEAD = 20_000  # packet numbers that the true sender does not reach meanwhile
CHALLENGES = 200
TINY = 200
SPOOFED_SOURCES = 40
ANOTHER = "10.{number}.0.77"
RIGHT = "upf:packets_received"


async def right_packet(craft: Craft, seen: Seen) -> int:
    """The next packet of the UE's path, padding only: it is taken, moves no address and asks for no answer that would betray it."""
    return await craft.access(seen.up.last, [craft.short(seen.up, [QuicPadding(more=bytes(30))])], up=True)


async def right_packet_down(craft: Craft, seen: Seen) -> int:
    return await craft.access(seen.down.last, [craft.short(seen.down, [QuicPadding(more=bytes(30))])], up=False)


async def right_initial(craft: Craft, seen: Seen) -> int:
    """A good Initial: it authenticates and opens a handshake that never goes on."""
    return await craft.access(seen.initial, [craft.initial([QuicPing()])], up=True)


# ---- before authentication


async def small_initial(craft: Craft, seen: Seen) -> int:
    return await craft.access(seen.initial, [craft.initial([QuicPing()], size=1199)], up=True)


async def short_dcid(craft: Craft, seen: Seen) -> int:
    return await craft.access(seen.initial, [craft.initial([QuicPing()], dcid=secrets.token_bytes(7))], up=True)


async def initial_flood(craft: Craft, seen: Seen) -> int:
    """From many addresses and ports, each with connection IDs of its own."""
    number = craft.accesses.index(seen.initial.interface.removeprefix("ue/")) + 1
    packets = [Spoofed(craft.initial([QuicPing()]), f"10.{number}.0.{100 + i % SPOOFED_SOURCES}", 20000 + i) for i in range(FLOOD)]
    return await craft.access(seen.initial, packets, up=True)


async def coalesced(craft: Craft, seen: Seen) -> int:
    """A good packet, and behind it in the datagram one of another connection, and an Initial with a key of its own."""
    first = craft.initial([QuicPing()], size=700)
    return await craft.access(seen.initial, [first + craft.initial([QuicPing()], size=600)], up=True)


async def replay_initial(craft: Craft, seen: Seen) -> int:
    """The client's recorded first flight, from another port: a new connection for a key that is spent."""
    like = seen.initial
    return await craft.access(like, [Spoofed(like.flow.payload, address_text(like.flow.source), 31999)], up=True)


async def early_data(craft: Craft, seen: Seen) -> int:
    first = bytearray(craft.initial([QuicPing()], dcid=seen.connection.original_dcid))
    packet = bytes((0xD0 | first[0] & 0x0F,)) + bytes(first[1:5]) + bytes((8,)) + secrets.token_bytes(8) + bytes((8,)) \
        + secrets.token_bytes(8) + b"\x44\x00" + secrets.token_bytes(1024)
    return await craft.access(seen.initial, [packet + bytes(1200 - len(packet))], up=True)


async def unknown_version(craft: Craft, seen: Seen) -> int:
    return await craft.access(seen.initial, [craft.initial([QuicPing()], version=0x1A2A3A4A)], up=True)


async def tiny(craft: Craft, seen: Seen) -> int:
    """Empty datagrams and such of one octet, on an open path."""
    return await craft.access(seen.up.last, [b"" if i % 2 else b"\x40" for i in range(TINY)], up=True)


async def version_negotiation(craft: Craft, seen: Seen) -> int:
    """To the UE, in the UPF's name, once the connection lives."""
    packet = bytes(QuicVersionNegotiation(dcid=seen.down.dcid, scid=seen.up.dcid, versions=[1, 0x1A2A3A4A]))
    return await craft.access(seen.down.last, [packet], up=False)


async def forged_retry(craft: Craft, seen: Seen) -> int:
    """To the UE, with a wrong integrity tag and far too late."""
    packet = b"\xf0\0\0\0\1" + bytes((len(seen.down.dcid),)) + seen.down.dcid + b"\x08" + secrets.token_bytes(8) + b"token" * 4 \
        + secrets.token_bytes(16)
    return await craft.access(seen.down.last, [packet], up=False)


async def guessed_reset(craft: Craft, seen: Seen) -> int:
    """To the UE: short headers with its connection ID whose last 16 octets are guesses at the stateless reset token."""
    guesses = [b"\x40" + seen.down.dcid + secrets.token_bytes(34) for _ in range(20)]
    return await craft.access(seen.down.last, guesses, up=False)


# ---- with what was heard, and with the run's keys


async def replay(craft: Craft, seen: Seen) -> int:
    """A recorded 1-RTT datagram once more."""
    return await craft.access(seen.up.last, [seen.up.last.flow.payload], up=True)


async def replay_down(craft: Craft, seen: Seen) -> int:
    return await craft.access(seen.down.last, [seen.down.last.flow.payload], up=False)


async def replay_elsewhere(craft: Craft, seen: Seen) -> int:
    """The same from another address: it must not move the path there."""
    before = {p.get("path"): p.get("remote") for p in await craft.paths()}
    number = craft.accesses.index(seen.up.access) + 1
    packet = Spoofed(seen.up.last.flow.payload, ANOTHER.format(number=number), 4444)
    sent = await craft.access(seen.up.last, [packet], up=True)
    await craft.round_trip()
    after = {p.get("path"): p.get("remote") for p in await craft.paths()}
    return sent if after == before else 0


async def reused_number(craft: Craft, seen: Seen) -> int:
    """Other frames under the keys of the session and a packet number that was used."""
    return await craft.access(seen.up.last, [craft.short(seen.up, [QuicPing()], number=seen.up.number)], up=True)


async def wrong_path(craft: Craft, seen: Seen) -> int:
    """Good keys and a good number, but the nonce of the path beside it (RFC 10069 §2.4)."""
    return await craft.access(seen.up.last, [craft.short(seen.up, [QuicPing()], path=seen.up.path ^ 1)], up=True)


async def foreign_cid(craft: Craft, seen: Seen) -> int:
    """Sealed for one path, sent with the connection ID of another."""
    other = next(d for (up, path), d in seen.paths.items() if up and path != seen.up.path)
    return await craft.access(seen.up.last, [craft.short(seen.up, [QuicPing()], dcid=other.dcid)], up=True)


async def wrong_key(craft: Craft, seen: Seen) -> int:
    keys = PacketKeys(AES_128, secrets.token_bytes(32))
    return await craft.access(seen.up.last, [craft.short(seen.up, [QuicPing()], keys=keys) for _ in range(20)], up=True)


async def wrong_key_phase(craft: Craft, seen: Seen) -> int:
    """The other key phase with the keys of this one: a key update that never was."""
    at = replace(seen.up, generation=seen.up.generation ^ 1)
    return await craft.access(seen.up.last, [craft.short(at, [QuicPing()])], up=True)


async def unknown_cid(craft: Craft, seen: Seen) -> int:
    return await craft.access(seen.up.last, [craft.short(seen.up, [QuicPing()], dcid=secrets.token_bytes(8))], up=True)


async def spoofed_source_at_the_ue(craft: Craft, seen: Seen) -> int:
    """An application of the UE with a source address of another session: the UE's own filter."""
    return await craft.tunnel([spoofed_packet() for _ in range(5)])


async def spoofed_inner(craft: Craft, seen: Seen) -> int:
    """A UE that does not filter: the packet inside a DATAGRAM with the session's keys (RFC 9484 §11)."""
    http_datagram = b"\0\0" + spoofed_packet()  # quarter stream id 0, context id 0
    frames = [QuicDatagram(data=http_datagram) for _ in range(5)]
    return await craft.access(seen.up.last, [craft.short(seen.up, frames, number=seen.up.number + AHEAD)], up=True)


def spoofed_packet() -> bytes:
    return bytes(IP(src="10.45.0.99", dst=DN) / UDP(sport=1, dport=9) / b"?")


async def right_inner(craft: Craft, seen: Seen) -> int:
    await craft.round_trip()
    return 1


async def challenge_flood(craft: Craft, seen: Seen) -> int:
    """PATH_CHALLENGEs in the UE's name and with its keys. The UE then sees acknowledgements of what it never sent, and closes."""
    frames = [QuicPathChallenge(data=secrets.token_bytes(8)) for _ in range(20)]
    first = seen.up.number + AHEAD
    packets = [craft.short(seen.up, [*frames, QuicPadding(more=bytes(900))], number=first + i) for i in range(CHALLENGES // 20)]
    return await craft.access(seen.up.last, packets, up=True)


ATTACKS = table(
    Attack("quic-small-initial", ("R-01",), "an Initial in a datagram of 1199 octets", {"upf:initial_small": 1}, small_initial,
           right_initial, RIGHT),
    Attack("quic-short-dcid", ("R-01",), "an Initial to a connection ID of 7 octets", {"upf:initial_short_cid": 1}, short_dcid,
           right_initial, RIGHT),
    Attack("quic-coalesced", ("R-03",), "a packet of another connection behind a good one", {"upf:coalesced_foreign": 1}, coalesced,
           right_initial, RIGHT),
    Attack("quic-replay-initial", ("R-08",), "the recorded first flight again: its key is spent", {"upf:psk_spent": 1},
           replay_initial, right_initial, RIGHT),
    Attack("quic-early-data", ("R-09",), "0-RTT data", {"upf:zero_rtt": 1}, early_data, right_initial, RIGHT),
    Attack("quic-unknown-version", ("R-11",), "a version that nobody speaks", {"upf:version_unknown": 1}, unknown_version,
           right_initial, RIGHT),
    Attack("quic-version-negotiation", ("R-11",), "a forged Version Negotiation to the UE",
           {"ue:version_negotiation_ignored": 1}, version_negotiation, right_packet_down, "ue:packets_received"),
    Attack("quic-retry", ("R-12",), "a forged Retry to the UE", {"ue:retry_ignored": 1}, forged_retry, right_packet_down,
           "ue:packets_received"),
    Attack("quic-reset", ("R-13",), "guesses at the stateless reset token, to the UE", {"ue:auth_failed": 20}, guessed_reset,
           right_packet_down, "ue:packets_received"),
    Attack("quic-tiny", ("R-18",), "datagrams of no octet and of one", {"upf:datagram_short": TINY}, tiny, right_packet, RIGHT),
    Attack("quic-replay", ("R-26",), "a recorded packet again, to the UPF", {"upf:packet_duplicate": 1}, replay, right_packet,
           RIGHT),
    Attack("quic-replay-down", ("R-26",), "a recorded packet again, to the UE", {"ue:packet_duplicate": 1}, replay_down,
           right_packet_down, "ue:packets_received"),
    Attack("quic-spoofed-source", ("R-27", "R-28"), "a recorded packet from another address: the path must not move",
           {"upf:packet_duplicate": 1}, replay_elsewhere, right_packet, RIGHT),
    Attack("quic-reused-number", ("R-26",), "other frames under a packet number that was used", {"upf:packet_duplicate": 1},
           reused_number, right_packet, RIGHT),
    Attack("quic-wrong-path", ("R-26",), "sealed for another path id", {"upf:auth_failed": 1}, wrong_path, right_packet, RIGHT),
    Attack("quic-foreign-cid", ("R-26",), "a packet of one path with the connection ID of another", {"upf:auth_failed": 1},
           foreign_cid, right_packet, RIGHT),
    Attack("quic-wrong-key", ("R-32",), "valid connection ID, wrong key", {"upf:auth_failed": 20}, wrong_key, right_packet, RIGHT),
    Attack("quic-wrong-phase", ("R-31",), "a key phase that never was", {"upf:auth_failed": 1}, wrong_key_phase, right_packet,
           RIGHT),
    Attack("quic-unknown-cid", ("R-13",), "a connection ID of nobody", {"upf:cid_unknown": 1}, unknown_cid, right_packet, RIGHT),
    Attack("tunnel-spoofed-source", ("R-35",), "a source address of another session, from an application of the UE",
           {"ue:ingress_filter": 5}, spoofed_source_at_the_ue, right_inner, "upf:inner_received"),
    Attack("quic-initial-flood", ("R-02",), f"{FLOOD} Initials from many addresses: half-open limit and Retry",
           {"upf:retry_sent": FLOOD // 2}, initial_flood, right_initial, RIGHT),
    Attack("quic-spoofed-inner", ("R-35",), "the same from a UE that does not filter", {"upf:ingress_filter": 5}, spoofed_inner,
           right_inner, "upf:inner_received", ends_connection=True),
    Attack("quic-challenge-flood", ("R-21", "R-23"), "PATH_CHALLENGEs with the UE's own keys; the UE sees its numbers taken",
           {"upf:path_challenge_limit": 1}, challenge_flood, right_packet, RIGHT, ends_connection=True),
    fresh=True,
)

"""Attacks on N1: forged, replayed and broken NAS (bars.md E)."""

from __future__ import annotations

from lab.attack import Attack, table
from lab.craft import Craft, Seen
from lab.decrypt_nas import NasKeys
from lab.errors import LabError
from lab.packets.nas import NasMobility

ACCESS, OTHER = "3gpp", "non-3gpp"
STATUS = bytes(NasMobility(message_type=0x64, ies=b"\x6f"))  # 5GMM STATUS, protocol error: changes nothing at either end
UP, DOWN = True, False


def keys(seen: Seen) -> NasKeys:
    if seen.nas_keys is None:
        raise LabError("the run has no NAS keys")
    return seen.nas_keys


def next_count(seen: Seen, access: str, uplink: bool) -> int:
    return keys(seen).counts.get((access, uplink), -1) + 1


async def right(craft: Craft, seen: Seen, uplink: bool) -> int:
    """A good message in the name of the sender. It takes one COUNT of it: the sender's own next message is refused as replayed."""
    count = craft.count_take(ACCESS, uplink, next_count(seen, ACCESS, uplink))
    return await craft.n1(ACCESS, uplink, [craft.nas(keys(seen), ACCESS, uplink, count, STATUS)])


async def right_up(craft: Craft, seen: Seen) -> int:
    return await right(craft, seen, UP)


async def right_down(craft: Craft, seen: Seen) -> int:
    return await right(craft, seen, DOWN)


async def replay(craft: Craft, seen: Seen) -> int:
    """The newest and the oldest protected uplink message of the access once more."""
    pdus = seen.nas_pdus(ACCESS, UP)
    return await craft.n1(ACCESS, UP, [pdus[-1].data, pdus[0].data])


async def replay_down(craft: Craft, seen: Seen) -> int:
    """To the UE: every protected downlink message of the other access again, the key container of step 5b among them."""
    pdus = seen.nas_pdus(OTHER, DOWN)
    return await craft.n1(OTHER, DOWN, [p.data for p in pdus])


async def wrong_mac(craft: Craft, seen: Seen) -> int:
    """Octets of a guess; the MAC of the other direction; that of the other access."""
    key, count = keys(seen), next_count(seen, ACCESS, UP)
    return await craft.n1(ACCESS, UP, [
        craft.nas(key, ACCESS, UP, count, STATUS, mac=b"\xde\xad\xbe\xef"),
        craft.nas(key, ACCESS, UP, count, STATUS, mac_uplink=DOWN),
        craft.nas(key, ACCESS, UP, count, STATUS, mac_access=OTHER),
    ])


async def wrong_mac_down(craft: Craft, seen: Seen) -> int:
    return await craft.n1(ACCESS, DOWN, [craft.nas(keys(seen), ACCESS, DOWN, next_count(seen, ACCESS, DOWN), STATUS, mac=bytes(4))])


async def unprotected(craft: Craft, seen: Seen) -> int:
    """A key request, a deregistration and a status without protection, after security is on."""
    transport = bytes.fromhex("7e00670d000701030101000000011205")
    deregistration = bytes(NasMobility(message_type=0x45, ies=bytes.fromhex("09000bf200f110000000") + bytes(5)))
    return await craft.n1(ACCESS, UP, [transport, deregistration, STATUS])


async def malformed(craft: Craft, seen: Seen) -> int:
    """Protected messages with no inside, and one with a header type that does not exist."""
    return await craft.n1(ACCESS, UP, [b"\x7e\x02\0\0\0\0", b"\x7e\x0f\0\0\0\0\0\x7e\0\x64", b"\x7e"])


ATTACKS = table(
    Attack("n1-replay", ("R-100",), "protected uplink messages again", {"amf:nas.replayed": 2}, replay, right_up,
           "amf:nas.status_received"),
    Attack("n1-replay-down", ("R-101",), "protected downlink messages again, the key container too", {"ue:nas.replayed": 1},
           replay_down, right_down, "ue:n1.received"),
    Attack("n1-wrong-mac", ("R-102",), "wrong MAC, wrong direction, wrong access", {"amf:nas.wrong_mac": 3}, wrong_mac, right_up,
           "amf:nas.status_received"),
    Attack("n1-wrong-mac-down", ("R-102",), "wrong MAC, to the UE", {"ue:nas.wrong_mac": 1}, wrong_mac_down, right_down,
           "ue:n1.received"),
    Attack("n1-unprotected", ("R-103",), "plain messages after security is on", {"amf:nas.plain_after_security": 3}, unprotected,
           right_up, "amf:nas.status_received"),
    Attack("n1-malformed", ("R-106",), "protected messages that are none", {"amf:nas.not_protected": 2}, malformed, right_up,
           "amf:nas.status_received"),
)

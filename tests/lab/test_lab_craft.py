"""Crafted packets against the readers of lab.packets: what they are told to get wrong is wrong, and only that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.attack import ATTACKS, named
from lab.craft import Craft, Direction, Taken, _numbers
from lab.decrypt_keys import AES_128, PacketKeys, initial_keys
from lab.decrypt_nas import NasKeys, nea2, nia2
from lab.errors import Misuse
from lab.lab import Lab
from lab.packets.frames import read_frames
from lab.packets.headers import read_header
from lab.packets.link import Flow
from lab.packets.quic import FRAME_LAYERS, QuicPadding
from lab.tamper import Links, Tally, inject

PING = FRAME_LAYERS[0x01]
KEYS = PacketKeys(AES_128, bytes(32))
TAKEN = Taken(1, "ue/wifi", b"", Flow(b"", b"", 17, 1, 4433, b"", False))
AT = Direction(True, "wifi", 1, b"dcid-dci", 41, KEYS, 0, TAKEN)
PN_AT = 9


@pytest.fixture
def craft() -> Craft:
    return Craft(cast(Lab, SimpleNamespace(scenario=SimpleNamespace(accesses=[SimpleNamespace(name="wifi", type="non-3gpp")]))))


def opened(packet: bytes, path: int, number: int, keys: PacketKeys = KEYS) -> bytes | None:
    first, _, octets = keys.unmask(packet, PN_AT)
    header = bytes((first,)) + packet[1:PN_AT] + octets
    return keys.open(path, number, header, packet[len(header):])


def test_a_right_packet_is_the_next_of_its_path(craft: Craft) -> None:
    packet = craft.short(AT, [PING(), QuicPadding(more=bytes(20))])
    payload = opened(packet, 1, 42)
    assert payload is not None and [f.name for f in read_frames(payload)[0]] == ["PING", "PADDING"]
    assert packet[1:9] == AT.dcid


@pytest.mark.parametrize(
    "wrong", [{"path": 0}, {"number": 41}, {"keys": PacketKeys(AES_128, b"k" * 32)}], ids=["path", "number", "keys"]
)
def test_what_is_wrong_does_not_open(craft: Craft, wrong: dict[str, Any]) -> None:
    assert opened(craft.short(AT, [PING(), QuicPadding(more=bytes(20))], **wrong), 1, 42) is None


def test_wrong_numbers_are_only_wrong_numbers(craft: Craft) -> None:
    packet = craft.short(AT, [PING(), QuicPadding(more=bytes(20))], number=41)
    assert opened(packet, 1, 41) is not None


@pytest.mark.parametrize("size", [600, 1199, 1200, 1201])
def test_an_initial_has_its_size_and_opens(craft: Craft, size: int) -> None:
    packet = craft.initial([PING()], dcid=b"12345678", size=size)
    assert len(packet) == size
    header = read_header(packet, 0)
    assert (header.kind, header.dcid, header.end) == ("initial", b"12345678", size)
    keys = initial_keys(b"12345678")[0]
    first, number, octets = keys.unmask(packet, header.pn_offset)
    clear = bytes((first,)) + packet[1:header.pn_offset] + octets
    payload = keys.open(0, number, clear, packet[len(clear):])
    assert payload is not None and payload[:1] == b"\1"


def test_nas_is_ciphered_and_its_mac_is_as_told(craft: Craft) -> None:
    keys = NasKeys("ue", b"e" * 16, b"i" * 16)
    pdu = craft.nas(keys, "3gpp", True, 0x105, b"\x7e\0\x64\x6f")
    assert pdu[:2] == b"\x7e\2" and pdu[6] == 5
    assert nea2(keys.encryption, 0x105, 1, True, pdu[7:]) == b"\x7e\0\x64\x6f"
    assert pdu[2:6] == nia2(keys.integrity, 0x105, 1, True, pdu[6:])
    other = [craft.nas(keys, "3gpp", True, 0x105, b"\x7e\0\x64\x6f", **w) for w in ({"mac": bytes(4)}, {"mac_uplink": False},
                                                                                  {"mac_access": "non-3gpp"})]
    assert all(o[2:6] != pdu[2:6] and o[6:] == pdu[6:] for o in other) and len({o[2:6] for o in other}) == 3


def test_counts_are_taken_once(craft: Craft) -> None:
    assert [craft.count_take("3gpp", True, 7), craft.count_take("3gpp", True, 7), craft.count_take("3gpp", True, 20)] == [7, 8, 20]
    assert craft.count_take("3gpp", False, 7) == 7


def test_counters_keep_their_own_names() -> None:
    metrics = {"counters": {"n4.x": 1}, "engine": {"drops": {"auth_failed": 2}}, "list": [1], "flag": True}
    assert dict(_numbers(metrics)) == {"n4.x": 1, "auth_failed": 2}


def test_every_attack_says_what_must_happen() -> None:
    nodes = {"ue", "upf", "amf", "smf"}
    for name, attack in ATTACKS.items():
        assert name == attack.name and attack.rows and attack.counters and attack.about
        assert {c.partition(":")[0] for c in [*attack.counters, attack.accepted]} <= nodes
        assert all(least >= 1 for least in attack.counters.values())
    with pytest.raises(Misuse, match="no such attack"):
        named("nothing")


class Writer:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def test_the_relay_puts_in_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    amf, ue = Writer(), Writer()
    links = cast(Links, {38412: (amf, ue)})
    inject(b'{"port": 38412, "uplink": true, "pdu": "7e00"}', links, Tally())
    inject(b'{"port": 38412, "uplink": false, "pdu": "7e01ff"}', links, Tally())
    assert (amf.data, ue.data) == (b"\0\x02\x7e\0", b"\0\x03\x7e\x01\xff")
    for bad in (b"{", b"[]", b'{"port": 1, "uplink": true, "pdu": ""}', b'{"port": 38412, "uplink": true, "pdu": "x"}'):
        inject(bad, links, Tally())
    said = capsys.readouterr().out
    assert said.count('"injected"') == 2 and said.count("not_injected") == 4

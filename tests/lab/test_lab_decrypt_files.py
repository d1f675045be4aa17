"""R-172: captures and key logs that are not what a reader would like: `mpq inspect` decrypts what it can, and says what it cannot
and why. (Hostile ones: test_lab_hostile_captures.py; a million packets: tests/soak.)"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import Capture, Talk, two_paths

from lab import decrypt as d
from lab import inspect
from lab.pcapng import PcapngReader

PACKETS = 20


def stats(capsys: pytest.CaptureFixture[str], place: Path, capture: bytes, keylog: bytes) -> tuple[int, dict[str, Any]]:
    (place / "capture.pcapng").write_bytes(capture)
    (place / "keys.log").write_bytes(keylog)
    code = inspect.main([str(place), "--stats", "--json"])
    return code, json.loads(capsys.readouterr().out)


def reasons(document: dict[str, Any]) -> dict[str, int]:
    return {one["reason"]: one["count"] for one in document["not_decrypted"]}


def big_endian(capture: bytes) -> bytes:
    """The same capture as a machine of the other byte order writes it."""
    little = PcapngReader(io.BytesIO(capture))
    records = list(little)
    out = struct.pack(">IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    for _ in little.interfaces:
        out += struct.pack(">IIHHIHHB3xI", 1, 28, 1, 0, 0, 9, 1, 9, 28)
    for one in records:
        padded = one.data + bytes(-len(one.data) % 4)
        head = (6, 32 + len(padded), one.interface, one.time_ns >> 32, one.time_ns & 0xFFFFFFFF, len(one.data), len(one.data))
        out += struct.pack(">7I", *head) + padded + struct.pack(">I", 32 + len(padded))
    return out


def test_cut_off_in_a_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = two_paths(PACKETS)
    whole = stats(capsys, tmp_path, capture, keylog)[1]
    code, cut = stats(capsys, tmp_path, capture[:-100], keylog)
    assert code == 0 and cut["decrypted"] == cut["packets"] == whole["packets"] - 1
    assert any("the file ends inside a block" in reason for reason in reasons(cut))
    assert reasons(whole) == {}                             # canary: of the whole file nothing is told


def test_the_other_byte_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = two_paths(PACKETS)
    whole = stats(capsys, tmp_path, capture, keylog)[1]
    swapped = big_endian(capture)
    assert swapped[8:12] == capture[8:12][::-1]
    code, other = stats(capsys, tmp_path, swapped, keylog)
    same = ("packets", "decrypted", "inner_packets")
    assert code == 0 and [other[key] for key in same] == [whole[key] for key in same] and whole["decrypted"] > 2 * PACKETS


def test_a_foreign_key_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Initials need no key log; everything else says that its secret is missing."""
    capture, _ = two_paths(PACKETS)
    code, told = stats(capsys, tmp_path, capture, Talk(Capture(), seed=9).keylog())
    assert code == 0 and told["decrypted"] == 0 < told["packets"]
    assert set(reasons(told)) == {d.NO_SECRETS, d.NO_CID} and sum(reasons(told).values()) >= told["packets"]


def late(keep: int = 0) -> tuple[bytes, Talk]:
    """A capture that began when everything was said, but for the last `keep` things."""
    capture = Capture()
    talk = Talk(capture)
    capture.hold()
    talk.handshake()
    talk.announce()
    talk.validate()
    capture.held = capture.held[-keep:] if keep and capture.held else []
    capture.release()
    talk.data(PACKETS, {0: "3gpp", 1: "wifi"})
    return capture.bytes(), talk


def test_a_capture_that_starts_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which path a connection ID belongs to was told in packets that are not there: found by trying."""
    capture, talk = late()
    code, told = stats(capsys, tmp_path, capture, talk.keylog())
    assert code == 0 and told["decrypted"] == told["packets"] == 2 * PACKETS and set(told["paths"]) == {"0", "1"}
    code, closed = stats(capsys, tmp_path, capture, Talk(Capture(), seed=9).keylog())
    assert code == 0 and closed["decrypted"] == 0 and reasons(closed) == {d.NO_CID: 2 * PACKETS}


def test_a_path_that_cannot_be_found_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Path 40 is beyond those that are tried: its packets stay closed, all others open."""
    capture = Capture()
    talk = Talk(capture)
    capture.hold()
    talk.announce((40,))
    capture.held = None
    talk.data(PACKETS, {0: "3gpp", 40: "wifi"})
    code, told = stats(capsys, tmp_path, capture.bytes(), talk.keylog())
    assert code == 0 and told["decrypted"] == PACKETS and reasons(told) == {d.NO_CID: PACKETS}


OTHERS = {"modified pcap": struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1),
          "zip": b"PK\x03\x04" + bytes(60), "text": b"{}\n" * 40}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_what_is_no_pcapng_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    code, told = stats(capsys, tmp_path, content, b"")
    assert code == 1 and told["packets"] == 0 and [r for r in reasons(told) if r.startswith("capture: not pcapng")]


def test_key_logs_with_other_lines_among_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = two_paths(PACKETS)
    others = b"# comment\n\nRSA 0123 4567\nCLIENT_RANDOM " + b"00" * 32 + b" " + b"11" * 48 + b"\r\n"
    mixed = others + keylog.replace(b"\n", b"\r\n")
    code, told = stats(capsys, tmp_path, capture, mixed + b"\xff\xfe\x00junk")
    assert code == 0 and told["decrypted"] == told["packets"] > 2 * PACKETS

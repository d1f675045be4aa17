"""The table's fast lines against those made of one packet at a time: the same octets, whatever the packets hold."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
from synthetic_capture import Capture, Talk, http_datagram, ipv4, tcp4, udp4, udp6
from test_lab_clear_reader import events

from lab import inspect, inspect_table
from lab.capture_files import find_capture
from lab.inspect_expression import compile_expression
from lab.inspect_rows import HEADING, Filter, Inspection, row_document, row_line
from lab.packets import frames as f


def inner_packets(dice: random.Random) -> list[bytes]:
    """Whole ones, and such as no reader should trip over."""
    ports = dice.randrange(1 << 16), dice.randrange(1 << 16)
    body = bytes(dice.randrange(60))
    tcp = tcp4("10.45.0.2", ports[0], "10.99.0.2", ports[1], dice.randrange(1 << 32), body)
    udp = udp4("10.99.0.2", ports[0], "10.45.0.2", ports[1], body)
    six = udp6("fd45::2", ports[0], "fd99::2", ports[1], body)
    whole = [tcp, udp, six, six[:6] + b"\x06" + six[7:40] + tcp[20:], six[:6] + b"\x3a" + six[7:],
             ipv4("10.0.0.1", "10.0.0.2", 1, body)]
    one = bytearray(dice.choice(whole))
    for _ in range(dice.choice((0, 0, 1, 3))):
        one[dice.randrange(min(len(one), 60))] = dice.randrange(256)
    if not dice.randrange(6):
        del one[dice.randrange(1, len(one)):]
    fragment, options = bytearray(tcp), bytearray(tcp)
    fragment[6:8] = struct.pack("!H", dice.choice((0x2000, 0x0007, 0x4000, 0x8000)))
    options[0] = dice.choice((0x44, 0x46, 0x4F, 0x55))
    longer = bytearray(udp)
    longer[2:4], longer[24:26] = (struct.pack("!H", dice.choice((0, 30, 50, dice.randrange(2000)))) for _ in range(2))
    return [*whole, bytes(one), bytes(fragment), bytes(options), bytes(longer)]


def ack(dice: random.Random) -> f.Frame:
    high = dice.randrange(2000, 1 << 20)
    ranges = [(high - dice.choice((0, 3, 500)), high)]
    for _ in range(dice.choice((0, 0, 1, 4, 7))):
        top = ranges[-1][0] - 2 - dice.randrange(4)
        ranges.append((top - dice.randrange(3), top))
    ecn = dice.choice((None, (1, 2, 3)))
    return f.PathAck(ranges, 5, ecn, dice.choice((0, 1, 70))) if dice.randrange(2) else f.Ack(ranges, 5, ecn)


def frames_of(dice: random.Random) -> list[f.Frame]:
    data: list[f.Frame] = [
        http_datagram(dice.choice(inner_packets(dice)), dice.choice((0, 4, 100)), dice.choice((0, 0, 0, 2, 5)), True)
        for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 14)))]
    if data and dice.randrange(2):
        data.append(ack(dice))
    elif not data:
        data = [ack(dice) for _ in range(dice.choice((1, 1, 2)))]
    if not dice.randrange(5):
        dice.shuffle(data)
    if not dice.randrange(5):
        data.insert(dice.randrange(len(data) + 1), dice.choice((f.Padding(9), f.Ping(), f.Stream(4, b"abc", 5), f.MaxData(5),
                                                              f.Datagram(b"", True), f.Datagram(b"\xff", True))))
    if not dice.randrange(3):
        data.append(http_datagram(dice.choice(inner_packets(dice))))
    return data


def capture_of(seed: int, directory: Path) -> str:
    dice = random.Random(seed)
    capture = Capture((1, 101)[seed % 2])
    talk = Talk(capture, seed=seed)
    talk.handshake()
    talk.announce()
    talk.validate()
    for i in range(220):
        up, path = bool(dice.randrange(2)), dice.randrange(2)
        if i in (70, 150):
            talk.key_update(up)
        talk.send(up, dice.choice(("3gpp", "wifi")), talk.short(up, path, frames_of(dice)))
    (directory / "keys.log").write_bytes(talk.keylog())
    (directory / "capture.pcapng").write_bytes(capture.bytes())
    return str(directory)


def slowly(directory: str, wanted: Filter, as_json: bool) -> str:
    inspection = Inspection(find_capture([directory]), None)
    rows = list(inspection.rows(wanted))
    start = inspection.start_ns
    assert start is not None
    if as_json:
        return json.dumps({"packets": [row_document(row, start) for row in rows], "shown": len(rows), "problem": None}) + "\n"
    return "".join(line + "\n" for line in (HEADING, *(row_line(row, start) for row in rows)))


def quickly(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert inspect.main([*argv]) == 0
    return capsys.readouterr().out


def longer_ways(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records that went the long way."""
    gone, real = [], inspect_table.Table._long

    def spy(self: inspect_table.Table, run: inspect_table.PlainRun, row: inspect_table.Row, start_ns: int) -> str:
        gone.append(row[3])
        return real(self, run, row, start_ns)

    monkeypatch.setattr(inspect_table.Table, "_long", spy)
    return gone


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("as_json", [False, True])
def test_lines_are_those_of_the_packets(
        seed: int, as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory = capture_of(seed, tmp_path)
    gone = longer_ways(monkeypatch)
    shown = quickly(capsys, directory, *(["--json"] if as_json else []))
    assert shown == slowly(directory, Filter(), as_json)
    assert 10 < len(gone) < 110, "canary: most went the short way, some the long one"
    if as_json:
        assert len(json.loads(shown)["packets"]) > 220


@pytest.mark.parametrize(("argv", "wanted"), [
    (["--path", "1"], Filter(path=1)), (["--path", "7"], Filter(path=7)),
    *((["--frame", name], Filter(frame=name)) for name in ("DATAGRAM", "PATH_ACK", "ACK", "PADDING", "PING", "STREAM", "MAX_DATA",
                                                         "CRYPTO", "PATH_CHALLENGE")),
    (["--inner", "tcp"], Filter(inner=compile_expression("tcp"))),
    (["--inner", "udp and ip6", "--path", "0", "--frame", "ACK"],
     Filter(0, "ACK", compile_expression("udp and ip6"))),
])
def test_filters_pick_the_same(
        argv: list[str], wanted: Filter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = capture_of(9, tmp_path)
    shown = quickly(capsys, directory, *argv)
    assert shown == slowly(directory, wanted, False)
    assert (len(shown.splitlines()) > 1) == (argv[1] != "7") and len(shown.splitlines()) < 221


def test_times_pick_the_same(tmp_path: Path) -> None:
    directory = capture_of(9, tmp_path)
    whole = Inspection(find_capture([directory]), None)
    times = [row.time_ns for row in whole.rows(Filter())]
    wanted = Filter(between=(times[60], times[130]))
    inspection = Inspection(find_capture([directory]), None)
    lines = [line for some in inspect_table.table(inspection, wanted, False) for line in some]
    assert HEADING + "\n" + "".join(lines) == slowly(directory, wanted, False)
    assert len(lines) >= 71 and inspection.stats == whole.stats and inspection.start_ns == times[0]


@pytest.mark.parametrize("limit", [1, 5, 100])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_limit_cuts_batches(limit: int, as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = capture_of(3, tmp_path)
    shown = quickly(capsys, directory, "--limit", str(limit), *(["--json"] if as_json else []))
    whole = slowly(directory, Filter(), as_json)
    if as_json:
        told = json.loads(shown)
        assert told["shown"] == limit and told["packets"] == json.loads(whole)["packets"][:limit]
    else:
        assert shown.splitlines() == whole.splitlines()[:limit + 1]


@pytest.mark.parametrize("spoilt_octets", [0, 12])
def test_strange_frames_and_a_spoilt_capture(spoilt_octets: int, tmp_path: Path) -> None:
    capture, keylog = events(seed=2)
    dice, spoilt = random.Random(5), bytearray(capture)
    for _ in range(spoilt_octets):
        spoilt[dice.randrange(400, len(spoilt))] = dice.randrange(256)
    (tmp_path / "keys.log").write_bytes(keylog)
    (tmp_path / "capture.pcapng").write_bytes(spoilt)
    slow = Inspection(find_capture([str(tmp_path)]), None)
    rows = list(slow.rows(Filter()))
    start = slow.start_ns
    assert start is not None
    fast = Inspection(find_capture([str(tmp_path)]), None)
    lines = [line for some in inspect_table.table(fast, Filter(), False) for line in some]
    assert lines == [row_line(row, start) + "\n" for row in rows] and len(lines) > 60
    assert (fast.problem, fast.unreadable, fast.stats) == (slow.problem, slow.unreadable, slow.stats)
    made = inspect_table.Table(fast.interfaces, as_json=True)
    assert [json.loads(made.line(row, start)) for row in rows] == [row_document(row, start) for row in rows]


@pytest.mark.parametrize(("name", "wrong"), [
    ("FLAGS", [""] * 256), ("PATH_ACK_BITS", 0), ("TCP", 17), ("IPV4", struct.Struct("!H4xHxB2x12sI4xBB")),
    ("ranges_words", lambda ranges: ""), ("FRAMES_SHOWN", 99)])
def test_a_line_that_says_something_else_is_seen(
        name: str, wrong: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Canary of the comparison."""
    directory = capture_of(1, tmp_path)
    whole = slowly(directory, Filter(), False)
    assert quickly(capsys, directory) == whole
    monkeypatch.setattr(inspect_table, name, wrong)
    assert quickly(capsys, directory) != whole


def test_pairs_of_ends_are_forgotten_when_there_are_many(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory = capture_of(1, tmp_path)
    tables: list[inspect_table.Table] = []
    real = inspect_table.Table.__init__

    def spy(self: inspect_table.Table, *arguments: object) -> None:
        tables.append(self)
        real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(inspect_table.Table, "__init__", spy)
    monkeypatch.setattr(inspect_table, "ENDS_MAX", 3)
    assert quickly(capsys, directory) == slowly(directory, Filter(), False)
    assert [len(one._ends) <= 3 for one in tables] == [True]


def test_a_name_of_an_interface_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = Path(capture_of(1, tmp_path))
    octets = (directory / "capture.pcapng").read_bytes()
    assert b"3gpp" in octets
    (directory / "capture.pcapng").write_bytes(octets.replace(b"3gpp", b'"%s\\', 1))
    for as_json in (False, True):
        shown = quickly(capsys, str(directory), *(["--json"] if as_json else []))
        assert shown == slowly(str(directory), Filter(), as_json)
    assert {one["interface"] for one in json.loads(shown)["packets"]} == {'ue/"%s\\', "ue/wifi"}

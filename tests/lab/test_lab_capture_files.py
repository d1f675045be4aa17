"""A ring of files, or several files, read as one capture: what the same packets in one file would give; what is missing is said."""

from __future__ import annotations

import io
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import Capture, Talk, records_of

from lab import inspect
from lab.capture_files import InspectError, find_capture, of_files, ring_files
from lab.capture_scan import REPEATED, CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.inspect_stats import inspect_stats
from lab.packets import frames as f
from lab.packets.link import read_link
from lab.pcapng import INTERFACES_MAX, Interfaces, PcapngReader, PcapngWriter, Record, Statistics


def session(packets: int = 24) -> tuple[Capture, bytes]:
    """Two connections, one after the other, on two paths each."""
    capture, keylog = Capture(), b""
    for seed in (0, 1):
        talk = Talk(capture, seed)
        talk.handshake()
        talk.announce()
        talk.validate()
        talk.data(packets, {0: "3gpp", 1: "wifi"})
        keylog += talk.keylog()
    return capture, keylog


def is_handshake(record: Record) -> bool:
    flow = read_link(1, record.data)
    return flow is not None and bool(flow.payload[0] & 0x80)


def write_file(path: Path, records: list[Record], repeated: list[Record], keylog: bytes) -> None:
    """As native/src/capture_file.c does: secrets, interfaces, the handshakes so far, packets, statistics."""
    with path.open("wb") as out, PcapngWriter(out) as writer:
        writer.secrets(keylog)
        for name in ("ue/3gpp", "ue/wifi"):
            writer.interface(1, name)
        for record in repeated:
            writer.packet(record.interface, record.time_ns, record.data, REPEATED)
        for record in records:
            writer.packet(record.interface, record.time_ns, record.data)
        for interface in (0, 1):
            writer.statistics(interface, Statistics(5, len(records), interface, None))


def write_ring(directory: Path, files: int, stem: str = "capture", first: int = 1, packets: int = 24) -> tuple[list[Path], Path]:
    """A ring, and beside it the same packets in one file."""
    capture, keylog = session(packets)
    records = records_of(capture.bytes())
    directory.mkdir(exist_ok=True)
    each = -(-len(records) // files)
    paths, repeated = [], []
    for number in range(files):
        some = records[number * each:(number + 1) * each]
        paths.append(directory / f"{stem}_{first + number:05}_20261127T08000{number % 10}Z.pcapng")
        write_file(paths[-1], some, repeated, keylog)
        repeated = repeated + [record for record in some if is_handshake(record)]
    one = directory / "one.pcapng"
    write_file(one, records, [], keylog)
    return paths, one


def output(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = inspect.main([str(one) for one in argv])
    out, err = capsys.readouterr()
    return code, out, err


def stats(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[dict[str, Any], str]:
    code, out, err = output(capsys, *argv, "--stats", "--json")
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told, err


def told_of(document: dict[str, Any]) -> list[Any]:
    """All that does not name a file."""
    return [value for name, value in document.items() if name not in ("capture", "qlog", "files")]


def lost(document: dict[str, Any]) -> int:
    """Packets, of all paths of all connections, both ways."""
    return sum(path[way]["lost"] for one in document["connections"] for path in one["paths"] for way in ("up", "down"))


@pytest.mark.parametrize("native", [True, False])
def test_a_ring_is_one_capture(tmp_path: Path, native: bool) -> None:
    paths, one = write_ring(tmp_path, 5)
    found = []
    for source in (of_files(paths), of_files([one])):
        reader = CaptureDecryptor(source, KeyLog(), native=native)
        found.append([(p.time_ns, p.up, p.kind, p.connection, p.path, p.number, p.payload, p.reason, p.interface)
                      for p in reader.packets()])
        assert reader.problem == "" and reader.notices == [] and len(reader.interfaces) == 2
        assert reader.statistics[1].dropped == len(source.parts)        # each file's own, summed up
        assert reader.repeated > 0 or len(source.parts) == 1
    assert found[0] == found[1] and len(found[0]) > 100


def test_figures_and_tables_of_a_ring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, one = write_ring(tmp_path, 4)
    ring, err = stats(capsys, tmp_path)
    assert err == "" and told_of(ring) == told_of(stats(capsys, one)[0]) and ring["decrypted"] == ring["packets"] > 100
    assert told_of(stats(capsys, *paths)[0]) == told_of(stats(capsys, *reversed(paths))[0]) == told_of(ring)
    assert told_of(stats(capsys, tmp_path / "capture")[0]) == told_of(ring)         # as `mpq capture --ring -o` was told
    assert ring["capture"]["dropped"] == {"ue/3gpp": 0, "ue/wifi": 4}
    firsts = [(part["first"], part["packets"]) for part in ring["files"]]
    assert all(first + count == after for (first, count), (after, _) in pairwise(firsts))
    for view in (["--dropped"], ["--flow-graph"], ["--follow", "udp"], ["--frame", "PATH_CHALLENGE"]):
        (code, many, _), (_, single, _) = output(capsys, tmp_path, *view), output(capsys, one, *view)
        assert code == 0 and len(many.splitlines()) == len(single.splitlines()) > 0
    told, single_file = inspect_stats(tmp_path), inspect_stats(one)
    assert told == single_file
    shown = output(capsys, tmp_path, "--stats")[1]
    assert "4 files, read as one capture:" in shown and f"{paths[2].name}: No. {firsts[2][0]} to " in shown
    assert "read as one capture" not in output(capsys, one, "--stats")[1]


def test_a_packet_is_found_in_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, _ = write_ring(tmp_path, 4)
    parts = stats(capsys, tmp_path)[0]["files"]
    number = parts[2]["first"] + parts[2]["packets"] - 1
    code, out, _ = output(capsys, tmp_path, "--packet", number)
    assert code == 0 and f"packet {number} (No. {parts[2]['packets']} of {paths[2].name}):" in out and "DATAGRAM" in out
    alone = output(capsys, paths[2], "--packet", parts[2]["packets"])[1]
    assert alone.partition("\n")[2] == out.partition("\n")[2]               # the same one in Wireshark


def test_export_and_scapy_take_a_ring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lab.clear import clear_packets

    paths, one = write_ring(tmp_path / "ring", 3)
    counts = [json.loads(output(capsys, target, "--export", tmp_path / "out.pcapng", "--json")[1])["packets"]
              for target in (tmp_path / "ring", one)]
    assert counts[0] == counts[1] and sum(counts[0].values()) == 96
    before = paths[1].read_bytes()
    assert output(capsys, tmp_path / "ring", "--export", paths[1])[0] == 2 and paths[1].read_bytes() == before
    assert sum(clear.told.reason == "" for clear in clear_packets(tmp_path / "ring")) == sum(1 for _ in clear_packets(one))


def test_what_is_gone_at_the_front_is_said_and_the_rest_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, _ = write_ring(tmp_path, 6)
    for path in paths[:2]:
        path.unlink()
    told, err = stats(capsys, tmp_path)
    assert "the ring begins at file 3" in err and told["packets"] == told["decrypted"] > 60
    assert lost(told) == 0


def test_a_hole_in_the_middle_is_no_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, one = write_ring(tmp_path, 6)
    whole = stats(capsys, tmp_path)[0]
    paths[1].unlink()
    told, err = stats(capsys, tmp_path)
    assert "file 2 of the ring is missing" in err
    assert told["packets"] == told["decrypted"] < whole["packets"] and lost(told) == 0
    # canary: the same packets in one file, which says nothing of a hole, look like a loss
    kept = [record for path in [paths[0], *paths[2:]] for record in records_of(path.read_bytes()) if record.comment != REPEATED]
    write_file(one, kept, [], session()[1])
    assert lost(stats(capsys, one)[0]) > 0


@pytest.mark.parametrize("damage", ["cut", "block", "empty", "no capture", "unreadable"])
def test_a_damaged_file_in_the_middle_is_named_and_the_rest_is_read(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    paths, _ = write_ring(tmp_path, 5)
    whole = paths[2].read_bytes()
    clean = stats(capsys, tmp_path)[0]
    if damage == "cut":
        paths[2].write_bytes(whole[:len(whole) // 2])
    elif damage == "block":
        at = 0
        while at < len(whole) // 2:
            at += int.from_bytes(whole[at + 4:at + 8], "little")
        paths[2].write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8:])
    elif damage == "empty":
        paths[2].write_bytes(b"")
    elif damage == "no capture":
        paths[2].write_bytes(b"GIF89a and so on")
    else:
        paths[2].unlink()
        paths[2].symlink_to(tmp_path / "nowhere")
    told, err = stats(capsys, *paths) if damage != "unreadable" else stats(capsys, tmp_path)
    assert f"{paths[2].name}: " in err and "Traceback" not in err
    parts = [part["problem"] for part in told["files"]]
    assert parts[2] and not any(parts[:2] + parts[3:])
    assert clean["packets"] > told["packets"] == told["decrypted"] >= clean["packets"] - clean["files"][2]["packets"] - 1
    assert lost(told) == 0
    for view in ([], ["--dropped"], ["--follow", "udp"], ["--flow-graph"]):
        assert output(capsys, tmp_path, *view)[0] == 0
    assert any("capture: " in one["reason"] and paths[2].name in one["reason"] for one in told["not_decrypted"])


def test_a_file_that_was_renamed_meanwhile_is_read(tmp_path: Path) -> None:
    """A ring goes on: its newest file loses `.part` between the list and the reading; its oldest one goes."""
    paths, _ = write_ring(tmp_path, 3)
    last = paths[2].rename(paths[2].with_name(paths[2].name + ".part"))
    files = find_capture(str(tmp_path))
    last.rename(paths[2])
    paths[0].unlink()
    reader = CaptureDecryptor(files, KeyLog())
    count = sum(not packet.reason for packet in reader.packets())
    assert reader.problem == f"{paths[0].name}: it is gone" and count > 50
    assert [part.problem for part in files.parts] == ["it is gone", "", ""]


def test_files_that_overlap_are_read_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = session()
    records = records_of(capture.bytes())
    for index, record in enumerate(records):
        record.time_ns += index * 100_000_000
    half = len(records) // 2
    for name, some in (("a.pcapng", records[:half]), ("b.pcapng", records[half:])):
        write_file(tmp_path / name, some, [], keylog)
    assert stats(capsys, tmp_path / "a.pcapng", tmp_path / "b.pcapng")[1] == ""
    assert "b.pcapng" not in stats(capsys, tmp_path / "b.pcapng")[1]
    assert "a.pcapng begins" in stats(capsys, tmp_path / "b.pcapng", tmp_path / "a.pcapng")[1]


def test_many_files_have_as_many_interfaces_as_one(tmp_path: Path) -> None:
    """Else a ring of days would come to the limit of interfaces, and no packet be read behind it."""
    capture, keylog = session(2)
    write_file(tmp_path / "f", records_of(capture.bytes()), [], keylog)
    data = (tmp_path / "f").read_bytes()
    reader = PcapngReader(io.BytesIO(data * (INTERFACES_MAX // 2 + 2)))
    count = sum(1 for _ in reader)
    assert len(reader.interfaces) == 2 and reader.skipped == 0 and count == len(records_of(data)) * (INTERFACES_MAX // 2 + 2)


def test_interfaces_that_are_alike_in_one_section_stay_apart(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    for name in ("x", "x", "y"):
        writer.interface(1, name)
    for interface in (0, 1, 2):
        writer.packet(interface, interface, b"abcd")
        writer.statistics(interface, Statistics(1, None, 5, None))
    reader = PcapngReader(io.BytesIO(stream.getvalue() * 2))
    assert [record.interface for record in reader] == [0, 1, 2, 0, 1, 2] and len(reader.interfaces) == 3
    assert {n: s.dropped for n, s in reader.statistics.items()} == {0: 10, 1: 10, 2: 10}


def test_statistics_of_a_section_replace_each_other_and_those_of_sections_add_up() -> None:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1, "x")
    for dropped in (3, 5):                      # the later one of a section has all of it
        writer.statistics(0, Statistics(dropped, 9, dropped, None))
    reader = PcapngReader(io.BytesIO(stream.getvalue() * 3))
    reader.scan()
    assert reader.statistics == {0: Statistics(5, 27, 15, None)} and reader.sections == 3


class Uncopied(dict[int, Statistics]):
    """Statistics that are looked up, never gone through."""

    def __iter__(self) -> Any:
        raise AssertionError("all statistics were gone through for one section")

    keys = __iter__


def test_a_section_costs_nothing_for_the_interfaces_before_it() -> None:
    """A hostile file has millions of sections behind thousands of interfaces with statistics."""
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1, "x")
    writer.statistics(0, Statistics(1, 1, 1, 1))
    reader = PcapngReader(io.BytesIO(stream.getvalue() * 50), Interfaces(statistics=Uncopied()))
    reader.scan()
    assert reader.sections == 50 and reader.problem == "" and reader.statistics[0].dropped == 50
    with pytest.raises(AssertionError):         # canary
        dict(reader.statistics)


@pytest.mark.parametrize(("argv", "text"), [
    (["one", "nowhere"], "nowhere: there is no such capture"),
    (["one", "one"], "named twice"),
    (["one", "dir"], "dir: there is no such capture"),
    (["rin"], "there is no such run or capture"),
])
def test_files_that_are_none(tmp_path: Path, argv: list[str], text: str) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "one").touch()
    with pytest.raises(InspectError, match=text):
        find_capture([str(tmp_path / one) for one in argv])


def test_a_qlog_goes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ue.sqlog").touch()
    assert output(capsys, tmp_path / "ue.sqlog", tmp_path / "ue.sqlog")[0] == 2


def test_names_of_a_ring(tmp_path: Path) -> None:
    """By number, not by letters; a scenario's ring before those of `mpq capture`, of these the newest with all of its files."""
    for number in (99999, 100000, 9):
        (tmp_path / f"capture_{number:05}_20261127T080000Z.pcapng").touch()
    (tmp_path / "capture_00003.txt").touch()
    assert [path.name.split("_")[1] for path in ring_files(tmp_path)] == ["00009", "99999", "100000"]
    assert len(find_capture(str(tmp_path)).parts) == 3
    for path in ring_files(tmp_path):
        path.unlink()
    for second, stem in enumerate(("capture-20261127T080000Z-1", "capture-20261127T080000Z-2")):
        for number in (1, 2):
            path = tmp_path / f"{stem}_{number:05}_20261127T080000Z.pcapng{'.part' if number == 2 else ''}"
            path.touch()
            os.utime(path, (second, second))
    assert [part.path.name.split("_")[0] for part in find_capture(str(tmp_path)).parts] == ["capture-20261127T080000Z-2"] * 2
    single = tmp_path / "capture-20261127T080000Z-3.pcapng"
    single.touch()
    assert [part.path for part in find_capture(str(tmp_path)).parts] == [single]


def test_connection_ids_are_carried_from_file_to_file(tmp_path: Path) -> None:
    """A path of which an earlier file tells the connection ID: the file by itself must guess, the ring knows."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce(tuple(range(1, 12)))
    front = len(records_of(capture.bytes()))
    for path in range(1, 12):
        talk.send(True, "wifi", talk.short(True, path, [f.Ping(), f.Padding(20)]))
    records = records_of(capture.bytes())
    paths = [tmp_path / f"capture_0000{number}_Z.pcapng" for number in (1, 2)]
    write_file(paths[0], records[:front], [], talk.keylog())
    write_file(paths[1], records[front:], [], talk.keylog())
    opened = [sum(packet.kind == "1rtt" and not packet.reason for packet in CaptureDecryptor(of_files(some), KeyLog()).packets())
              for some in (paths, paths[1:])]
    assert opened[0] >= 11 > opened[1]


@pytest.mark.parametrize("native", [True, False])
def test_what_one_file_shows_twice_another_one_shows_alone(tmp_path: Path, native: bool) -> None:
    """Each file has two interfaces; the same one is a second sight in the first file, and all there is in the second."""
    keylog, paths = KeyLog(), []
    for seed, named in enumerate((("ue/3gpp", "3gpp:wire"), ("3gpp:wire", "eth0"))):
        capture = Capture()
        talk = Talk(capture, seed)
        talk.handshake()
        keylog.add(talk.keylog())
        paths.append(tmp_path / f"{seed}.pcapng")
        with paths[-1].open("wb") as out, PcapngWriter(out) as writer:
            for name in named:
                writer.interface(1, name)
            for record in records_of(capture.bytes()):
                for interface in (0, 1) if seed == 0 else (0,):
                    writer.packet(interface, record.time_ns, record.data)
    reader = CaptureDecryptor(of_files(paths), keylog, native=native)
    found = [(packet.connection, packet.up, packet.kind, packet.number) for packet in reader.packets() if not packet.reason]
    assert {connection for connection, *_ in found} == {0, 1}
    assert len(found) == len(set(found))                                # none of them twice

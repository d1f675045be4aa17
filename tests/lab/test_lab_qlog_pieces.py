"""The fast way through a qlog against the plain one, record by record, also through logs that somebody wrote to break it; and what
`mpq inspect --stats` says of what records lack."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from test_lab_inspect_views import Scene, document

from lab.inspect import main
from lab.inspect_fates import Fates
from lab.inspect_lacks import capture_lacks, lacks_lines, qlog_lacks
from lab.inspect_qlog import _TAKERS, Logs
from lab.inspect_run import RunRecord
from lab.pcapng import Interface, Statistics
from lab.qlog_file import RECORD_MAX, QlogFile

HEAD = {"file_schema": "urn:ietf:params:qlog:file:sequential", "trace": {"vantage_point": {"name": "ue", "type": "client"}}}


def line(number: int, *, ms: str = "27918930.868", group: str = "37d5b7e81fa823bd", received: bool = False, path: int = 0,
         length: int = 84, frames: str = ',"frames":[{"frame_type":"datagram"}]', phase: str = "") -> bytes:
    """As the engine writes a data packet."""
    tuple_id = f'"tuple":"{path}",' if path else ""
    where = f',"path_id":{path}' if path else ""
    return (f'{{"time":{ms},"group_id":"{group}",{tuple_id}"name":"quic:packet_{"received" if received else "sent"}","data":'
            f'{{"header":{{"packet_type":"1RTT"{phase}{where},"packet_number":{number}}},"raw":{{"length":{length}}}{frames}}}}}\n').encode()


def write(path: Path, lines: list[bytes], head: dict = HEAD) -> QlogFile:
    path.write_bytes(b"".join(b"\x1e" + one for one in [json.dumps(head).encode() + b"\n", *lines]))
    return QlogFile(path)


def slowly(file: QlogFile) -> Logs:
    """Every record by JSON, none by the look of its line."""
    logs = Logs()
    for record in file:
        if record.name in _TAKERS:
            _TAKERS[record.name](logs, record, True)
    return logs


def told(logs: Logs) -> list:
    return sorted((key, number, str(fate)) for key, number, fate in logs.fates)


def same(file: QlogFile) -> Logs:
    slow = slowly(file)
    of_itself = (file.malformed, file.lost, file.full_ns)
    for mark in (b"ping", b"packets_acked", b"nowhere"):
        wanted = [record for record in file if mark in record.raw]
        assert [record for record in file.with_mark(mark) if mark in record.raw] == wanted
        assert (file.malformed, file.lost, file.full_ns) == of_itself
    fast = Logs()
    fast.read(file)
    assert (file.malformed, file.lost, file.full_ns) == of_itself
    assert told(fast) == told(slow) and fast.drops == slow.drops and fast.fates.refused == slow.fates.refused
    return fast


def left(file: QlogFile) -> list[bytes]:
    """Records that the engine leaves to JSON."""
    fates = Fates(1)
    logs = Logs(fates=fates)
    out = []
    for record in file.left_by(lambda octets, at: fates.take(octets, at, True)):
        out.append(record.raw)
        if record.name in _TAKERS:
            _TAKERS[record.name](logs, record, True)
    return out


ACKED = b'{"time":27918931.000,"group_id":"37d5b7e81fa823bd","name":"quic:packets_acked","data":{"packet_numbers":[1,2,3]}}\n'
METRICS = (b'{"time":27918931.000,"group_id":"37d5b7e81fa823bd","name":"quic:recovery_metrics_updated","data":{"path_id":0,'
           b'"min_rtt":10.106,"pto_count":0}}\n')
FRAMES = (b'{"time":27918931.250,"group_id":"37d5b7e81fa823bd","tuple":"1","name":"quic:packet_received","data":{"header":{'
          b'"packet_type":"1RTT","packet_number":1025,"path_id":1},"raw":{"length":42},"frames":[{"frame_type":"path_ack","path_id":1,"ack_delay":0.960,'
          b'"acked_ranges":[[323,509]],"ect0":506,"ce":0,"raw":{"length":13}},{"frame_type":"ping"}]}}\n')
RECORDS_LOST = b'{"time":27918931.000,"name":"mpquic:records_lost","data":{"count":3}}\n'
LOG_FULL = b'{"time":27918931.000,"name":"mpquic:log_full","data":{"octets":5}}\n'
OTHERS = [
    ACKED, METRICS, FRAMES, RECORDS_LOST, LOG_FULL,
    b'{"time":27918931.000,"group_id":"37d5b7e81fa823bd","tuple":"1","name":"quic:packets_acked","data":{"path_id":1,'
    b'"packet_numbers":[0,98,99,100,101,900]}}\n',
    b'{"time":27918931.000,"group_id":"37d5b7e81fa823bd","name":"quic:packet_lost","data":{"header":{"packet_type":"1RTT",'
    b'"packet_number":7},"trigger":"time_threshold"}}\n', b"{]\n", b"\n", b"",
]


@pytest.mark.parametrize("seed", range(8))
def test_the_fast_way_reads_what_the_plain_one_reads(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    lines, number = [], dice.choice([0, 8, 97, 998])
    while len(lines) < 1500:
        options = dict(ms=f"{27918930 + dice.randrange(3)}.{dice.randrange(1000):03}", path=dice.randrange(3),
                       received=dice.random() < 0.5, length=dice.randrange(40, 1500), phase=dice.choice(["", ',"key_phase":1']),
                       frames=dice.choice(["", ',"frames":[{"frame_type":"datagram"}]', ',"frames":[{"frame_type":"ping"}]']))
        for _ in range(dice.randrange(1, 12)):
            lines.append(line(number, **options))
            number += dice.choice([1, 1, 1, 1, 2, -3])
        lines += [dice.choice(OTHERS)] * (dice.random() < 0.2)
    logs = same(write(tmp_path / "ue.sqlog", lines))
    assert len(logs.fates) > 300


@pytest.mark.parametrize("seed", range(8))
def test_a_log_with_broken_lines_is_read_alike(tmp_path: Path, seed: int) -> None:
    """Octets flipped, cut, doubled: among lines that look alike, where a reader by their look could be led astray."""
    dice, lines = random.Random(seed), []
    for number in range(1200):
        octets = bytearray(dice.choice([line(number), line(number), *OTHERS[:7]]))
        for _ in range(dice.choice([0, 0, 0, 1, 1, 2])):
            at = dice.randrange(len(octets))
            kind = dice.randrange(4)
            if kind == 0:
                octets[at] = dice.choice(b'0123456789.,:{}[]"aE-+ \x00\xff')
            elif kind == 1:
                del octets[at:at + dice.randrange(1, 9)]
            elif kind == 2:
                octets[at:at] = octets[at:at + dice.randrange(1, 9)]
            else:
                octets[at:at] = dice.choice([b"0", b"-", b"1e9", b" ", b"\n"])
        lines.append(bytes(octets))
    same(write(tmp_path / "ue.sqlog", lines))


@pytest.mark.parametrize(
    "text", ["007", "-1", "1.0", "1e3", "99999999999999999999", " 5", "5 ", "\u0665", "", "true", "4611686018427387904"])
def test_a_packet_number_that_is_none_behind_lines_that_look_alike(tmp_path: Path, text: str) -> None:
    odd = line(5).replace(b'"packet_number":5}', b'"packet_number":' + text.encode() + b"}")
    logs = same(write(tmp_path / "ue.sqlog", [line(3), line(4), odd, line(6)]))
    assert {3, 4, 6} <= {number for _, number, _ in logs.fates}


VALUES = [
    '[]', '{}', '[{"a":[]},{}]', '"x"', '-0', '-1.25', '1e5', '01', '1.', '.5', '-', '+1', '[1,]', '[,1]', '{"a"}', '{"a":}',
    '{"a":1,}', '{1:2}', '"\\u0041"', '"\\x"', '"\x7f"', '"\x01"', '"ü"', '"',
    'nul', 'true', 'false', 'null', 'NaN', '-Infinity', '[1 ,2]',
    ' []', '[[[[[[[[[[]]]]]]]]]]', '9' * 19, '9' * 20, '9' * 5000, '1.' + '0' * 400, '[' * 1000, '{"a":1,"a":2}', '[]}', '[]}}\n',
    '[],"x":1', '[],"header":{"packet_number":9}',
]
NUMBERS = ["", "1,", "01", "-1", "1.0", "4611686018427387904", "1,2,4611686018427387903", "true", "[1]", "1 ,2"]


@pytest.mark.parametrize("place", ["frames", "metrics"])
def test_what_is_passed_over_is_passed_over_as_json_has_it(tmp_path: Path, place: str) -> None:
    lines = [line(0)]
    for number, value in enumerate(VALUES, 1):
        metrics = METRICS.replace(b'"pto_count":0', b'"pto_count":' + value.encode())
        lines.append(line(number, frames=f',"frames":{value}') if place == "frames" else metrics)
    file = write(tmp_path / "ue.sqlog", lines)
    same(file)
    # canary: there are of both kinds
    assert 10 < file.malformed < len(VALUES) - 10


@pytest.mark.parametrize("numbers", NUMBERS)
def test_acknowledged_numbers_are_taken_all_or_by_json(tmp_path: Path, numbers: str) -> None:
    acked = ACKED.replace(b"[1,2,3]", b"[7,8," + numbers.encode() + b"]")
    same(write(tmp_path / "ue.sqlog", [line(7), acked, line(9)]))


def test_plain_records_are_taken_many_at_a_time(tmp_path: Path) -> None:
    """Canary: what is fast is taken, and only the first of each space is left."""
    plain = [line(n) for n in range(95, 105)] + [METRICS, ACKED, line(106, path=2, received=True), FRAMES]
    last = RECORDS_LOST           # no record stands behind the last one, so it is left, too
    file = write(tmp_path / "ue.sqlog", [*plain * 1000, last])
    assert left(file) == [plain[0], plain[12], FRAMES, last]
    assert [one.raw for one in file.with_mark(b"path_ack")] == [FRAMES] * 1000 + [last]
    assert left(write(tmp_path / "ue.sqlog", [line(1, group="AB"), line(2, group="AB"), line(3, ms="1.5"), last])) != [last]


def test_a_record_that_is_too_long_is_malformed_for_both(tmp_path: Path) -> None:
    for octets in (RECORD_MAX - 1, RECORD_MAX, RECORD_MAX + 1):
        frames = ',"frames":["' + "x" * (octets - len(line(1, frames=',"frames":[""]'))) + '"]'
        file = write(tmp_path / "ue.sqlog", [line(0), line(1, frames=frames), line(2)])
        assert (len(same(file).fates), file.malformed) == ((3, 0) if octets <= RECORD_MAX else (2, 1))


def test_packets_beyond_the_table_are_counted(tmp_path: Path) -> None:
    lines = [line(n) for n in range(100)]
    logs = Logs(fates=Fates(7, 60))
    logs.read(write(tmp_path / "ue.sqlog", [*lines, *lines]))
    assert len(logs.fates) == 60 and logs.fates.refused == 80
    assert {number for _, number, _ in logs.fates} == set(range(60))


def test_more_spaces_than_have_names_are_read_by_json(tmp_path: Path) -> None:
    lines = [line(n % 3, group=f"{n // 3:016x}", path=n % 2) for n in range(15_000)]
    logs = same(write(tmp_path / "ue.sqlog", lines))
    assert len(logs.fates) == 15_000


# ---- what records lack ---------------------------------------------------------------------------------------------------------


def test_a_scan_finds_what_a_pass_finds(tmp_path: Path) -> None:
    dice = random.Random(3)
    for at in range(6):
        lines = [line(n) for n in range(30_000)]        # several pieces of the file
        for _ in range(at):
            lines.insert(dice.randrange(len(lines)), RECORDS_LOST)
        if at % 2:
            lines.insert(dice.randrange(len(lines)), LOG_FULL)
        file = write(tmp_path / "ue.sqlog", lines)
        file.scan()
        scanned = (file.lost, file.full_ns is not None)
        began = time.process_time()
        for _ in file:
            pass
        assert scanned == (file.lost, file.full_ns is not None) == (3 * at, bool(at % 2)), began


def test_stats_tell_what_the_records_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path)
    scene.capture.writer.statistics(0, Statistics(scene.capture.time, 100, 7, 93))
    scene.capture.writer.statistics(1, Statistics(scene.capture.time, 100, 0, 100))
    scene.result = {"capture": {"dropped_limit": 5, "outside_windows": 11}}
    directory = scene.write()
    write(tmp_path / "ue.sqlog", [line(1), RECORDS_LOST, RECORDS_LOST, LOG_FULL])
    (tmp_path / "upf.sqlog").write_bytes(b"\x1e{}\n")
    told = document(capsys, directory, "--stats")
    assert told["capture"] == {"dropped": {"ue/3gpp": 7, "ue/wifi": 0}, "limit": 5, "outside_windows": 11}
    ue, upf = told["qlog"]
    assert ue == {"end": "ue", "lost": 6, "full": True, "problem": None}
    assert upf["lost"] is None and "no qlog" in upf["problem"]
    assert main([directory, "--stats"]) == 0
    out = capsys.readouterr().out
    for words in ("7 packets dropped before it read them (ue/3gpp 7)", "5 packets had no room", "11 packets outside its windows",
                  "qlog ue: 6 records lost; it was full", "qlog upf: "):
        assert words in out


def test_a_capture_that_does_not_say_is_not_said_to_be_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = Scene(tmp_path).write()
    told = document(capsys, directory, "--stats")
    assert told["capture"] == {"dropped": None, "limit": None, "outside_windows": None} and told["qlog"] == []
    assert main([directory, "--stats"]) == 0 and "it does not say what it missed" in capsys.readouterr().out


def test_hostile_results_are_no_figures() -> None:
    for capture in ([], "x", {"dropped_limit": "7", "outside_windows": -1}, {"dropped_limit": None}):
        run = RunRecord(result={"capture": capture})
        lacks = capture_lacks(run, [Interface(1, "")], {0: Statistics(0, dropped=2)})
        assert lacks == {"dropped": {"0": 2}, "limit": None, "outside_windows": None}
        assert lacks_lines(lacks, []) == ["capture: 2 packets dropped before it read them (0 2)"]
    assert qlog_lacks(Path("/nowhere/capture.pcapng")) == []

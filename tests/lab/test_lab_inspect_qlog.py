"""`mpq inspect` with the ends' qlogs beside a capture: what each end says of a packet, on one clock, and exactly what was lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import udp4
from test_lab_inspect_views import START_NS, Scene, document, segment, text

from lab import inspect
from lab.qlog_file import QlogError, QlogFile

MS = 1_000_000
UE_EPOCH = START_NS - 7_000_000 * MS            # of the monotonic clock: up for 7000 s when the capture begins
SOCKET_NS = 20_000                              # from the engine to the capture
WAY_NS = 5 * MS


class LoggedScene(Scene):
    """A scene whose ends keep a qlog. upf_ahead_ns: of the UPF's clock, before the UE's."""

    def __init__(self, directory: Path, upf_ahead_ns: int = 0) -> None:
        super().__init__(directory)
        self.upf_epoch = UE_EPOCH - upf_ahead_ns
        self.logs: dict[str, list[tuple[int, str, dict[str, Any]]]] = {"ue": [], "upf": []}

    def tell(self, end: str, time_ns: int, name: str, **data: Any) -> None:
        self.logs[end].append((time_ns - (UE_EPOCH if end == "ue" else self.upf_epoch), name, data))

    def _packet(self, end: str, time_ns: int, name: str, path: int, number: int, **more: Any) -> None:
        header = {"packet_type": "1RTT", "path_id": path, "packet_number": number}
        self.tell(end, time_ns, f"quic:{name}", header=header, raw={"length": 140}, **more)

    def sent_up(self, path: int, inner: bytes, arrives: bool = True) -> int:
        number = self.up(path, inner)
        self._packet("ue", self.capture.time - SOCKET_NS, "packet_sent", path, number, frames=[{"frame_type": "datagram"}])
        if arrives:
            self._packet("upf", self.capture.time + WAY_NS, "packet_received", path, number)
        return number

    def sent_down(self, path: int, inner: bytes, arrives: bool = True) -> int:
        self.down(path, inner, arrives)
        number = self.talk.sides[False].numbers["1rtt", path] - 1
        at = self.capture.time
        self._packet("upf", at - WAY_NS, "packet_sent", path, number)
        if arrives:
            self._packet("ue", at + SOCKET_NS, "packet_received", path, number)
        return number

    def skip_down(self, path: int) -> None:
        self.talk.sides[False].numbers["1rtt", path] += 1

    def write(self) -> str:
        directory = super().write()
        for end, role in (("ue", "client"), ("upf", "server")):
            first = {
                "file_schema": "urn:ietf:params:qlog:file:sequential", "serialization_format": "application/qlog+json-seq",
                "trace": {"vantage_point": {"name": end, "type": role},
                          "common_fields": {"time_format": "relative_to_epoch"}, "event_schemas": ["urn:x"]}}
            records = [first] + [
                {"time": time / 1e6, "group_id": self.talk.odcid.hex(), "name": name, "data": data}
                for time, name, data in sorted(self.logs[end], key=lambda one: one[0])]
            (self.directory / f"{end}.sqlog").write_bytes(
                b"".join(b"\x1e" + json.dumps(record).encode() + b"\n" for record in records))
        return directory


def scene_of(tmp_path: Path, upf_ahead_ns: int = 0) -> tuple[LoggedScene, dict[str, int]]:
    """On wifi: one lost up before a cut by a full queue, three in the cut, one down by chance, one number left out; one whose loss
    no capture can show: the last one."""
    scene = LoggedScene(tmp_path, upf_ahead_ns)
    marks: dict[str, int] = {}
    scene.sample()
    numbers = [scene.sent_up(1, segment(1000 + 100 * i)) for i in range(4)]
    marks["queue"] = scene.sent_up(1, segment(2000), arrives=False)
    scene.event("cut", access="wifi", link_down=False)
    scene.wait(0.05)
    marks["cut"] = scene.sent_up(1, segment(3000), arrives=False)
    for i in range(2):
        scene.sent_up(1, segment(3100 + 100 * i), arrives=False)
    scene.wait(0.1)
    scene.event("restore", access="wifi")
    scene.sample(up=[1, 0, 3], down=[0, 0, 0])
    scene.wait(0.3)
    for i in range(4):
        scene.sent_down(1, udp4("10.99.0.2", 9, "10.45.0.2", 9, b"down %d" % i), arrives=i != 2)
    scene.skip_down(1)
    scene.sent_down(1, udp4("10.99.0.2", 9, "10.45.0.2", 9, b"after"))
    numbers += [scene.sent_up(1, segment(4000 + 100 * i)) for i in range(6)]
    scene.wait(0.01)
    scene.acknowledge(1, (numbers[-6], numbers[-1]), (0, numbers[3]))
    marks["last"] = scene.sent_up(1, segment(5000), arrives=False)
    scene.wait(0.05)
    scene.sample(up=[1, 1, 3], down=[0, 1, 0])
    marks["record"] = 0
    scene.tell("ue", scene.capture.time, "quic:packets_acked", path_id=1, packet_numbers=numbers)
    scene._packet("ue", scene.capture.time, "packet_lost", 1, marks["queue"], trigger="reordering_threshold")
    return scene, marks


def test_what_was_lost_is_what_one_end_sent_and_the_other_did_not_receive(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, marks = scene_of(tmp_path)
    told = document(capsys, scene.write(), "--dropped")
    assert told["by"] == "qlog" and told["lost"] == 6
    reasons = {reason.partition(" from")[0]: count for reason, count in told["reasons"].items()}
    assert reasons == {"wire: its queue was full": 1, "wire: cut of wifi": 3, "wire: lost by chance": 2}
    (no_loss,) = told["no_loss"].items()
    assert no_loss[0].startswith("its sender left the number out") and no_loss[1] == 1
    by_number = {(one["direction"], one["pn"]): one for one in told["packets"]}
    assert by_number["up", marks["queue"]]["reason"] == "wire: its queue was full"
    assert by_number["up", marks["last"]]["reason"] == "wire: lost by chance", "the capture alone cannot tell that it was lost"
    assert by_number["up", marks["last"]]["record"], "it was captured all the same"
    shown = text(capsys, str(tmp_path), "--dropped")
    assert "by the qlogs of both ends" in shown and "not explained" not in shown


def test_a_loss_that_nothing_counted_is_a_fault_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Canary: with a counter less, one is left over, and a cut is no excuse for what was not sent into it."""
    scene, _ = scene_of(tmp_path)
    scene.samples[-1]["wires"]["wifi"]["up"] = [1, 0, 3]
    told = document(capsys, scene.write(), "--dropped")
    assert told["reasons"]["not explained"] == 1 and told["lost"] == 6
    scene.samples[-1]["wires"]["wifi"]["up"] = [1, 0, 9]        # cut later than any packet of this end could have seen it
    assert document(capsys, scene.write(), "--dropped")["reasons"]["not explained"] == 1


def test_what_is_dropped_before_a_cut_does_not_use_up_its_counter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the qlogs, too: eight packets were once not explained for this."""
    scene, _ = scene_of(tmp_path)
    directory = scene.write()
    for end in ("ue", "upf"):
        (tmp_path / f"{end}.sqlog").unlink()
    told = document(capsys, directory, "--dropped")
    assert told["by"] == "capture" and "not explained" not in told["reasons"]
    assert sum(count for reason, count in told["reasons"].items() if "cut of wifi" in reason) == 3


@pytest.mark.parametrize("counter", ["conn_closing", "auth_failed"])
def test_what_the_receiver_dropped_it_says_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str], counter: str) -> None:
    scene, _ = scene_of(tmp_path)
    scene.samples[-1]["wires"]["wifi"]["up"] = [1, 0, 3]
    scene.tell("upf", scene.capture.time - 48 * MS, "quic:packet_dropped", counter=counter, trigger="rejected")
    told = document(capsys, scene.write(), "--dropped")
    assert told["reasons"][f"engine: upf dropped it: {counter}"] == 1 and "not explained" not in told["reasons"]


def test_a_closed_connection_takes_no_more_packets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, _ = scene_of(tmp_path)
    scene.samples[-1]["wires"]["wifi"]["up"] = [1, 0, 3]
    scene.tell("upf", scene.capture.time - 45 * MS, "quic:connection_closed", trigger="application")
    told = document(capsys, scene.write(), "--dropped")
    assert told["reasons"]["engine: the connection was over at the upf"] == 1


@pytest.mark.parametrize(("ahead", "clock"), [(0, "same clock"), (3_600_000 * MS, "estimated"), (-90 * MS, "estimated")])
def test_each_packet_has_both_ends_records_on_one_clock(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], ahead: int, clock: str) -> None:
    scene, marks = scene_of(tmp_path, ahead)
    told = document(capsys, scene.write(), "--qlog", "--inner", "tcp port 5201")
    assert told["clock"] == clock
    for one in told["packets"]:
        ends = one["ends"]
        assert ends["sent"] == pytest.approx(one["t"] - SOCKET_NS / 1e9, abs=3e-5)
        if ends["received"] is not None:
            assert ends["received"] == pytest.approx(one["t"] + WAY_NS / 1e9, abs=1e-4)
    by_number = {one["pn"]: one["ends"] for one in told["packets"]}
    assert by_number[marks["cut"]]["received"] is None
    lost = by_number[marks["queue"]]
    assert lost["why"] == "reordering_threshold" and lost["lost"] > lost["sent"] and lost["acknowledged"] is None
    assert by_number[marks["queue"] - 1]["acknowledged"] > by_number[marks["queue"] - 1]["received"]
    shown = text(capsys, str(tmp_path), "--qlog", "--path", "1")
    assert "UPF never received it" in shown and "UE sent" in shown
    err_said = inspect.main([str(tmp_path), "--qlog", "--limit", "1"]) == 0 and capsys.readouterr().err
    assert ("estimated" in str(err_said)) == (clock == "estimated")


def test_one_packet_is_shown_with_the_records_of_both_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, marks = scene_of(tmp_path)
    directory = scene.write()
    rows = document(capsys, directory, "--inner", "tcp port 5201")["packets"]
    record = next(row["record"] for row in rows if row["pn"] == marks["queue"] - 1)
    told = document(capsys, directory, "--packet", str(record))
    assert [(one["end"], one["event"]) for one in told["qlog"]] == [
        ("ue", "quic:packet_sent"), ("ue", "quic:packets_acked"), ("upf", "quic:packet_received")]
    assert told["qlog"][2]["t"] - told["qlog"][0]["t"] == pytest.approx((WAY_NS + SOCKET_NS) / 1e9, abs=1e-6)
    lost = next(row["record"] for row in rows if row["pn"] == marks["queue"])
    shown = text(capsys, directory, "--packet", str(lost))
    assert "ue: quic:packet_lost at" in shown and "reordering_threshold" in shown and "upf: quic:packet_received" not in shown


def test_a_flow_tells_when_its_packets_arrived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, marks = scene_of(tmp_path)
    told = document(capsys, scene.write(), "--follow", "tcp port 5201")
    fates = {one["pn"]: one["fate"] for one in told["packets"]}
    assert fates[marks["queue"] - 1].startswith("arrived at the UPF after 5.0 ms, acknowledged after")
    assert fates[marks["queue"]] == "lost"
    assert fates[marks["last"]] == "lost", "the capture alone cannot tell"
    reasons = {reason.partition(" from")[0] for reason in told["lost"]}
    assert reasons == {"wire: its queue was full", "wire: cut of wifi", "wire: lost by chance"}


def test_a_log_that_is_not_whole_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records that the ring lost, and a full log: what is not told may have happened."""
    scene, _ = scene_of(tmp_path)
    scene.tell("upf", scene.capture.time, "mpquic:records_lost", count=5)
    assert document(capsys, scene.write(), "--dropped")["by"] == "capture"
    assert inspect.main([str(tmp_path), "--dropped"]) == 0
    assert "5 records were lost" in capsys.readouterr().err
    scene.logs["upf"][-1] = (scene.logs["upf"][-1][0], "mpquic:log_full", {"octets": 1000})
    assert document(capsys, scene.write(), "--dropped")["by"] == "capture"


def test_a_qlog_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, _ = scene_of(tmp_path)
    scene.write()
    ue = str(tmp_path / "ue.sqlog")
    all_of_it = document(capsys, ue)
    assert (all_of_it["end"], all_of_it["role"], all_of_it["lost"], all_of_it["full"]) == ("ue", "client", 0, False)
    assert all_of_it["shown"] == len(scene.logs["ue"]) and all_of_it["records"][0]["t"] == 0
    assert {one["path"] for one in document(capsys, ue, "--path", "1")["records"]} == {1}
    assert document(capsys, ue, "--path", "7")["shown"] == 0
    datagrams = document(capsys, ue, "--frame", "datagram", "--limit", "3")
    assert datagrams["shown"] == 3 and all(one["event"] == "quic:packet_sent" for one in datagrams["records"])
    late = document(capsys, ue, "--between", "0.1", "9")
    assert 0 < late["shown"] < all_of_it["shown"] and min(one["t"] for one in late["records"]) >= 0.1
    assert "quic:packet_lost" in text(capsys, ue)
    for wrong in (["--stats"], ["--dropped"], ["--inner", "tcp"], ["--between", "step:cut", "1"]):
        assert inspect.main([ue, *wrong]) == 2
        capsys.readouterr()


HOSTILE = [
    b'{"time":NaN,"name":"quic:packet_sent","data":{}}', b"[1]", b"{", b'{"time":1,"name":5,"data":{}}', b"\xff\xfe",
    b'{"time":1e300,"name":"x","data":{}}', b'{"time":true,"name":"x","data":{}}', b"[" * 100_000, b'{"time":1,"name":"x"}',
    b'{"time":1,"name":"x","data":' + b"9" * 5000 + b"}",
]
ODD = [
    {"time": 1, "name": "quic:packet_sent", "data": {"header": {"packet_type": "1RTT", "path_id": "x", "packet_number": 1}}},
    {"time": 1, "name": "quic:packet_sent", "data": {"header": {"packet_type": "1RTT", "path_id": 0, "packet_number": -1}}},
    {"time": 1, "name": "quic:packet_sent", "data": {"header": {"packet_type": "1RTT", "path_id": 0, "packet_number": 1 << 70}}},
    {"time": 1, "name": "quic:packet_sent", "data": {"header": [], "raw": 7, "frames": {}}},
    {"time": 1, "name": "quic:packets_acked", "data": {"packet_numbers": {"a": 1}, "path_id": 0}},
    {"time": 1, "name": "quic:packets_acked", "data": {"packet_numbers": [[], None, 1 << 80], "path_id": 0}},
    {"time": 1, "name": "quic:packet_lost", "data": {"header": None, "trigger": ["x"]}},
    {"time": 1, "name": "mpquic:records_lost", "data": {"count": -5}},
    {"time": 1, "name": "\u202e\x1b[31m", "data": {"x": "\x1b[0m"}},
]


def test_a_hostile_log_is_counted_and_nothing_breaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, _ = scene_of(tmp_path)
    directory = scene.write()
    path = tmp_path / "upf.sqlog"
    odd = [json.dumps(one).encode() for one in ODD]
    path.write_bytes(path.read_bytes() + b"".join(b"\x1e" + one + b"\n" for one in HOSTILE + odd))
    file = QlogFile(path)
    assert len(list(file)) == len(scene.logs["upf"]) + len(ODD) and file.malformed == len(HOSTILE) and file.lost == 0
    told = document(capsys, directory, "--dropped")
    assert told["by"] == "capture", "a log with records that do not read proves nothing"
    document(capsys, directory, "--qlog")
    document(capsys, directory, "--packet", "9")
    document(capsys, str(path))
    assert "\x1b" not in text(capsys, str(path))
    for start in (b"", b"\x1e{}\n", b"{}", b"\x1e[]\n", b"\x1e" + b"x" * (3 << 20)):
        path.write_bytes(start)
        with pytest.raises(QlogError):
            QlogFile(path)
        assert document(capsys, directory, "--dropped")["by"] == "capture"
        assert inspect.main([str(path)]) == 1
        capsys.readouterr()


def test_what_is_kept_of_a_log_is_bounded(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    scene, _ = scene_of(tmp_path)
    monkeypatch.setattr("lab.inspect_fates.FATES_MAX", 5)
    assert document(capsys, scene.write(), "--dropped")["by"] == "capture"


def test_records_of_a_packet_are_found_by_its_number_alone(tmp_path: Path) -> None:
    """As a pass over all of them finds them; and those of other numbers are not even read, or a small number would take long."""
    scene, _ = scene_of(tmp_path)
    scene.write()
    file = QlogFile(tmp_path / "ue.sqlog")
    every = list(file)
    for number in range(12):
        found = list(file.about(b'"packet_number": %d' % number))
        assert found == [one for one in every if b'"packet_number": %d' % number in one.raw]
    assert [one.raw for one in file.about(b"quic:packets_acked", b"packets_acked")] == [
        one.raw for one in every if one.name == "quic:packets_acked"] != []
    assert list(file.about(b"nowhere")) == [] and len(list(file.about(b'"time"'))) == len(every)


# ---- what a busy machine does to a run's records


def reasons(capsys: pytest.CaptureFixture[str], scene: LoggedScene) -> dict[str, int]:
    found = document(capsys, scene.write(), "--dropped")["reasons"]
    return {reason.partition(" from")[0]: count for reason, count in found.items()}


def lossy(tmp_path: Path) -> LoggedScene:
    """One packet of ten is lost on the way up, 30 ms before the last; nothing counts it yet."""
    scene = LoggedScene(tmp_path)
    scene.sample()
    scene.wait(0.1)
    for i in range(10):
        scene.sent_up(1, segment(100 * i), arrives=i != 6)
        scene.wait(0.01)
    return scene


def test_a_sample_that_came_late_counts_what_was_dropped_after_its_time(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ends are asked first, the wires last: a sample's `t` may be long before its counts."""
    scene = lossy(tmp_path)
    scene.sample(up=[0, 1, 0])
    late = scene.samples[-1]
    late["t"] -= 0.09
    assert reasons(capsys, scene) == {"not explained": 1}, "canary: the sample's own time says otherwise"
    late["wires_counted"] = [scene.t, scene.t + 0.001]
    assert reasons(capsys, scene) == {"wire: lost by chance": 1}
    for damaged in ([0.0], ["a", 1], [10 ** 400, 1], 5):
        late["wires_counted"] = damaged
        assert reasons(capsys, scene) == {"not explained": 1}


def test_what_is_dropped_after_the_last_sample_is_counted_when_the_lab_goes_down(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = lossy(tmp_path)
    scene.wait(0.4)             # not under way any more
    counts = {"wifi": {"up": [0, 1, 0], "down": [0, 0, 0]}}
    assert reasons(capsys, scene) == {"not explained": 1}, "canary"
    scene.event("wires_counted", wires=counts)
    assert reasons(capsys, scene) == {"wire: lost by chance": 1}
    scene.events[-1]["wires"] = {"wifi": {"up": [0, 0, 0], "down": [0, 1, 0]}}
    assert reasons(capsys, scene) == {"not explained": 1}, "canary: the other direction's"
    scene.events.pop()
    told = {"dropped_queue": 0, "dropped_loss": 1, "dropped_cut": 0}
    scene.result = {"wires": {"wifi": {"cut": False, "up": told, "down": told}}}
    assert reasons(capsys, scene) == {"wire: lost by chance": 1}, "an older run has it in its result"


def test_what_is_under_way_at_the_end_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = lossy(tmp_path)
    scene.event("wires_counted", wires={"wifi": {"up": [0, 0, 0], "down": [0, 0, 0]}})
    assert reasons(capsys, scene) == {"run: it was under way when the lab was taken down": 1}
    scene.events[-1]["t"] += 0.4
    assert reasons(capsys, scene) == {"not explained": 1}, "canary: it had time enough"
    late = {"late_max_ms": 300.0}
    scene.result = {"wires": {"wifi": {"up": late, "down": {}}}}
    assert reasons(capsys, scene) == {"run: it was under way when the lab was taken down": 1}, "the wire itself was that late"


def test_a_wire_that_came_late_counts_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = lossy(tmp_path)
    scene.wait(0.5)
    scene.sample()
    scene.wait(0.1)
    scene.sample(up=[1, 0, 0])
    assert reasons(capsys, scene) == {"not explained": 1}, "canary"
    for late, found in ((600.0, "wire: its queue was full"), (1e400, "not explained"), ("600", "not explained")):
        scene.result = {"wires": {"wifi": {"up": {"late_max_ms": late}, "down": {}}}}
        assert reasons(capsys, scene) == {found: 1}


def test_a_cut_is_over_before_its_end_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Links and routes are restored behind the wire. What the wire loses meanwhile is none of the cut's, nor may it use up a unit
    of the cut's; and what was sent into the cut may be taken from the socket when it is over."""
    scene = LoggedScene(tmp_path)
    scene.sample()
    for i in range(3):
        scene.sent_up(1, segment(i))
    scene.event("cut", access="wifi", link_down=False)
    scene.wait(0.2)
    scene.sent_up(1, segment(1000), arrives=False)
    scene.wait(0.05)
    restored = scene.t
    scene.wait(0.05)
    scene.sent_up(1, segment(2000), arrives=False)
    scene.wait(0.05)
    scene.sent_up(1, segment(3000))
    scene.wait(0.05)
    scene.event("restore", access="wifi", wire_t=restored)
    scene.wait(0.05)
    scene.sample(up=[0, 1, 1])
    assert reasons(capsys, scene) == {"wire: cut of wifi": 1, "wire: lost by chance": 1}
    scene.samples[-1]["wires"]["wifi"]["up"] = [0, 2, 0]
    assert reasons(capsys, scene) == {"wire: lost by chance": 2}
    scene.samples[-1]["wires"]["wifi"]["up"] = [0, 1, 0]
    assert reasons(capsys, scene) == {"wire: lost by chance": 1, "not explained": 1}, "canary"


@pytest.mark.parametrize(("result", "reason"), [
    ({"drops": {"upf.udp_receive_overflow": 1}}, "engine: counter upf.udp_receive_overflow"),
    ({"wires": {"wifi": {"up": {"dropped_nat": 1}}}}, "wire: its NAT had no binding for it (dropped_nat)"),
    ({"wires": {"wifi": {"up": {"kernel_drops": 1}}}}, "wire: the kernel dropped it at the wire's socket (kernel_drops)"),
    ({"drops": {"upf.auth_failed": 1, "ue.udp_receive_overflow": 1}, "wires": {"3gpp": {"up": {"dropped_nat": 1}}}},
     "not explained"),
])
def test_what_no_qlog_tells_its_counter_does(
        result: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = lossy(tmp_path)
    scene.wait(0.4)
    scene.sample()
    scene.result = result
    assert reasons(capsys, scene) == {reason: 1}


@pytest.mark.parametrize("result", [
    {"drops": {"upf.udp_receive_overflow": 1}}, {"wires": {"wifi": {"up": {"kernel_drops": 1}}}}])
@pytest.mark.parametrize(("together", "explained"), [(10, 10), (66, 64)])
def test_the_kernel_counts_a_batch_once(
        together: int, explained: int, result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """UDP GSO: what is sent together is dropped together at a socket, which counts one."""
    scene = LoggedScene(tmp_path)
    scene.sample()
    scene.sent_up(1, segment(0))
    for i in range(together):
        scene.sent_up(1, segment(1000 + i), arrives=False)
        scene.capture.time -= 99_000            # a microsecond each
    scene.wait(0.002)
    scene.sent_up(1, segment(5000), arrives=False)
    scene.wait(0.4)
    scene.sample()
    scene.result = result
    found = reasons(capsys, scene)
    assert found.pop("not explained") == together - explained + 1, "canary: 64 at most, and the one sent later was not in it"
    assert list(found.values()) == [explained]


def test_a_wire_that_is_made_anew_counts_from_the_beginning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The UPF was killed and came back: its wires are new ones."""
    scene = LoggedScene(tmp_path)
    scene.sample(up=[5, 5, 5])
    scene.wait(0.5)
    scene.sent_up(1, segment(1), arrives=False)
    scene.wait(0.1)
    scene.sample(up=[0, 1, 0])
    assert reasons(capsys, scene) == {"wire: lost by chance": 1}

"""What a capture of a lab is asked for, which interfaces it has, and the key log that it follows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import Capture as Synthetic
from synthetic_capture import Talk

from lab.capture_files import ring_files
from lab.capturing import Port, chosen, of_a_run
from lab.clear_scan import seen_elsewhere
from lab.errors import LabError, Misuse, ScenarioError
from lab.inspect_stats import inspect_stats, verify_ring
from lab.live_capture import MOST, Captures, KeyTail, Request
from lab.packets.link import LINK_ETHERNET
from lab.pcapng import PcapngReader, PcapngWriter
from lab.scenario import Ring, parse

NAMES = ["ue/3gpp", "ue/wifi", "ue:mpq0", "ue:lo", "core/sbi", "core:n4", "core:n1-1", "upf/n4", "upf:n6", "upf:n6link", "dn:eth0",
         "wires:u1", "3gpp:wire", "3gpp:n1", "wifi:wire"]
ONCE = ["ue/3gpp", "ue/wifi", "core/sbi", "upf/n4"]
SCENARIO = """
capture: {}
accesses:
  - {{name: 3gpp, type: 3gpp}}
  - {{name: wifi, type: non-3gpp}}
steps: [{}]
"""


def names(ports: list[Port]) -> list[str]:
    return [port.name for port in ports]


def test_interfaces_are_chosen_by_name() -> None:
    every = [Port(name, 3, i) for i, name in enumerate(NAMES)]
    assert names(of_a_run(every)) == ONCE
    assert names(chosen(every, [])) == [name for name in NAMES if name != "wires:u1"]
    assert names(chosen(every, ["wires:*", "ue/*"])) == ["ue/3gpp", "ue/wifi", "wires:u1"]
    assert names(chosen(every, ["*"])) == NAMES
    with pytest.raises(LabError, match="no interface is named so; there are ue/3gpp"):
        chosen(every, ["ue/*", "upf/wifi"])


def test_what_is_seen_twice_is_read_once() -> None:
    assert [name for name in NAMES if name not in seen_elsewhere(NAMES)] == ONCE
    assert not seen_elsewhere(["wifi:wire", "wifi:n1"])  # what else would show it?
    assert not seen_elsewhere(["core:n4"])
    assert not seen_elsewhere(["eth0:1", "eth0:2"])  # a capture from elsewhere


def test_figures_of_an_all_interfaces_capture_count_each_packet_once(tmp_path: Path) -> None:
    capture = Synthetic()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.validate()
    talk.data(20, {0: "3gpp", 1: "wifi"})
    once = tmp_path / "once.pcapng"
    once.write_bytes(capture.bytes())
    twice = tmp_path / "twice.pcapng"
    with once.open("rb") as stream, twice.open("wb") as out, PcapngWriter(out) as writer:
        reader = PcapngReader(stream)
        records = list(reader)
        for interface in reader.interfaces:
            writer.interface(interface.linktype, interface.name)
            writer.interface(LINK_ETHERNET, interface.name.removeprefix("ue/") + ":wire")
        for record in records:
            for sight in (0, 1):
                writer.packet(2 * record.interface + sight, record.time_ns, record.data, flags=record.flags)
    keys = tmp_path / "keys.log"
    keys.write_bytes(talk.keylog())
    assert inspect_stats(twice) == inspect_stats(once) and inspect_stats(once)["packets"] > 20


def test_a_key_log_is_followed_line_by_line(tmp_path: Path) -> None:
    log = tmp_path / "keys.log"
    tail = KeyTail(log)
    assert tail.read() == b""
    line = b"CLIENT_TRAFFIC_SECRET_0 " + b"0a" * 32 + b" " + b"1b" * 32
    log.write_bytes(b"# a comment\n" + line)
    assert tail.read() == b""  # not whole yet
    with log.open("ab") as file:
        file.write(b"\nCLIENT_RANDOM 00 11\n" + line.upper() + b"\n")
    assert tail.read() == line + b"\n"
    with log.open("ab") as file:
        file.write(line + b"\n" + line.replace(b"CLIENT", b"SERVER") + b"\n")
    assert tail.read() == line.replace(b"CLIENT", b"SERVER") + b"\n"
    assert tail.read() == b""


@pytest.mark.parametrize(("args", "text"), [
    ({}, "name:"),
    ({"name": ""}, "name:"),
    ({"name": "a", "path": "/x"}, "path: unknown"),
    ({"name": "a", "output": "x"}, "output:"),
    ({"name": "a", "output": "/a\0"}, "output:"),
    ({"name": "a", "seconds": 0}, "seconds:"),
    ({"name": "a", "seconds": True}, "seconds:"),
    ({"name": "a", "packets": "1"}, "packets:"),
    ({"name": "a", "ring": 3}, "go together"),
    ({"name": "a", "ring": 1, "file_mb": 1}, "ring:"),
    ({"name": "a", "ring": 3, "file_mb": 0.5}, "file_mb:"),
    ({"name": "a", "ring": 3, "file_mb": 1, "megabytes": 2}, "ring"),
    ({"name": "a", "interfaces": "ue"}, "interfaces:"),
    ({"name": "a", "keys": "maybe"}, "keys:"),
    ({"name": "a", "snaplen": 1}, "snaplen:"),
    ({"name": "a", "seconds": float("nan")}, "seconds:"),
])
def test_a_request_is_refused_by_name(args: dict[str, Any], text: str) -> None:
    with pytest.raises(Misuse, match=text):
        Request.of(args)


def test_a_request_is_read() -> None:
    request = Request.of({"name": "a", "output": "/x/y", "seconds": 2, "packets": 3.0, "ring": 4, "file_mb": 5,
                          "interfaces": ["ue/*"], "keys": "no", "snaplen": 100})
    assert request == Request("a", Path("/x/y"), 2.0, 3, None, Ring(4, 5.0), ("ue/*",), "no", 100)


def test_captures_of_a_lab_are_bounded_and_end_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        captures = Captures(tmp_path, tmp_path / "keys.log", False, lambda: 0.0)
        running = [captures.open(Request(f"c{i}", tmp_path / f"{i}.pcapng"), []) for i in range(MOST)]
        tasks = [asyncio.create_task(captures.run(one)) for one in running]
        with pytest.raises(LabError, match="captures of this lab are running"):
            captures.open(Request("more"), [])
        with pytest.raises(Misuse, match="no such capture"):
            captures.end("more")
        captures.end("c0")
        assert (await tasks[0])["ended"] == "told to"
        with pytest.raises(LabError, match="has this name"):
            captures.open(Request("c1"), [])
        with pytest.raises(LabError, match="another capture writes it"):
            captures.open(Request("new", tmp_path / "1.pcapng"), [])
        with pytest.raises(LabError, match="no file"):
            captures.open(Request("new", tmp_path), [])
        tasks[1].cancel()  # its asker left
        await asyncio.wait([tasks[1]])
        assert [one["name"] for one in captures.status()] == [f"c{i}" for i in range(2, MOST)]
        captures.close()
        assert {(await task)["ended"] for task in tasks[2:]} == {"the lab ended"}
        assert captures.status() == []

    asyncio.run(main())
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{i}.pcapng" for i in range(MOST)]
    for path in tmp_path.iterdir():
        with path.open("rb") as stream:
            reader = PcapngReader(stream)
            assert list(reader) == [] and reader.problem == ""


def test_a_capture_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    captures = Captures(tmp_path, tmp_path / "keys.log", False, lambda: 0.0)
    with pytest.raises(LabError, match="ue/3gpp cannot be captured"):
        captures.open(Request("a", tmp_path / "a.pcapng"), [Port("ue/3gpp", -1, 0x7FFFFFFF)])
    assert list(tmp_path.iterdir()) == [] and captures.status() == []


def test_a_ring_is_verified_file_by_file(tmp_path: Path) -> None:
    for number in (1, 2):
        capture = Synthetic()
        talk = Talk(capture, seed=number)
        talk.handshake()
        talk.announce()
        talk.data(10, {0: "3gpp"})
        path = tmp_path / f"capture_{number:05d}_x.pcapng"
        path.write_bytes(capture.bytes())
        with path.open("r+b") as file:  # its secrets, in front
            body = file.read()
            with (tmp_path / "front").open("w+b") as front, PcapngWriter(front) as writer:
                writer.secrets(talk.keylog())
            file.seek(0)
            file.write((tmp_path / "front").read_bytes() + body)
    verdict = verify_ring(ring_files(tmp_path))
    assert verdict["ok"] and verdict["client_randoms"] == 2 and verdict["packets"] > 20
    newest = ring_files(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-5])
    assert not verify_ring(ring_files(tmp_path))["ok"]


def test_the_scenario_says_how_it_is_captured() -> None:
    def of(capture: str, steps: str = "") -> Any:
        return parse(SCENARIO.format(capture, steps).encode(), "f.yaml", "x")

    assert (of("true").capture, of("true").ring) == (True, None)
    assert (of("false").capture, of("false").ring) == (False, None)
    scenario = of("{ring: 4, file_mb: 64}")
    assert scenario.capture and scenario.ring == Ring(4, 64)
    for wrong, text in (("{ring: 1, file_mb: 64}", "at least 2"), ("{ring: 4}", "file_mb is missing"),
                        ("yes please", "true or false"), ("{ring: 4, file_mb: 64, size: 1}", "unknown key")):
        with pytest.raises(ScenarioError, match=text):
            of(wrong)
    with pytest.raises(ScenarioError, match="not with a ring"):
        of("{ring: 4, file_mb: 64}", "{phase: a, traffic: none, seconds: 2, actions: [{at: 1, attack: spoofed_source}]}")

"""Comments on the packets that a step of the scenario concerns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthetic_capture import Capture, Talk

from lab.capture_compose import compose
from lab.capture_marks import PREFIX, Marker, Step, steps_of
from lab.inspect_run import RunRecord
from lab.packets import frames as f
from lab.pcapng import PcapngReader

START = 1_790_000_000_000_000_000


def marks_of(path: Path) -> list[tuple[str, str]]:
    """Interface and marks of each packet that has some, in order."""
    with path.open("rb") as stream:
        reader = PcapngReader(stream)
        found = [(r.interface, r.comment) for r in reader]
    return [(reader.interfaces[number].name, comment.removeprefix(PREFIX).partition(" | ")[0])
            for number, comment in found if comment.startswith(PREFIX)]


def event(capture: Capture, name: str, **fields: Any) -> dict[str, Any]:
    return {"t": (capture.time - START + 1) / 1e9, "node": "lab", "event": name, **fields}


def test_a_run_of_every_step(tmp_path: Path) -> None:
    capture, events = Capture(), [{"t": 0.0, "node": "lab", "event": "capture_started", "unix_ns": START}]
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.validate()
    paths = {0: "3gpp", 1: "wifi"}
    talk.data(4, paths)
    events.append(event(capture, "cut", access="wifi"))
    talk.data(2, {0: "3gpp"})
    talk.data(4, paths)
    events.append(event(capture, "rebind", access="3gpp", port=20001))
    talk.data(1, paths)
    talk.send(False, "3gpp", talk.short(False, 0, [f.PathChallenge(b"12345678")]))
    talk.send(False, "3gpp", talk.short(False, 0, [f.PathChallenge(b"12345678")]))
    talk.data(1, paths)
    events.append(event(capture, "key_update", by="ue"))
    talk.key_update(True)
    talk.key_update(False)
    talk.data(2, paths)
    talk.send(True, "3gpp", talk.short(True, 0, [f.PathAbandon(1, 0)]))
    events.append(event(capture, "rekey", by="core"))
    second = Talk(capture, seed=1)
    second.handshake()
    second.announce()
    second.validate()
    second.data(4, paths)
    (tmp_path / "capture.raw.pcapng").write_bytes(capture.bytes())
    (tmp_path / "keys.log").write_bytes(talk.keylog() + second.keylog())
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    compose(tmp_path)
    cut, rebind, update, rekey = (e["t"] for e in events[1:])
    assert marks_of(tmp_path / "capture.pcapng") == [
        ("ue/3gpp", "first IP packet on the key of connection 0"),
        ("ue/wifi", f"first packet after step cut-wifi ({cut:.3f} s)"),
        ("ue/3gpp", f"first packet after step rebind-3gpp ({rebind:.3f} s)"),
        ("ue/3gpp", "PATH_CHALLENGE to the port that 3gpp was rebound to"),
        ("ue/3gpp", f"first packet after step key_update-ue ({update:.3f} s); key update: first packet up of key phase 1"),
        ("ue/3gpp", "key update: first packet down of key phase 1"),
        ("ue/3gpp", "PATH_ABANDON: path 1 is given up"),
        ("ue/3gpp", f"first packet after step rekey-core ({rekey:.3f} s)"),
        ("ue/3gpp", "first IP packet on the key of connection 1"),
    ]


def test_without_events_only_what_the_packets_tell(tmp_path: Path) -> None:
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.data(3, {0: "3gpp"})
    (tmp_path / "capture.raw.pcapng").write_bytes(capture.bytes())
    (tmp_path / "keys.log").write_bytes(talk.keylog())
    compose(tmp_path)
    assert marks_of(tmp_path / "capture.pcapng") == [("ue/3gpp", "first IP packet on the key of connection 0")]


def test_events_that_are_none_are_passed_over() -> None:
    run = RunRecord([{"t": 1.0, "node": "lab", "event": "cut", "access": ["wifi"]}, {"t": 2.0, "node": "ue", "event": "cut"},
                     {"t": 3.0, "node": "lab", "event": "phase", "phase": "a"}], start_ns=START)
    (step,) = steps_of(run)
    assert step.access == "" and step.time_ns == START + 1_000_000_000
    assert steps_of(RunRecord(run.events)) == []
    marker = Marker([Step(5, "step cut-wifi (0.000 s)", "wifi"), Step(5, "step rekey-ue (0.000 s)", "")])
    assert marker.marks(4, "wifi", []) == []
    assert marker.marks(6, "3gpp", []) == ["first packet after step rekey-ue (0.000 s)"]
    assert marker.marks(7, "wifi", []) == ["first packet after step cut-wifi (0.000 s)"]
    assert marker.marks(8, "wifi", []) == []

"""Filters of `mpq inspect`: the expression against libpcap's own compiler, moments of a run, and what of a row they see."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import random
from pathlib import Path

import pytest
from synthetic_capture import Capture, Talk, http_datagram, ipv4, tcp4, udp4, udp6

from lab import inspect
from lab.errors import Misuse
from lab.inspect_expression import compile_expression
from lab.inspect_run import read_run
from lab.packets import frames as f

PACKETS = [
    udp4("10.45.0.2", 5000, "10.99.0.2", 5201, b"x" * 30), udp4("10.99.0.2", 5201, "10.45.0.2", 5000, b""),
    tcp4("10.45.0.2", 40000, "10.99.0.2", 5201, 7, b"abc"), tcp4("10.99.0.2", 80, "10.45.0.2", 40000, 9, b"x" * 700),
    udp6("fd45::2", 53, "fd99::2", 5201, b"y" * 100), ipv4("10.45.0.2", "10.99.0.2", 1, b"\x08\0" + bytes(30)),
    ipv4("10.45.0.3", "192.0.2.1", 47, bytes(20)),
    b"\x60\0\0\0\0\x08\x3a\x40" + bytes(15) + b"\x01" + bytes(15) + b"\x02" + b"\x80" + bytes(7),
    ipv4("10.45.0.2", "10.99.0.2", 17, b"\x14\x51\x13\x88" + bytes(8))[:6] + b"\x20\x05"
    + ipv4("10.45.0.2", "10.99.0.2", 17, b"\x14\x51\x13\x88" + bytes(8))[8:],
]
EXPRESSIONS = [
    "tcp port 5201", "udp", "not udp", "ip", "ip6", "icmp", "icmp6", "host 10.99.0.2", "src host 10.99.0.2",
    "dst host 10.99.0.2 and tcp", "net 10.45.0.0/16", "src net 10.99.0.0/24", "dst net fd99::/64", "host fd99::2",
    "port 5201 or port 80", "src port 5201", "udp dst port 5201", "portrange 79-81", "tcp src portrange 40000-40001",
    "less 60", "greater 100", "not (tcp or udp)", "! tcp && less 100", "tcp or udp and port 5201", "ip host 10.45.0.2",
    "udp and not port 5201 or icmp", "ip6 and udp", "(((port 53)))", "net 10.45.0.2/32", "tcp and port 5201 or ip6",
]


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class Header(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long), ("captured", ctypes.c_uint32),
                ("length", ctypes.c_uint32))


class Libpcap:
    """The original, over raw IP (DLT_RAW)."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("pcap")
        assert name, "libpcap comes with tshark, which lab/provision.sh installs"
        self.lib = ctypes.CDLL(name)
        self.lib.pcap_open_dead.restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(self.lib.pcap_open_dead(12, 65535))

    def matches(self, text: str) -> list[bool]:
        program = Program()
        assert self.lib.pcap_compile(self.handle, ctypes.byref(program), text.encode(), 0, ctypes.c_uint32(0xFFFFFFFF)) == 0, text
        out = [bool(self.lib.pcap_offline_filter(ctypes.byref(program), ctypes.byref(Header(0, 0, len(p), len(p))), p))
               for p in PACKETS]
        self.lib.pcap_freecode(ctypes.byref(program))
        return out


@pytest.fixture(scope="module")
def libpcap() -> Libpcap:
    return Libpcap()


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression_selects_what_libpcap_selects(libpcap: Libpcap, text: str) -> None:
    assert [compile_expression(text)(packet) for packet in PACKETS] == libpcap.matches(text)


def test_joined_expressions_select_what_libpcap_selects(libpcap: Libpcap) -> None:
    dice, told = random.Random(5), set()
    for _ in range(150):
        text = dice.choice(EXPRESSIONS)
        for _ in range(dice.randrange(1, 4)):
            other = dice.choice(EXPRESSIONS)
            text = f"{text} {dice.choice(['and', 'or', '&&', '||'])} {dice.choice(['', 'not ', '! '])}" + (
                f"({other})" if dice.random() < 0.5 else other)
        found = [compile_expression(text)(packet) for packet in PACKETS]
        assert found == libpcap.matches(text), text
        told |= set(found)
    assert told == {True, False}        # canary: the expressions do choose


@pytest.mark.parametrize("text", ["", "tcp port", "port http", "port 70000", "portrange 5", "port 1-2", "(tcp", "tcp)", "tcp tcp",
                                  "icmp port 5", "src tcp", "host 10.0.0.0/8", "host x", "net 10.0.0.1/8", "ip host ::1", "and",
                                  "not", "ether host 1", "less x", "a" * 5000, "(" * 100 + "tcp" + ")" * 100, "tcp & udp",
                                  "tcp net 10.0.0.0/8"])
def test_what_is_not_understood_is_refused_by_name(text: str) -> None:
    with pytest.raises(Misuse, match="filter"):
        compile_expression(text)


def test_expressions_take_any_octets() -> None:
    dice = random.Random(3)
    tests = [compile_expression(text) for text in EXPRESSIONS]
    for _ in range(2000):
        packet = dice.randbytes(dice.randrange(0, 60))
        for test in tests:
            assert test(packet) in (True, False)


# ---- a run with events -------------------------------------------------------------------------------------------

START_NS = 1_790_000_000_000_000_000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """40 packets of data, a tenth of a millisecond apart; the cut between the 10th and the 20th inner packet."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.validate()
    first = capture.time
    talk.data(10, {0: "3gpp", 1: "wifi"})
    talk.send(True, "3gpp", talk.short(True, 0, [f.PathAbandon(1, 0)]))
    talk.send(True, "3gpp", talk.short(True, 0, [http_datagram(tcp4("10.45.0.2", 40000, "10.99.0.2", 5201, 1, b"hello"))]))
    (tmp_path / "capture.pcapng").write_bytes(capture.bytes())
    (tmp_path / "keys.log").write_bytes(talk.keylog())
    second = (first - START_NS) / 1e9
    events = [
        {"t": 0.0, "node": "lab", "event": "capture_started", "unix_ns": START_NS},
        {"t": second, "node": "lab", "event": "phase", "phase": "udp.up"},
        {"t": second + 0.00055, "node": "lab", "event": "cut", "access": "wifi", "link_down": False},
        {"t": second + 0.00155, "node": "lab", "event": "restore", "access": "wifi"},
        {"t": second + 0.00165, "node": "lab", "event": "rekey", "by": "core"},
        {"t": second + 0.00175, "node": "lab", "event": "cut", "access": "wifi", "link_down": False},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events) + '{"t": 9, "node"')
    return tmp_path


def rows(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, object]]:
    assert inspect.main([*argv, "--json"]) == 0
    packets: list[dict[str, object]] = json.loads(capsys.readouterr().out)["packets"]
    return packets


def test_between_two_steps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, str(run), "--between", "step:cut-wifi", "step:restore")
    assert len(found) == 10
    assert len(rows(capsys, str(run), "--between", "step:cut-wifi", "step:restore", "--path", "1")) == 5
    both = rows(capsys, str(run), "--between", "phase:udp.up", "step:cut-wifi#2")
    assert len(both) == 18
    assert len(rows(capsys, str(run), "--between", "step:cut-wifi+0.0005s", "step:restore")) == 5
    everything = rows(capsys, str(run), "--between", "0", "100")
    assert len(everything) == len(rows(capsys, str(run))) > 18       # canary: the interval does leave packets out


@pytest.mark.parametrize(("moments", "text"), [
    (("step:cut-3gpp", "step:restore"), "there are step:cut-wifi, step:restore-wifi, step:rekey-core"),
    (("step:cut-wifi#3", "99"), "no such step"), (("step:rekey", "step:restore"), "after the first moment"),
    (("5", "1"), "1 is before 5"), (("yesterday", "1"), "a moment is"), (("step:cut-wifi+1.1.1s", "9"), "not a number"),
])
def test_moments_that_are_none(run: Path, capsys: pytest.CaptureFixture[str], moments: tuple[str, str], text: str) -> None:
    assert inspect.main([str(run), "--between", *moments]) == 2
    assert text in capsys.readouterr().err


def test_between_needs_a_run_that_tells_its_clock(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "events.jsonl").write_text('{"t": 1, "node": "lab", "event": "cut", "access": "wifi"}\nnot json\n[1]\n{"t": "x"}\n')
    assert inspect.main([str(run), "--between", "0", "1"]) == 2 and "capture_started" in capsys.readouterr().err
    (run / "events.jsonl").unlink()
    assert inspect.main([str(run), "--between", "0", "1"]) == 2 and "events.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(("view", "filters", "taken"), [
    (["--stats"], ["--path", "1"], "no filter"), (["--stats"], ["--between", "0", "1"], "no filter"),
    (["--packet", "3"], ["--limit", "2"], "no filter"), (["--dropped"], ["--inner", "tcp"], "--path, --between"),
    (["--dropped"], ["--limit", "1"], "--path, --between"), (["--flow-graph"], ["--path", "0"], "--between"),
    (["--follow", "tcp"], ["--qlog"], "--path, --frame"),
])
def test_a_filter_that_a_view_does_not_know_is_refused(
        run: Path, capsys: pytest.CaptureFixture[str], view: list[str], filters: list[str], taken: str) -> None:
    """It was passed over in silence, and what was shown was taken for the answer."""
    assert inspect.main([str(run), *view, *filters]) == 2
    said = capsys.readouterr().err
    assert f"{filters[0]} does not go with {view[0]}, which takes {taken}" in said


def test_filters_that_a_view_knows_are_taken(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Canary."""
    for arguments in (["--dropped", "--path", "1"], ["--dropped", "--between", "0", "9"], ["--flow-graph", "--between", "0", "9"],
                      ["--stats"], ["--limit", "3", "--path", "0"]):
        assert inspect.main([str(run), *arguments]) == 0
    capsys.readouterr()


def test_inner_and_frame_filters(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tcp = rows(capsys, str(run), "--inner", "tcp port 5201")
    assert len(tcp) == 1 and "TCP" in str(tcp[0]["inner"])
    assert len(rows(capsys, str(run), "--inner", "udp and src host 10.99.0.2", "--path", "0")) == 5
    abandon = rows(capsys, str(run), "--frame", "PATH_ABANDON")
    assert len(abandon) == 1 and abandon[0]["path"] == 0
    assert inspect.main([str(run), "--inner", "tcp port http"]) == 2
    assert "http is not a number" in capsys.readouterr().err


def test_cuts_of_a_run(run: Path) -> None:
    (spans,) = read_run(run / "capture.pcapng").cuts().values()
    assert len(spans) == 2 and spans[0].end - spans[0].start == pytest.approx(0.001) and spans[1].end == float("inf")

"""A lab that is up: every verb does what it says, on real traffic."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pytest
from mpq_kit import DN, DN6, Host, Mpq, wait_until

pytestmark = pytest.mark.system


def test_status_shows_nodes_and_both_paths(lab: Mpq) -> None:
    done = lab("status", "--json")
    assert done.code == 0, done.err
    status = done.document
    assert set(status["nodes"]) == {"amf", "smf", "upf", "ue"}
    assert not [n for n, s in status["nodes"].items() if "error" in s]
    assert {p["access"] for p in status["paths"]} == {"3gpp", "wifi"}
    words = lab("status")
    assert words.code == 0 and "path 0 on" in words.out
    assert "wire wifi: up 100 Mbit/s 5 ms 0 % loss, down 100 Mbit/s" in words.out


@pytest.mark.parametrize("address", [DN, DN6])
def test_packets_reach_dn_and_come_back_through_the_tunnel(lab: Mpq, address: str) -> None:
    done = lab.round_trip(address=address)
    assert done.code == 0, done.err
    assert done.out.startswith("round trip from " + ("fd45:" if ":" in address else "10.45."))


def test_top_in_a_terminal_says_why_a_path_is_not_used_and_ends_at_ctrl_c(lab: Mpq) -> None:
    assert lab("path", "cut", "wifi").code == 0
    place, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 200))
    command = [sys.executable, "-m", "lab", "top", "default", "--interval", "0.3"]
    environment = {**lab.environment(), "TERM": "xterm"}
    ends = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    process = subprocess.Popen(command, env=environment, preexec_fn=foreground, **ends)
    os.close(terminal)
    try:
        wide = screen(place, lambda text: text.count("\x1b[H\x1b[J") >= 2 and "cut: its wire is silent" in text)
        assert "access" in wide and "3gpp" in wide and "key " in wide
        termios.tcsetwinsize(place, (24, 40))
        narrow = screen(place, lambda text: text.count("\x1b[H\x1b[J") >= 3)
        assert all(len(line) <= 40 for line in narrow.split("\x1b[H\x1b[J")[-2].splitlines())
        os.write(place, b"\x03")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(place)
        assert lab("path", "restore", "wifi").code == 0


def foreground() -> None:
    """In the child: a session of its own, whose terminal this is, so that its Ctrl-C is a SIGINT (which a background job of the
    suite would ignore)."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def screen(place: int, enough: Callable[[str], bool]) -> str:
    """What the terminal was told until then."""
    told, end = "", time.monotonic() + 60
    while not enough(told):
        ready, _, _ = select.select([place], [], [], max(0.0, end - time.monotonic()))
        assert ready, told
        told += os.read(place, 65536).decode()
    return told


def test_exec_passes_output_and_exit_code_on(lab: Mpq) -> None:
    done = lab("exec", "dn", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.code, done.out, done.err) == (7, "out\n", "err\n")
    done = lab("exec", "--json", "core", "sh", "-c", "echo $0 $@", "--json")
    assert done.document == {"stdout": "--json\n", "stderr": "", "code": 0}
    assert lab("exec", "moon", "true").code == 2
    assert lab("exec", "ue", "/no/such/program").code in (1, 127)


def test_traffic_survives_the_cut_of_each_access(lab: Mpq) -> None:
    for access in ("wifi", "3gpp"):
        assert lab("path", "cut", access).code == 0
        assert lab.round_trip().code == 0
        assert lab("path", "restore", access).code == 0
        assert lab.round_trip().code == 0


def test_a_link_that_was_down_carries_again(lab: Mpq) -> None:
    """The kernel takes routes and IPv6 addresses from a link that goes down: they must come back with it."""
    before = lab("exec", "ue", "ip", "-6", "address", "show", "dev", "acc2").out
    assert lab("path", "cut", "wifi", "--link-down").code == 0
    assert lab.round_trip().code == 0
    assert lab("exec", "ue", "ip", "route", "show", "table", "102").out == ""  # canary: they were gone
    assert "link down" in lab("status").out
    assert lab("path", "restore", "wifi").code == 0
    assert lab("exec", "ue", "ip", "-6", "address", "show", "dev", "acc2").out.count("fd02::2") == before.count("fd02::2") == 1
    assert "default via 10.2.0.1" in lab("exec", "ue", "ip", "route", "show", "table", "102").out
    assert lab("path", "cut", "3gpp").code == 0
    assert lab.round_trip().code == 0  # only the access whose link was down is left
    assert lab("path", "restore", "3gpp").code == 0


def test_shape_changes_one_direction(lab: Mpq) -> None:
    done = lab("path", "shape", "wifi", "--delay-ms", "20", "--direction", "up", "--json")
    assert done.code == 0 and done.document["change"] == {"up": {"delay_ms": 20.0}}
    assert lab("path", "shape", "wlan", "--delay-ms", "20").code == 2


@pytest.mark.parametrize("by", ["core", "ue"])
def test_rekey_makes_a_new_generation_and_traffic_goes_on(lab: Mpq, by: str) -> None:
    first = lab("rekey", "--by", by, "--json")
    assert first.code == 0, first.err
    second = lab("rekey", "--by", by, "--json")
    assert second.code == 0, second.err
    assert second.document["generation"] == first.document["generation"] + 1
    assert lab.round_trip().code == 0


def test_a_second_lab_of_this_name_is_refused_and_the_first_lives_on(lab: Mpq) -> None:
    done = lab("up")
    assert done.code == 1 and "up already" in done.err
    assert lab.round_trip().code == 0


# What asks the engine and the kernel, and nothing of how the lab came to be, need not be asked in both kinds of lab.
in_the_lab_of_root = pytest.mark.parametrize("lab", ["root"], indirect=True)

SERVE = """
import socket
server = socket.create_server(("10.99.0.2", 9001))
print("ready", flush=True)
client, _ = server.accept()
client.sendall(bytes(200_000))
client.recv(1)
print("segments of at most", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
"""
WATCH = """
import json, socket
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0008)  # ETH_P_IP
raw.bind(("mpq0", 0))
raw.settimeout(20)
tcp = socket.create_connection(("10.99.0.2", 9001), 20)
got = 0
while got < 200_000:
    got += len(tcp.recv(1 << 16))
tcp.sendall(b"x")
mss, ect, data = None, 0, 0
raw.setblocking(False)
try:
    while True:
        p = raw.recv(1 << 16)
        segment = p[(p[0] & 15) * 4:]
        if p[9] != 6 or segment[:2] != (9001).to_bytes(2, "big"):
            continue
        if segment[13] & 0x12 == 0x12:
            accepts, options = segment[13] & 0x40 != 0, segment[20:(segment[12] >> 4) * 4]
            at = options.index(bytes([2, 4]))
            mss = int.from_bytes(options[at + 2:at + 4], "big")
        elif len(segment) > (segment[12] >> 4) * 4:
            data += 1
            ect += p[1] & 3 == 2
except BlockingIOError:
    pass
print(json.dumps({"mss": mss, "accepts_ecn": accepts, "data": data, "ect": ect}))
"""


@in_the_lab_of_root
def test_a_syn_is_clamped_and_ecn_goes_through(lab: Mpq) -> None:
    """The answer of a host whose link has an MTU of 1500 asks the UE for no more than a datagram carries; a flow that does ECN
    keeps its codepoint through the tunnel (RFC 6040)."""
    assert lab("exec", "ue", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_ecn").code == 0
    serving = lab.start("exec", "dn", sys.executable, "-c", SERVE)
    try:
        assert wait_until(lambda: lab("exec", "dn", "sh", "-c", "grep -q :2329 /proc/net/tcp").code == 0)  # 9001
        done = lab("exec", "ue", sys.executable, "-c", WATCH)
    finally:
        served = lab.finish(serving, 30)
    assert done.code == 0, done.err
    seen = json.loads(done.out)
    assert 1200 <= seen["mss"] <= 1452 - 32 - 40 < 1460  # what the other end asked for
    assert seen["accepts_ecn"] and seen["data"] > 3 and seen["ect"] == seen["data"]
    assert 1200 <= int(served.out.split()[-1]) <= 1380, served.out


def state_of(lab: Mpq, access: str) -> str:
    return next((p["state"] for p in lab("status", "--json").document["paths"] if p["access"] == access), "none")


@in_the_lab_of_root
def test_an_address_that_goes_an_interface_that_is_renamed_and_one_that_is_deleted(lab: Mpq) -> None:
    """R-68: the session goes on over the other access each time; what comes back is used again."""
    def ip(*arguments: str) -> None:
        done = lab("exec", "ue", "ip", *arguments)
        assert done.code == 0, done.err

    ip("address", "del", "10.2.0.2/24", "dev", "acc2")
    assert lab.round_trip().code == 0
    ip("address", "add", "10.2.0.2/24", "dev", "acc2")
    ip("route", "replace", "default", "via", "10.2.0.1", "dev", "acc2", "table", "102")
    ip("link", "set", "acc2", "down")
    ip("link", "set", "acc2", "name", "wlan9", "up")
    ip("route", "replace", "default", "via", "10.2.0.1", "dev", "wlan9", "table", "102")
    assert wait_until(lambda: state_of(lab, "wifi") in ("active", "standby"))
    assert lab("path", "cut", "3gpp").code == 0
    assert lab.round_trip().code == 0  # over the renamed one alone
    assert lab("path", "restore", "3gpp").code == 0
    assert wait_until(lambda: state_of(lab, "3gpp") in ("active", "standby"))
    ip("link", "del", "wlan9")
    assert lab.round_trip().code == 0
    assert wait_until(lambda: state_of(lab, "wifi") not in ("active", "standby"))
    assert lab("exec", "upf", "true").code == 0 and lab.round_trip(address=DN6).code == 0


def test_down_leaves_nothing(lab: Mpq) -> None:
    """Last of this file: it ends the module's lab."""
    host = Host.look()
    assert lab.processes()
    done = lab("down", "--json")
    assert done.code == 0 and done.document["was_up"] is True
    assert lab.nothing_left() and lab.labs() == [] and Host.look() == host
    assert lab("status").code == 1

"""`wire: netem`: the messages that the kernel would get, what is refused by name, and the bridges. This needs no netem."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from lab import netem
from lab.errors import LabError, ScenarioError
from lab.lab import Lab
from lab.netem import ALL, NetemWires, message, options, packets, refusal
from lab.scenario import parse
from lab.shape import BurstLoss, Shape
from lab.wires import DOWN, UP
from node.netns import Netns

privileged = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root or unshare --map-root-user")
FULL = Shape(
    rate_mbps=20, delay_ms=10, loss_percent=0.5, burst_loss=BurstLoss(1, 20, 80), reorder_percent=1, duplicate_percent=3,
    corrupt_percent=2, jitter_ms=4, jitter_every_ms=0,
)


def attributes(data: bytes) -> dict[int, bytes]:
    """rtattrs by type (linux/rtnetlink.h)."""
    found, at = {}, 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def encoded(shape: Shape, cut: bool = False) -> tuple[bytes, dict[int, bytes]]:
    """struct tcmsg, and TCA_* by type, of the message as it goes out."""
    made = message(7, shape, cut)
    made["header"]["type"] = netem.RTM_NEWQDISC
    made.encode()
    data = bytes(made.data)
    assert struct.unpack_from("=I", data)[0] == len(data)
    return data[16:36], attributes(data[36:])


def test_the_message_is_what_pkt_sched_h_says() -> None:
    head, attrs = encoded(FULL)
    assert head == struct.pack("=BBHiIII", 0, 0, 0, 7, 0x10000, 0xFFFFFFFF, 0)
    assert attrs[1] == b"netem\0"
    qopt, more = attrs[2][:24], attributes(attrs[2][24:])
    percent = lambda p: round(p / 100 * ALL)  # noqa: E731
    # latency and jitter in ticks (given in ns below), limit, loss, gap, duplicate: 20 Mbit/s are 2500 octets a millisecond
    assert qopt == struct.pack("=6I", 0, -(-2500 * (50 + 10 + 4) // 1514), percent(0.5), 1, percent(3), 0)
    assert more == {
        3: struct.pack("=II", percent(1), 0),  # TCA_NETEM_REORDER
        4: struct.pack("=II", percent(2), 0),  # TCA_NETEM_CORRUPT
        5: struct.pack("=HH4I", 20, 2, percent(1), percent(20), ALL - percent(80), percent(0.5)),  # TCA_NETEM_LOSS: NETEM_LOSS_GE
        6: struct.pack("=IiIi", 2_500_000, 0, 0, 0),  # TCA_NETEM_RATE, octets a second
        10: struct.pack("=Q", 12_000_000),  # between 10 and 14 ms
        11: struct.pack("=Q", 2_000_000),
    }


def test_what_is_encoded_is_read_back() -> None:
    made = message(3, FULL)
    made.encode()
    read = netem.Message(made.data)
    read.decode()
    told = read.get_attr("TCA_OPTIONS")
    assert read.get_attr("TCA_KIND") == "netem" and told["limit"] == packets(FULL)
    assert told.get_attr("TCA_NETEM_LOSS").get_attr("NETEM_LOSS_GE")["p"] == round(0.01 * ALL)


def test_a_cut_loses_all_and_a_plain_wire_asks_for_little() -> None:
    assert options(FULL, cut=True)["loss"] == ALL and "TCA_NETEM_LOSS" not in dict(options(FULL, cut=True)["attrs"])
    plain = options(Shape())
    assert (plain["loss"], plain["gap"], plain["duplicate"], plain["limit"]) == (0, 0, 0, 65536)
    assert [name for name, _ in plain["attrs"]] == ["TCA_NETEM_LATENCY64", "TCA_NETEM_JITTER64"]
    fast = dict(options(Shape(rate_mbps=40_000))["attrs"])
    assert fast["TCA_NETEM_RATE"]["rate"] == ALL and fast["TCA_NETEM_RATE64"] == 5_000_000_000
    assert packets(Shape(rate_mbps=10, queue_bytes=15_140)) == 10 < packets(Shape(rate_mbps=10)) == 42


@pytest.mark.parametrize(("wire", "option"), [
    ("trace: drive-lte", "trace"),
    ("shares: home, rate_mbps: 5", "shares"),
    ("jitter_ms: 3, jitter: pareto, jitter_every_ms: 0", "jitter"),
    ("jitter_ms: 3", "jitter_every_ms"),
    ("preset: lte", "jitter"),
    ("reorder_percent: 1", "reorder_percent"),
    ("queue_ms: 10", "queue_ms, queue_bytes"),
])
def test_what_netem_cannot_do_is_refused_by_name(wire: str, option: str) -> None:
    text = "%saccesses: [{name: a, type: 3gpp, wire: {%s}}, {name: b, type: non-3gpp}]\n"
    parse((text % ("", wire)).encode(), "f.yaml", "f")  # canary: the lab's own wires can
    with pytest.raises(ScenarioError, match=rf"^f.yaml:\d+: accesses\[0\].wire: wire: netem: {option}: "):
        parse((text % ("wire: netem\n", wire)).encode(), "f.yaml", "f")
    step = f"steps: [{{phase: p, traffic: none, seconds: 2, actions: [{{at: 1, shape: a, wire: {{{wire}}}}}]}}]\n"
    if "shares" not in wire:
        with pytest.raises(ScenarioError, match=f"wire: netem: {option}: "):
            parse(("wire: netem\n" + text % ("", "") + step).encode(), "f.yaml", "f")


def test_a_nat_is_the_lab_s_own() -> None:
    text = ("wire: netem\naccesses: [{name: a, type: 3gpp}, {name: b, type: non-3gpp}]\n"
            "steps: [{phase: p, traffic: none, seconds: 2, actions: [{at: 1, rebind: a}]}]\n")
    with pytest.raises(ScenarioError, match="netem has no NAT"):
        parse(text.encode(), "f.yaml", "f")


def test_a_kernel_without_it_is_named_before_anything_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    def refused(*_: Any) -> None:
        raise NetlinkError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(netem, "replace_qdisc", refused)
    scenario = parse(b"wire: netem\naccesses: [{name: a, type: 3gpp}, {name: b, type: non-3gpp}]\n", "f.yaml", "f")
    lab = Lab("x", scenario, tmp_path, tmp_path)
    if os.geteuid() == 0:
        with pytest.raises(LabError, match="the kernel has no sch_netem"):
            asyncio.run(lab.up())
    assert lab.topology.netns == {} and isinstance(lab.wires, NetemWires)


@privileged
def test_the_kernel_itself_answers() -> None:
    """It takes the message, or says that it has no such qdisc: anything else is a mistake in the message."""
    try:
        netem.require()
    except LabError as error:
        assert "the kernel has no sch_netem" in str(error)
    with Netns() as space, pytest.raises(NetlinkError) as unknown:  # canary: another answer is not taken for that
        space.call_sync(netem.replace_qdisc, 4711, Shape())
    assert unknown.value.code == errno.ENODEV


@pytest.fixture
def line() -> Iterator[tuple[list[Netns], NetemWires, dict[int, list[tuple[Shape, bool]]], tuple[int, int]]]:
    """Two namespaces whose veths end in a third one; what is set on each interface there."""
    spaces = [Netns() for _ in range(3)]
    left, right, middle = spaces
    indexes = []
    for number, space in enumerate((left, right)):
        def make(space: Netns = space, number: int = number) -> None:
            space.ipr.link("add", ifname="port", kind="veth", peer={"ifname": f"m{number}", "net_ns_fd": middle.fd})
            index = space.ipr.link_lookup(ifname="port")[0]
            space.ipr.addr("add", index=index, address=f"198.51.100.{number + 1}", prefixlen=24)
            space.ipr.link("set", index=index, state="up")

        space.call_sync(make)
        indexes.append(int(middle.call_sync(lambda n=number: middle.ipr.link_lookup(ifname=f"m{n}")[0])))
    done: dict[int, list[tuple[Shape, bool]]] = {index: [] for index in indexes}
    yield spaces, NetemWires(lambda: middle), done, (indexes[0], indexes[1])
    for space in spaces:
        space.close()


@privileged
def test_an_access_is_a_bridge_with_a_shape_at_each_way_out(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (left, right, middle), wires, done, (ue, upf) = line
    monkeypatch.setattr(netem, "replace_qdisc", lambda index, shape, cut: done[index].append((shape, cut)))
    up, down = Shape(rate_mbps=5), Shape(rate_mbps=20)
    wires.add("wifi", (middle.fd, ue), (middle.fd, upf), up, down)
    wires.start()
    a, b = (
        space.call_sync(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for space in (left, right)
    )
    with a, b:
        b.bind(("198.51.100.2", 5000))
        b.settimeout(20)
        a.sendto(b"over the bridge", ("198.51.100.2", 5000))
        assert b.recv(100) == b"over the bridge"
    assert done == {upf: [(up, False)], ue: [(down, False)]}  # what leaves to the UPF is up
    wires.change("wifi", {"delay_ms": 3})
    wires.cut("wifi", True, (UP,))
    assert done[upf][-1] == (Shape(rate_mbps=5, delay_ms=3), True) and done[ue][-1] == (Shape(rate_mbps=20, delay_ms=3), False)
    wires.add("wifi", (middle.fd, ue), (middle.fd, upf), up, down)  # the UPF was started again: the shape stays
    assert done[upf][-1] == (Shape(rate_mbps=5, delay_ms=3), True)
    assert wires.shape_of("wifi", DOWN).delay_ms == 3
    told = wires.stats()["wifi"]
    assert told["cut"] and told["up"]["rate_mbps"] == 5
    for wrong in ({"trace": "x"}, {"jitter_ms": 3}):
        with pytest.raises(LabError, match="wire: netem: "):
            wires.change("wifi", wrong)
    with pytest.raises(LabError, match="no such access"):
        wires.cut("wlan", True)
    with pytest.raises(LabError, match="no NAT"):
        wires.rebind("wifi", 1, 2)


@privileged
def test_each_access_has_a_bridge_of_its_own_in_whatever_order_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netem, "replace_qdisc", lambda *_: None)
    with Netns() as space:
        wires, index_of = NetemWires(lambda: space), lambda name: int(space.ipr.link_lookup(ifname=name)[0])

        def masters(*names: str) -> list[int]:
            return [space.ipr.link("get", index=index_of(name))[0].get_attr("IFLA_MASTER") for name in names]

        for _ in range(2):  # the second time the UPF was started again
            for name in ("wifi", "lte"):  # not in the order of the alphabet
                if not space.call_sync(lambda n=name: space.ipr.link_lookup(ifname=f"{n}-ue")):
                    space.call_sync(lambda n=name: space.ipr.link("add", ifname=f"{n}-ue", kind="veth", peer=f"{n}-upf"))
                ends = [space.call_sync(index_of, f"{name}-{end}") for end in ("ue", "upf")]
                wires.add(name, (space.fd, ends[0]), (space.fd, ends[1]), Shape(), Shape())
            wifi_ue, wifi_upf, lte_ue, lte_upf = space.call_sync(masters, "wifi-ue", "wifi-upf", "lte-ue", "lte-upf")
            assert wifi_ue == wifi_upf != lte_ue == lte_upf and None not in (wifi_ue, lte_ue)


def test_every_shape_is_said_or_refused() -> None:
    """Of each value of a shape: it changes the message, or netem refuses it."""
    base = Shape(rate_mbps=10, delay_ms=10, jitter_every_ms=0)
    values: dict[str, Any] = {
        "rate_mbps": 11, "delay_ms": 11, "jitter_ms": 1, "jitter": "pareto", "jitter_every_ms": 5, "loss_percent": 1,
        "burst_loss": BurstLoss(1, 2, 3), "reorder_percent": 1, "duplicate_percent": 1, "corrupt_percent": 1, "queue_ms": 10,
        "queue_bytes": 3000, "trace": "x", "shares": "x",
    }
    assert set(values) == set(Shape.__dataclass_fields__)
    for name, value in values.items():
        changed = base.changed({name: value} | ({"jitter_ms": 1} if name.startswith("jitter") else {}))
        assert refusal(changed) or options(changed) != options(base), name

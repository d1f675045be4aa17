"""Wires that the kernel makes: sch_netem behind a bridge for each access, from the same scenario file (`wire: netem`).

    wires:u1 ── bridge w1 ── wires:n1        netem on the egress of n1 (up, to the UPF) and of u1 (down, to the UE)

What netem cannot do is refused by name when the scenario is read; whether the kernel has it is asked before anything is set up. The
messages are built here (pyroute2 knows neither the loss model of Gilbert and Elliott nor times in nanoseconds) and are what
`tc qdisc replace ... netem` sends (linux/pkt_sched.h, net/sched/sch_netem.c).
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_NEWQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from lab.errors import LabError
from lab.shape import DEFAULT_QUEUE_MS, Shape, both_ways
from lab.wires import DOWN, UP
from node.netns import Netns

ALL = 0xFFFFFFFF  # of a chance
FRAME = 1514
MOST_PACKETS = 65536
HANDLE = 0x10000
NLMSG_HEADER = 16
ANSWER_S = 5.0
MS = 1_000_000


class Options(nla):  # type: ignore[misc]
    """struct tc_netem_qopt and what follows it (TCA_NETEM_*). Chances are shares of 2^32 - 1."""

    fields = (("latency", "I"), ("limit", "I"), ("loss", "I"), ("gap", "I"), ("duplicate", "I"), ("jitter", "I"))
    nla_map = (
        (0, "TCA_NETEM_UNSPEC", "none"), (3, "TCA_NETEM_REORDER", "chance"), (4, "TCA_NETEM_CORRUPT", "chance"),
        (5, "TCA_NETEM_LOSS", "loss"), (6, "TCA_NETEM_RATE", "rate"), (8, "TCA_NETEM_RATE64", "uint64"),
        (10, "TCA_NETEM_LATENCY64", "uint64"), (11, "TCA_NETEM_JITTER64", "uint64"),
    )

    class chance(nla):  # type: ignore[misc]
        fields = (("probability", "I"), ("correlation", "I"))

    class rate(nla):  # type: ignore[misc]
        fields = (("rate", "I"), ("packet_overhead", "i"), ("cell_size", "I"), ("cell_overhead", "i"))

    class loss(nla):  # type: ignore[misc]
        nla_map = ((1, "NETEM_LOSS_GI", "none"), (2, "NETEM_LOSS_GE", "gilbert_elliott"))

        class gilbert_elliott(nla):  # type: ignore[misc]
            """p: enter the bad state, r: leave it, h: pass in it, k1: be lost in the good one."""

            fields = (("p", "I"), ("r", "I"), ("h", "I"), ("k1", "I"))


class Message(tcmsg):  # type: ignore[misc]
    @staticmethod
    def get_options(self: Any, *_: Any, **__: Any) -> type[nla]:  # as pyroute2 calls it
        return Options


def share(percent: float) -> int:
    return round(percent / 100 * ALL)


def refusal(shape: Shape) -> str:
    """Which option netem cannot do, and why; empty: none."""
    if shape.trace is not None:
        return "trace: netem follows no trace"
    if shape.shares is not None:
        return "shares: netem has a line for each wire"
    if shape.jitter_ms and shape.jitter != "uniform":
        return f"jitter: netem has no {shape.jitter} without a table of it; uniform is there"
    if shape.jitter_ms and shape.jitter_every_ms:
        return "jitter_every_ms: netem draws for each packet, and packets then overtake: say jitter_every_ms: 0"
    if shape.reorder_percent and not shape.delay_ms:
        return "reorder_percent: netem lets packets overtake those that are delayed: it needs delay_ms"
    if shape.rate_mbps is None and (shape.queue_bytes is not None or shape.queue_ms != DEFAULT_QUEUE_MS):
        return "queue_ms, queue_bytes: there is no queue without rate_mbps"
    return ""


def packets(shape: Shape) -> int:
    """netem's limit: it counts in packets (full ones, here), and what is delayed counts as what waits for the line."""
    if shape.rate_mbps is None:
        return MOST_PACKETS
    octets = shape.rate_mbps * 1000 / 8 * shape.queue_ms
    if shape.queue_bytes is not None:
        octets = min(octets, shape.queue_bytes)
    octets += shape.rate_mbps * 1000 / 8 * (shape.delay_ms + shape.jitter_ms)
    return max(2, min(MOST_PACKETS, math.ceil(octets / FRAME)))


def options(shape: Shape, cut: bool = False) -> dict[str, Any]:
    """Of Options. `cut`: every packet is lost, silently."""
    burst = shape.burst_loss
    attributes: list[tuple[str, Any]] = [
        # our jitter is between 0 and jitter_ms on top of the delay, netem's around its own
        ("TCA_NETEM_LATENCY64", round((shape.delay_ms + shape.jitter_ms / 2) * MS)),
        ("TCA_NETEM_JITTER64", round(shape.jitter_ms / 2 * MS)),
    ]
    if shape.rate_mbps is not None:
        octets = round(shape.rate_mbps * 1e6 / 8)
        attributes.append(("TCA_NETEM_RATE", {"rate": min(octets, ALL)}))
        if octets > ALL:
            attributes.append(("TCA_NETEM_RATE64", octets))
    if burst.enter_percent and not cut:
        model = {"p": share(burst.enter_percent), "r": share(burst.leave_percent), "h": ALL - share(burst.loss_percent),
                 "k1": share(shape.loss_percent)}
        attributes.append(("TCA_NETEM_LOSS", {"attrs": [("NETEM_LOSS_GE", model)]}))
    if shape.reorder_percent:
        attributes.append(("TCA_NETEM_REORDER", {"probability": share(shape.reorder_percent)}))
    if shape.corrupt_percent:
        attributes.append(("TCA_NETEM_CORRUPT", {"probability": share(shape.corrupt_percent)}))
    return {
        "limit": packets(shape), "loss": ALL if cut else share(shape.loss_percent), "gap": int(shape.reorder_percent > 0),
        "duplicate": share(shape.duplicate_percent), "attrs": attributes,
    }


def message(index: int, shape: Shape, cut: bool = False) -> Message:
    """RTM_NEWQDISC that gives this interface's egress this shape, in place of the one it had."""
    made = Message()
    made["index"], made["handle"], made["parent"] = index, HANDLE, TC_H_ROOT
    made["attrs"] = [("TCA_KIND", "netem"), ("TCA_OPTIONS", options(shape, cut))]
    return made


def replace_qdisc(index: int, shape: Shape, cut: bool = False) -> None:
    """In the namespace of the calling thread. NetlinkError has the kernel's code."""
    request = message(index, shape, cut)
    request["header"]["type"] = RTM_NEWQDISC
    request["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    request["header"]["sequence_number"] = 1
    request.encode()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link:
        link.settimeout(ANSWER_S)
        link.send(request.data)
        answer = link.recv(1 << 16)
    code = -struct.unpack_from("=i", answer, NLMSG_HEADER)[0]  # struct nlmsgerr
    if code:
        raise NetlinkError(code, os.strerror(code))


def require() -> None:
    """LabError when this kernel has no netem: asked on a veth in a namespace that goes again."""
    with Netns() as space:

        def ask() -> None:
            space.ipr.link("add", ifname="ask", kind="veth", peer="answer")
            replace_qdisc(space.ipr.link_lookup(ifname="ask")[0], Shape(rate_mbps=1, delay_ms=1))

        try:
            space.call_sync(ask)
        except (NetlinkError, OSError) as error:
            if isinstance(error, NetlinkError) and error.code == errno.ENOENT:
                raise LabError("wire: netem: the kernel has no sch_netem; leave `wire` out to use the wires of the lab") from None
            raise LabError(f"wire: netem: the kernel refuses it: {error}") from None


class NetemWires:
    """In place of lab.wires.Wires. There is no thread of ours, and so nothing that could be late."""

    realtime = True

    def __init__(self, space: Callable[[], Netns]) -> None:
        """`space`: the namespace in which the ends of all wires lie."""
        self._space = space
        self._shapes: dict[str, list[Shape]] = {}
        self._cut: dict[str, list[bool]] = {}
        self._ends: dict[str, tuple[int, int]] = {}

    def add(self, name: str, ue_end: tuple[int, int], upf_end: tuple[int, int], up: Shape, down: Shape) -> None:
        """(namespace fd, interface index) of both ends. A wire of this name is replaced and keeps its shape."""
        self._shapes.setdefault(name, [up, down])
        self._cut.setdefault(name, [False, False])
        ends = self._ends[name] = (upf_end[1], ue_end[1])  # where what goes up and down leaves
        number = list(self._ends).index(name)  # in the order they came: another name changes none that is there
        space = self._space()

        def join() -> None:
            bridge = f"w{number}"
            if not space.ipr.link_lookup(ifname=bridge):
                space.ipr.link("add", ifname=bridge, kind="bridge")
            index = space.ipr.link_lookup(ifname=bridge)[0]
            for end in ends:
                space.ipr.link("set", index=end, master=index, state="up")
            space.ipr.link("set", index=index, state="up")

        self._call(f"the bridge of access {name}", join)
        for direction in (UP, DOWN):
            self._set(name, direction)

    def start(self) -> None:
        """They carry as soon as they are made."""

    def cut(self, name: str, cut: bool, directions: tuple[int, ...] = (UP, DOWN)) -> None:
        for direction in directions:
            self._named(name)
            self._cut[name][direction] = cut
            self._set(name, direction)

    def rebind(self, name: str, server: int, outside: int) -> None:
        raise LabError("rebind: netem has no NAT; leave `wire` out to use the wires of the lab")

    def change(self, name: str, change: dict[str, Any]) -> None:
        shapes = both_ways(change, *self._named(name))
        for shape in shapes:
            if why := refusal(shape):
                raise LabError(f"wire: netem: {why}")
        self._shapes[name] = list(shapes)
        for direction in (UP, DOWN):
            self._set(name, direction)

    def shape_of(self, name: str, direction: int) -> Shape:
        return self._named(name)[direction]

    def _named(self, name: str) -> list[Shape]:
        if name not in self._shapes:
            raise LabError(f"{name}: there is no such access; there are {', '.join(self._shapes)}")
        return self._shapes[name]

    def _set(self, name: str, direction: int) -> None:
        index, shape = self._ends[name][direction], self._shapes[name][direction]
        self._call(f"the wire of access {name}", lambda: replace_qdisc(index, shape, self._cut[name][direction]))

    def _call(self, what: str, work: Callable[[], None]) -> None:
        try:
            self._space().call_sync(work)
        except (NetlinkError, OSError) as error:
            raise LabError(f"{what}: {error}") from None

    def stats(self) -> dict[str, Any]:
        """What netem tells: all it drops is one number, by chance, by the queue or by a cut; the rest stays 0."""
        result: dict[str, Any] = {}
        for name, shapes in self._shapes.items():
            result[name] = {"cut": any(self._cut[name])}
            for direction, word in ((UP, "up"), (DOWN, "down")):
                shape, told = shapes[direction], self._told(self._ends[name][direction])
                result[name][word] = {
                    "rate_mbps": shape.rate_mbps, "delay_ms": shape.delay_ms, "loss_percent": shape.loss_percent,
                    "packets": told.get("packets", 0), "bytes": told.get("bytes", 0), "dropped_queue": told.get("drops", 0),
                    "dropped_loss": 0, "dropped_cut": 0, "duplicated": 0, "reordered": 0, "corrupted": 0,
                    "queued_bytes": told.get("backlog", 0), "queued_max_bytes": 0, "late_p50_us": 0, "late_p99_us": 0,
                    "late_max_ms": 0.0, "kernel_drops": 0, "dropped_nat": 0,
                }
        return result

    def _told(self, index: int) -> dict[str, int]:
        space = self._space()

        def ask() -> dict[str, int]:
            for found in space.ipr.get_qdiscs(index=index):
                stats = found.get_attr("TCA_STATS2")
                basic, queue = (stats.get_attr(f"TCA_STATS_{part}") or {} for part in ("BASIC", "QUEUE")) if stats else ({}, {})
                return {**{k: int(basic.get(k, 0)) for k in ("bytes", "packets")},
                        **{k: int(queue.get(k, 0)) for k in ("backlog", "drops")}}
            return {}

        try:
            return space.call_sync(ask)
        except NetlinkError:
            return {}

    def close(self) -> None:
        """They go with their namespace."""

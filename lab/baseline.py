"""What the same two wires give without the tunnel, in the same lab: kernel MPTCP over both accesses, or the plain forwarder (TUN
and UDP, no QUIC, no cryptography) over one. A baseline that this machine cannot run is skipped by name, and fails no run."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.mptcp import MPTCP

from lab.configs import TUN_MTU
from lab.errors import LabError
from lab.process import Process
from lab.scenario import Phase
from lab.topology import AMF, AccessAddresses, Topology
from lab.traffic import MARGIN, OMIT_S, TrafficResult, iperf
from native import ffi, lib

MPTCP_ENABLED = Path("/proc/sys/net/mptcp/enabled")
MPTCP_PORT = 5202
FORWARDER_PORT = 4434
FORWARDER_ENDS = {"ue": "10.46.0.2", "dn": "10.46.0.1"}
TUN_NAME = "fwd0"
TUN_QUEUE = 1000
SUBFLOW = 2  # MPTCP_PM_ADDR_FLAG_SUBFLOW


class Skip(Exception):
    """The baseline cannot run here; the text says why."""


async def run_baseline(topology: Topology, phase: Phase, numbers: dict[str, int]) -> TrafficResult:
    """`numbers`: of the accesses by name. LabError only when the lab itself is broken."""
    try:
        if phase.carrier == "mptcp":
            return await _mptcp(topology, phase, list(numbers.values()))
        async with _forwarder(topology, str(phase.only), numbers[str(phase.only)]):
            return await iperf(topology, phase, FORWARDER_ENDS["dn"])
    except Skip as why:
        return TrafficResult(skipped=str(why))


# ---- MPTCP: the far end is `core`, which both access namespaces route to by N1's link

async def _mptcp(topology: Topology, phase: Phase, accesses: list[int]) -> TrafficResult:
    enabled = topology.netns["ue"].call_sync(lambda: MPTCP_ENABLED.exists() and MPTCP_ENABLED.read_text().strip() == "1")
    if not enabled:
        raise Skip("this kernel has no MPTCP, or net.mptcp.enabled is 0")
    addresses = [AccessAddresses(n) for n in accesses]
    try:
        topology.netns["ue"].call_sync(_subflows, [a.ue for a in addresses[1:]])
        topology.netns["core"].call_sync(_subflows, [])
    except (NetlinkError, OSError) as error:
        raise Skip(f"the kernel's MPTCP path manager refuses: {error}") from None
    at = f"{AMF}:{MPTCP_PORT}"
    omit = phase.omit_s if phase.omit_s is not None else OMIT_S if phase.seconds >= 3 else 0
    common = ["--flows", str(phase.flows), "--seconds", str(phase.seconds), "--omit", str(omit)]
    server = await Process.python(
        "lab.mptcp_flow", ["serve", "--at", at, *common, *(["--send"] if phase.direction == "down" else [])], topology.netns["core"]
    )
    try:
        ready = json.loads(await server.line(MARGIN))
        if "error" in ready:
            raise Skip(ready["error"])
        client = await Process.python(
            "lab.mptcp_flow", ["connect", "--at", at, "--source", addresses[0].ue, *common,
                               *(["--send"] if phase.direction == "up" else [])], topology.netns["ue"]
        )
        ends = await asyncio.gather(client.finish(phase.seconds + MARGIN), server.finish(phase.seconds + MARGIN))
    finally:
        server.kill()
    out = ends[0 if phase.direction == "down" else 1][0]
    try:
        received: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return TrafficResult(error="mptcp: the receiver ended without a result")
    if "error" in received:
        return TrafficResult(error=f"mptcp: {received['error']}")
    if received["fallback"]:
        raise Skip("the connection fell back to plain TCP")
    octets, seconds = int(received["octets"]), float(received["seconds"])
    return TrafficResult(goodput_mbps=octets * 8 / seconds / 1e6 if seconds else 0.0, octets=octets)


def _subflows(further: list[str]) -> None:
    """In the calling thread's namespace: connections may have these addresses of ours, too."""
    with MPTCP() as manager:
        manager.limits("set", subflows=2, rcv_add_addrs=2)
        have = {str(message.get_nested("MPTCP_PM_ATTR_ADDR", "MPTCP_PM_ADDR_ATTR_ADDR4")) for message in manager.endpoint("show")}
        for address in further:
            if address not in have:
                manager.endpoint("add", addr=address, flags=SUBFLOW)


# ---- the forwarder: a TUN in `ue` and one in `dn`, the access between them

@asynccontextmanager
async def _forwarder(topology: Topology, name: str, number: int) -> AsyncIterator[None]:
    addresses = AccessAddresses(number)
    tuns: list[int] = []
    sockets: list[socket.socket] = []
    forwarders: list[Any] = []
    try:
        for node in ("ue", "dn"):
            tuns.append(topology.netns[node].call_sync(_tun, topology, node))
        for space, here, there in (("ue", addresses.ue, addresses.upf), (f"access:{name}", addresses.upf, addresses.ue)):
            sockets.append(topology.netns[space].call_sync(_socket, here, there))
        for tun, sock in zip(tuns, sockets, strict=True):
            forwarder = lib.forwarder_new(tun, sock.fileno())
            if forwarder == ffi.NULL:
                raise Skip("the forwarder cannot be made")
            forwarders.append(forwarder)
            if lib.forwarder_start(forwarder) < 0:
                raise Skip("the forwarder's thread cannot be started")
        yield
    except OSError as error:
        raise Skip(f"the forwarder cannot be made: {error.strerror}") from None
    finally:
        for forwarder in forwarders:
            lib.forwarder_free(forwarder)
        for sock in sockets:
            sock.close()
        for tun in tuns:  # the TUN and its routes go with it
            os.close(tun)


def _tun(topology: Topology, node: str) -> int:
    ipr = topology.netns[node].ipr
    fd = int(lib.tun_open(TUN_NAME.encode()))
    if fd < 0:
        raise LabError(f"{node}: the forwarder's TUN cannot be made (error {-fd})")
    index = ipr.link_lookup(ifname=TUN_NAME)[0]
    far = FORWARDER_ENDS["dn" if node == "ue" else "ue"]
    ipr.link("set", index=index, mtu=TUN_MTU, state="up", txqlen=TUN_QUEUE)
    ipr.addr("add", index=index, address=FORWARDER_ENDS[node], prefixlen=32)
    ipr.route("add", dst=f"{far}/32", oif=index)
    return fd


def _socket(here: str, there: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((here, FORWARDER_PORT))
    sock.connect((there, FORWARDER_PORT))
    return sock

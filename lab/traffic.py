"""Traffic between `ue` and `dn`, measured at its receiver: iperf3 (TCP forced to CUBIC, UDP), an HTTP download, the UDP probe."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import LabError
from lab.process import Process
from lab.scenario import Phase
from lab.topology import AMF, DN, Topology

IPERF_PORT, RIVAL_PORT, HTTP_PORT, PROBE_PORT = 5201, 5203, 8000, 7000
UDP_OCTETS = 1200
PROBES: dict[bool | str, tuple[int, float, int]] = {True: (3, 2.0, 64), "game": (1, 15.625, 100), "video": (1, 2.4, 1200)}
"""Flows, ms between packets, octets: the probe; a game's 64 updates a second; a video's 4 Mbit/s."""
PAGE_LIMIT_S = 15.0
MARGIN = 10.0
OMIT_S = 1  # of slow start, in phases that measure goodput


@dataclass(slots=True)
class TrafficResult:
    """Goodput is the receiver's. `probe`: flow results by direction."""

    goodput_mbps: float | None = None
    octets: int = 0
    rival_mbps: float | None = None
    lost: int = 0
    reordered: int = 0
    sha256_sent: str = ""
    sha256_received: str = ""
    error: str = ""
    skipped: str = ""  # why a baseline could not run
    page_loads_s: list[float] = field(default_factory=list)
    probe: dict[str, dict[str, Any]] = field(default_factory=dict)

    def gaps(self) -> list[tuple[float, float]]:
        """Silences of all probe flows, CLOCK_MONOTONIC."""
        return [
            (a, b) for document in self.probe.values() for flow in document["flows"].values() for a, b in flow["gaps"]
        ]


async def iperf(
    topology: Topology, phase: Phase, server_at: str = DN, *, server_in: str = "dn", port: int = IPERF_PORT,
    source: str | None = None,
) -> TrafficResult:
    """`source`: the client's address, if not the one that its routes give it."""
    server = await Process.start(
        ["iperf3", "--server", "--one-off", "--bind", server_at, "--port", str(port), "--json", "--forceflush"],
        topology.netns[server_in],
    )
    omit = 0 if phase.actions or phase.traffic == "udp" or phase.seconds < 3 else OMIT_S
    omit = omit if phase.omit_s is None else phase.omit_s
    command = ["iperf3", "--client", server_at, "--port", str(port), "--json", "--parallel", str(phase.flows),
               "--time", str(max(1, math.ceil(phase.seconds - omit))), "--connect-timeout", "5000"]
    if omit:
        command += ["--omit", str(omit)]
    if phase.traffic == "udp":
        command += ["--udp", "--length", str(UDP_OCTETS), "--bitrate", str(int((phase.rate_mbps or 1.0) * 1e6) // phase.flows)]
    else:
        command += ["--congestion", "cubic"]
    if phase.direction == "down":
        command.append("--reverse")
    if source is not None:
        command += ["--bind", source]
    try:
        for _attempt in range(5):  # the server may not listen yet
            client = await Process.start(command, topology.netns["ue"])
            out, _, code = await client.finish(phase.seconds + MARGIN)
            try:
                document = json.loads(out)
            except ValueError:
                return TrafficResult(error=f"iperf3 ended with exit code {code} and no result")
            if "unable to connect" not in str(document.get("error", "")):
                break
            await asyncio.sleep(0.1)
    finally:
        server.kill()
    if "error" in document:
        return TrafficResult(error=f"iperf3: {document['error']}")
    end = document["end"]
    if phase.traffic == "udp":
        total = end["sum"]
        lost, packets = int(total.get("lost_packets", 0)), int(total.get("packets", 0))
        received = end.get("sum_received", {})
        octets = int(received.get("bytes") or (packets - lost) * UDP_OCTETS)
        seconds = float(received.get("seconds") or total["seconds"])
        return TrafficResult(goodput_mbps=octets * 8 / seconds / 1e6 if seconds else 0.0, octets=octets, lost=lost,
                             reordered=int(total.get("out_of_order", 0)))
    received = end["sum_received"]
    return TrafficResult(goodput_mbps=float(received["bits_per_second"]) / 1e6, octets=int(received["bytes"]))


async def http(topology: Topology, phase: Phase) -> TrafficResult:
    server = await Process.python(
        "lab.http_file", ["serve", "--address", DN, "--port", str(HTTP_PORT), "--octets", str(phase.megabytes * 1_000_000)],
        topology.netns["dn"],
    )
    try:
        served = json.loads(await server.line(MARGIN))
        client = await Process.python(
            "lab.http_file", ["fetch", "--address", DN, "--port", str(HTTP_PORT), "--limit", str(phase.seconds)],
            topology.netns["ue"],
        )
        out, _, code = await client.finish(phase.seconds + MARGIN)
    finally:
        server.kill()
    try:
        fetched = json.loads(out)
    except ValueError:
        return TrafficResult(error=f"the download ended with exit code {code} and no result")
    if "error" in fetched:
        return TrafficResult(error=f"http: {fetched['error']}", octets=int(fetched["octets"]))
    return TrafficResult(
        goodput_mbps=fetched["octets"] * 8 / fetched["seconds"] / 1e6,
        octets=int(fetched["octets"]),
        sha256_sent=str(served["sha256"]),
        sha256_received=str(fetched["sha256"]),
    )


async def web(topology: Topology, phase: Phase) -> TrafficResult:
    server = await Process.python("lab.http_file", ["serve", "--address", DN, "--port", str(HTTP_PORT)], topology.netns["dn"])
    try:
        await server.line(MARGIN)
        arguments = ["page", "--address", DN, "--port", str(HTTP_PORT), "--objects", str(phase.objects),
                     "--seconds", str(phase.seconds), "--limit", str(PAGE_LIMIT_S)]
        client = await Process.python("lab.http_file", arguments, topology.netns["ue"])
        out, _, code = await client.finish(phase.seconds + PAGE_LIMIT_S + MARGIN)
    finally:
        server.kill()
    try:
        fetched = json.loads(out)
    except ValueError:
        return TrafficResult(error=f"the page ended with exit code {code} and no result")
    if "error" in fetched:
        return TrafficResult(error=f"web: {fetched['error']}", octets=int(fetched["octets"]))
    return TrafficResult(goodput_mbps=fetched["octets"] * 8 / fetched["seconds"] / 1e6, octets=int(fetched["octets"]),
                         page_loads_s=[float(s) for s in fetched["loads_s"]])


async def probe(topology: Topology, ue_address: str, duration: float, kind: bool | str = True,
                started: asyncio.Event | None = None) -> dict[str, dict[str, Any]]:
    """Both directions at once, of one of PROBES."""
    flows, interval_ms, octets = PROBES[kind]
    ends = {"up": ("ue", "dn", DN), "down": ("dn", "ue", ue_address)}
    receivers: dict[str, Process] = {}
    for direction, (_source, sink, address) in ends.items():
        arguments = ["receive", "--listen", f"{address}:{PROBE_PORT}", "--duration", str(duration + 1.0)]
        receivers[direction] = await Process.python("lab.probe", arguments, topology.netns[sink])
    for process in receivers.values():
        await process.line(MARGIN)
    senders = []
    for source, _sink, address in ends.values():
        arguments = ["send", "--to", f"{address}:{PROBE_PORT}", "--flows", str(flows), "--octets", str(octets),
                     "--interval-ms", str(interval_ms), "--duration", str(duration)]
        senders.append(await Process.python("lab.probe", arguments, topology.netns[source]))
    for sender in senders:
        await sender.line(MARGIN)
    if started is not None:
        started.set()
    for sender in senders:
        await sender.finish(duration + MARGIN)
    result = {}
    for direction, process in receivers.items():
        out, _, code = await process.finish(duration + MARGIN)
        try:
            result[direction] = json.loads(out)
        except ValueError:
            raise LabError(f"the probe's receiver ended with exit code {code} and no result") from None
    return result


async def run_traffic(
    topology: Topology, phase: Phase, ue_address: str, started: asyncio.Event | None = None, access_address: str = ""
) -> TrafficResult:
    """The phase's traffic, with the probe and the rival beside it when the phase wants them. `started`: set when the probe runs.
    `access_address`: the UE's on the rival's access; it goes past the tunnel, to `core`, which lies behind every access."""
    async with asyncio.TaskGroup() as group:
        main: asyncio.Task[TrafficResult] | None = None
        rival: asyncio.Task[TrafficResult] | None = None
        if phase.rival is not None:
            one = replace(phase, flows=1)
            rival = group.create_task(
                iperf(topology, one, AMF, server_in="core", port=RIVAL_PORT, source=access_address), name="rival"
            )
        beside: asyncio.Task[dict[str, dict[str, Any]]] | None = None
        if phase.traffic in ("tcp", "udp"):
            main = group.create_task(iperf(topology, phase))
        elif phase.traffic == "http":
            main = group.create_task(http(topology, phase))
        elif phase.traffic == "web":
            main = group.create_task(web(topology, phase))
        if phase.probe:
            beside = group.create_task(probe(topology, ue_address, phase.seconds, phase.probe, started))
        elif started is not None:
            started.set()
        if main is None and beside is None:
            group.create_task(asyncio.sleep(phase.seconds))
    result = TrafficResult() if main is None else main.result()
    if beside is not None:
        result.probe = beside.result()
    if rival is not None:
        result.rival_mbps = rival.result().goodput_mbps
        result.error = result.error or (rival.result().error and f"rival: {rival.result().error}")
    return result

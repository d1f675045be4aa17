"""The engine's work for one inner packet, in memory: no sockets, no TUN; the AEAD is measured beside it and told apart."""

from __future__ import annotations

from lab.bench.figure import Figure
from lab.bench.pair import BenchError, check
from native._engine import ffi, lib
from native.sim import ACTIVE_3GPP, SECOND, Simulator, udp4

LENGTH = 1400
WARM_UP = 32_000  # packets: the window grows, tables fill


def measure_engine(runs: int, packets: int) -> list[Figure]:
    """`engine.memory.*`: CPU time of a side with its AEAD; `engine.own.*`: without. Ratio `aead`: to the AEAD pass alone."""
    names = ("engine.memory.send", "engine.memory.receive", "engine.own.send", "engine.own.receive")
    send, receive, own_send, own_receive = (Figure(name, "ns/packet") for name in names)
    with Simulator(1) as sim:
        conn, peer = sim.connect()
        sim.run(SECOND)
        sim.tunnel(conn, peer, [ACTIVE_3GPP], mtu=LENGTH)
        packet = udp4(LENGTH)
        result = ffi.new("struct engine_bench_result *")
        for run in range(runs + 1):
            count = packets if run else WARM_UP
            check(
                lib.engine_bench(
                    sim.client.endpoint,
                    sim.server.endpoint,
                    sim.client_address[0],
                    sim.server_address,
                    0x1301,
                    packet,
                    LENGTH,
                    count,
                    sim.now + run * SECOND,
                    result,
                ),
                "engine_bench",
            )
            if result.delivered < count / 2:
                raise BenchError(f"only {result.delivered} of {count} packets came through the engine")
            if run == 0:
                continue
            send.add(result.send_ns, aead=result.seal_ns)
            receive.add(result.receive_ns, aead=result.open_ns)
            own_send.add(result.send_ns - result.seal_ns)
            own_receive.add(result.receive_ns - result.open_ns)
    whole = Figure("engine.memory", "ns/packet")
    for a, b in zip(send.values, receive.values, strict=True):
        whole.add((a + b) / 2)
    return [whole, send, receive, own_send, own_receive]

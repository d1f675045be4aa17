"""Two endpoints of the engine in one process, with a virtual clock and seeded wires between them (tests only).

The same C core as under the I/O thread, driven sans-IO: what happens here happens again with the same seed. The network is in C
(native/src/simnet.c), so that thousands of connections can be run; it holds the rules of simnet_check.c and invariant.c for every
datagram. A handshake with fixed secrets stands for TLS.
"""

from __future__ import annotations

from native.sim.handshake import SUITE, FixedHandshake
from native.sim.inner import ACTIVE_3GPP, ACTIVE_NON_3GPP, BALANCED, REDUNDANT, SPLIT, serial_of, tcp4, udp4
from native.sim.node import ANY, MS, NEVER, SECOND, Event, Node, address, check
from native.sim.simulator import Simulator, SimulatorError

__all__ = [
    "ACTIVE_3GPP",
    "ACTIVE_NON_3GPP",
    "ANY",
    "BALANCED",
    "MS",
    "NEVER",
    "REDUNDANT",
    "SECOND",
    "SPLIT",
    "SUITE",
    "Event",
    "FixedHandshake",
    "Node",
    "Simulator",
    "SimulatorError",
    "address",
    "check",
    "serial_of",
    "tcp4",
    "udp4",
]

"""What the other tests of this folder stand on: every QUIC packet of the run is in clear, with its path and connection, through a
rebinding, a key update and a re-key."""

from __future__ import annotations

from needs import needs_tun
from oracle_recorded import QUIC_PORT, Recorded

from lab.packets.frames import PathChallenge


@needs_tun
def test_every_packet_of_a_run_is_in_clear(recorded: Recorded) -> None:
    packets = [one.told for several in recorded.clear.values() for one in several]
    assert [packet.words() for packet in packets if packet.reason] == []
    assert sum(len(several) > 0 for several in recorded.clear.values()) == len(dict(recorded.udp(QUIC_PORT))) > 200
    short = [packet for packet in packets if packet.kind == "1rtt"]
    assert {packet.path for packet in short} == {0, 1} and all(packet.connection is not None for packet in short)
    assert len({packet.connection for packet in short if packet.inner_count}) == 2          # before and after the re-key
    assert max(packet.generation for packet in short) >= 1                                  # the key update
    challenged = [packet for packet in short if not packet.up and any(isinstance(frame, PathChallenge) for frame in packet.frames)]
    first = min(packet.connection or 0 for packet in challenged)
    assert sum(packet.connection == first for packet in challenged) >= 2    # the second path, and where the rebound one is now

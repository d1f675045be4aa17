"""A client, a server and their network with a model beside them: random operations, and what must hold after each of them.

The rules of every datagram (packet numbers, window, accounting, the engine's own books) are held in C (native/src/simnet_check.c
and invariant.c). Here is the rest: what was delivered was sent, once and unchanged; the events of a connection make sense; every
frame's token comes back; the counters add up; and while a path lives, things go on.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from itertools import pairwise
from typing import Any

from remembered import CHUNK, Stream, View, pattern, read_varint, varint

from native import ffi, lib
from native.sim import ANY, BALANCED, MS, REDUNDANT, SECOND, SPLIT, Event, Node, Simulator, address, check, serial_of, udp4

LINKS = 3
PATIENCE = 8 * SECOND  # virtual time in which anything must have happened once the network is well
IDLE_MOST = 50 * SECOND  # an end that hears nothing has given up: what it sends after up to 15 s begins the idle time-out anew
NO_VIABLE_PATH = 0x10
INVALID_TOKEN = 0xB
APPLICATION_ERROR = 0xC
UP, DOWN = 0, 1
SIDES = ("client", "server")

RULES: list[tuple[dict[str, Any], float]] = [  # and how often
    (SPLIT, 0.4),  # with sequence numbers
    (BALANCED, 0.2),
    ({"mode": 1}, 0.1),
    ({"mode": 3, "active_access": 1}, 0.1),
    (BALANCED | {"max_rtt_ms": 60, "has_max_loss": 1, "max_loss_percent": 2}, 0.1),
    (BALANCED | {"autonomous": 1}, 0.1),
]


class Broken(AssertionError):
    """A rule of the model does not hold."""


@functools.cache
def template(size: int, direction: int, flow: int) -> tuple[bytes, bytes]:
    """An inner packet before and behind its serial number."""
    packet = udp4(max(40, size), up=direction == UP, flow=flow)
    return packet[:28], packet[36:]


def changes_back(came: list[int]) -> int:
    """How often a flow changed to a faster path: so many groups of packets, one after the other, were overtaken."""
    highest, overtaken = -1, set()
    for serial in came:
        if serial < highest:
            overtaken.add(serial)
        highest = max(highest, serial)
    return sum(b in overtaken and a not in overtaken for a, b in pairwise([-1, *sorted(came)]))


class World:
    """The model. Operations are methods; each may be called at any time and does nothing where it makes no sense."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"world {seed}")
        idle = self.rng.choice([30, 30, 5]) * SECOND
        self.idle = {"max_idle_timeout_ns": idle}  # of both: each end is told the other's, as by its transport parameters
        self.sim = Simulator(
            seed + 1, client=self._options() | self.idle, server=self._options(server=True) | self.idle, links=LINKS
        )
        self.nodes: list[Node] = [self.sim.client, self.sim.server]
        self.past: list[Counter[str]] = [Counter(), Counter()]  # counters of the processes that were there before, by side
        self.forgotten = [0, 0]  # inner packets that waited in a process when it ended
        self.restarts = 0
        self.unremembered: list[set[bytes]] = [set(), set()]  # of inner_got, what its receiver got before it lost its state
        self.rule = random.Random(f"rule {seed}").choices(*zip(*RULES, strict=True))[0]
        if random.Random(f"twice {seed}").random() < 0.15:  # of its own, so that seeds that found something find it again
            self.rule = random.Random(f"primary {seed}").choice([REDUNDANT, REDUNDANT | {"active_access": 1, "max_rtt_ms": 60}])
        self.sim.server_handshake.tells_reset_token = True
        for handshake in (self.sim.client_handshake, self.sim.server_handshake):
            handshake.peer_params.update(self.idle)
        self.views: list[dict[int, View]] = [{}, {}]
        self.conns: list[int] = [0, 0]  # the current connection's handle at each end, 0 = none
        self.streams: list[Stream] = [Stream(), Stream()]  # by direction
        self.serial = 0
        self.tunnels: list[int] = []
        self.inner_given: list[dict[bytes, int]] = [{}, {}]
        self.inner_got: list[set[bytes]] = [set(), set()]
        self.inner_order: list[list[bytes]] = [[], []]
        self.given_count = [0, 0]
        self.datagram_serial = 0
        self.datagrams_given: list[set[bytes]] = [set(), set()]
        self.datagrams_got: list[set[bytes]] = [set(), set()]
        self.closed_early = [False, False]  # before that end's handshake was confirmed: its reason is hidden (RFC 9000 §10.2.3)
        self.ports = 41000
        self.token = 100
        self.log: list[str] = []
        for side in range(2):
            self._listen(side)
        for link in range(LINKS):
            self.sim.shape(link, delay=self.rng.choice([1, 5, 20, 60]) * MS)

    def _options(self, *, server: bool = False) -> dict[str, int]:
        rng = self.rng
        return {
            "retry_half_open": rng.choice([0, 0, 1]) if server else 0,
            "congestion_control": rng.randrange(lib.CC_COUNT),
            "key_update_packets": rng.choice([0, 0, 40, 200]),
            "max_udp_payload": rng.choice([1452, 1452, 1500, 1350]),
        }

    def _listen(self, side: int) -> None:
        node = self.nodes[side]
        node.on_event = lambda event: self._event(side, event)
        node.on_inner = lambda tun, packet: self._inner(side, packet)

    def close(self) -> None:
        self.sim.close()

    # ---- operations

    def connect(self) -> None:
        """A connection, if there is none; a lossy network may refuse it."""
        if any(self.conns):
            return
        sim = self.sim
        links = [link for link in range(LINKS) if not sim.wires[link, UP].cut]
        if not links:
            return
        self.streams = [Stream(), Stream()]
        conn = check(lib.conn_connect(sim.client.endpoint, self.rng.choice(links), sim.server_address, sim.now))
        known = set(sim.server_handshake.done)
        sim.client_handshake.start(conn)
        self.conns[0] = conn
        sim.run(12 * SECOND, lambda: not self.conns[0] or (self._confirmed(0) and bool(set(sim.server_handshake.done) - known)))
        fresh = set(sim.server_handshake.done) - known
        if not self.conns[0] or not fresh:
            self._end()
            return
        peer = fresh.pop()
        if self.views[1][peer].closed:
            self._end()
            return
        self.conns[1] = peer
        if not self.tunnels:
            self.tunnels = list(sim.tunnel(conn, peer, [self.rule]))
        for side in range(2):
            endpoint, tunnel, bound = self.nodes[side].endpoint, self.tunnels[side], self.conns[side]
            self._try(lib.tunnel_admit(endpoint, tunnel, bound, 0))
            self._try(lib.tunnel_contexts_set(endpoint, tunnel, bound, lib.SEQUENCED_IN | lib.SEQUENCED_OUT))
            self._try(lib.tunnel_bind(endpoint, tunnel, bound, 0))

    def _end(self) -> None:
        """What is left of a connection that one end gave up goes by time-out."""
        for side in range(2):
            if self.conns[side]:
                self.close_connection(side, 0)
        self.sim.run(SECOND)
        self.conns = [0, 0]

    def open_path(self, link: int) -> None:
        if self.conns[0]:
            self._try(lib.path_open(self.sim.client.endpoint, self.conns[0], link % LINKS, self.sim.server_address))

    def abandon(self, side: int, pick: int, code: int) -> None:
        """Not the last path that works: that ends the connection, which `close_connection` does."""
        paths = self._paths(side)
        alive = [p for p, info in paths.items() if info.validated]
        if self.conns[side] and len(alive) > 1:
            self._try(lib.path_abandon(self.nodes[side].endpoint, self.conns[side], alive[pick % len(alive)], code))

    def status(self, side: int, pick: int, available: bool) -> None:
        paths = sorted(self._paths(side))
        if self.conns[side] and paths:
            self._try(lib.path_status_set(self.nodes[side].endpoint, self.conns[side], paths[pick % len(paths)], available))

    def cid_rotate(self, side: int, pick: int) -> None:
        """Another destination connection ID for a path (RFC 9000 §5.1.2); without a spare one the engine says so."""
        paths = sorted(self._paths(side))
        if self.conns[side] and paths:
            self._try(lib.path_cid_rotate(self.nodes[side].endpoint, self.conns[side], paths[pick % len(paths)]))

    def restart(self, side: int) -> None:
        """All state of one end is lost. A client learns it by a stateless reset, a server by the silence: one of a client that has
        started anew it keeps until its idle time-out, beside the new one."""
        node = self.nodes[side]
        self.sim.pump()
        self.forgotten[side] += self._unaccounted(side)
        self.past[side].update(node.counters())
        self.restarts += 1
        self.unremembered[1 - side] |= self.inner_got[1 - side]
        options = self._options(server=side == 1) | self.idle
        self.nodes[side] = self.sim.restart(side, 1_000_000 + 2 * self.restarts + side, **options)
        (self.sim.client_handshake, self.sim.server_handshake)[side].peer_params.update(self.idle)
        self._listen(side)
        self.views[side] = {}
        if self.tunnels:
            self.tunnels[side] = self.sim.tunnel_end(self.nodes[side], 0, [self.rule])
        self.conns[side] = 0
        if side == 0:
            self.conns[1] = 0

    def key_update(self, side: int) -> None:
        if self.conns[side]:
            self._try(lib.conn_key_update(self.nodes[side].endpoint, self.conns[side]))

    def close_connection(self, side: int, code: int) -> None:
        if self.conns[side]:
            self.closed_early[side] = not self._confirmed(side)
            self._try(lib.conn_close(self.nodes[side].endpoint, self.conns[side], 1, code, 0, b"bye", 3))

    def inner(self, direction: int, count: int, size: int, flows: int) -> None:
        """Inner packets of the tunnel, also while no connection carries it."""
        if not self.tunnels:
            return
        packets = []
        for i in range(count):
            head, tail = template(size, direction, i % flows)
            packets.append(head + self.serial.to_bytes(8, "big") + tail)
            self.serial += 1
        self.inner_given[direction].update(dict.fromkeys(packets, self.sim.now))
        self.given_count[direction] += count
        if flows == 1 and packets:  # as if cut from one large packet
            self.sim.inner(self.nodes[direction], *packets)
            return
        for packet in packets:
            self.sim.inner(self.nodes[direction], packet)

    def traffic(self, interval: int, duration: int, size: int) -> None:
        """Inner packets both ways for a while, whatever else happens meanwhile."""
        self.sim.every(interval, self.sim.now + duration, lambda: [self.inner(d, 1, size, 4) for d in range(2)] and None)

    def control(self, side: int, which: int) -> None:
        """Another congestion controller, while traffic runs."""
        if self.conns[side]:
            self._try(lib.conn_congestion_control_set(self.nodes[side].endpoint, self.conns[side], which))

    def datagram(self, side: int, size: int) -> None:
        """An HTTP datagram of Python's own (quarter stream 5)."""
        if not self.conns[side]:
            return
        data = b"\x05" + self.datagram_serial.to_bytes(8, "big") + bytes(size)
        self.datagram_serial += 1
        if self._try(lib.conn_datagram_send(self.nodes[side].endpoint, self.conns[side], data, len(data))):
            self.datagrams_given[side].add(data)

    def stream(self, side: int, chunks: int) -> None:
        if not self.conns[side]:
            return
        stream = self.streams[side]
        for _ in range(chunks):
            stream.waiting.append(stream.sent)
            stream.sent += CHUNK
        self._stream_push(side)

    def rebind(self, link: int) -> None:
        """The NAT of a link gives the client another port."""
        link %= LINKS
        self.ports += 1
        self.sim.client_address[link] = address(f"10.{link + 1}.0.2", self.ports)

    def shape(self, link: int, **changes: Any) -> None:
        self.sim.shape(link % LINKS, **changes)

    def share(self, on: bool) -> None:
        """Links 0 and 1 share a line of 20 Mbit/s, or do not."""
        for direction in range(2):
            line = lib.simnet_common(self.sim.net, direction)
            line.rate, line.queue = 20e6, 40 * MS
            for link in range(2):
                self.sim.wires[link, direction].shared = line if on else ffi.NULL

    def wait(self, time: int) -> None:
        self.sim.run(time)
        for side in range(2):
            self._stream_push(side)

    # ---- what comes out

    def _event(self, side: int, event: Event) -> None:
        view = self.views[side].setdefault(event.conn, View())
        if view.gone:
            raise Broken(f"{SIDES[side]}: event {event.type} of a connection that is gone")
        if event.type == lib.EVENT_GONE:
            if not view.closed:
                raise Broken(f"{SIDES[side]}: GONE without CLOSED")
            view.gone = True
            return
        if view.closed:
            if event.type in (lib.EVENT_FRAME, lib.EVENT_DATAGRAM, lib.EVENT_KEY_PHASE, lib.EVENT_CLOSED, lib.EVENT_PATH_VALIDATED):
                raise Broken(f"{SIDES[side]}: event {event.type} after CLOSED")
            return
        if event.type == lib.EVENT_CLOSED:
            view.closed = True
            self._closed(side, event)
        elif event.type == lib.EVENT_PATH_VALIDATED:
            if event.path in view.validated or event.path in view.abandoned:
                raise Broken(f"{SIDES[side]}: path {event.path} validated twice, or after its end")
            view.validated.add(event.path)
        elif event.type == lib.EVENT_PATH_STATE:
            self._state(side, view, event)
        elif event.type == lib.EVENT_PATH_ABANDONED:
            if event.path in view.abandoned:
                raise Broken(f"{SIDES[side]}: path {event.path} abandoned twice")
            view.abandoned.add(event.path)
        elif event.type == lib.EVENT_KEY_PHASE:
            if event.a != view.phase + 1:
                raise Broken(f"{SIDES[side]}: key phase {event.a} after {view.phase}")
            view.phase = event.a
        elif event.type == lib.EVENT_DATAGRAM:
            self._datagram(side, event.data)
        elif event.type in (lib.EVENT_ACKED, lib.EVENT_LOST) and event.level == 2 and event.conn == self.conns[side]:
            self._token(side, event)
        elif event.type == lib.EVENT_FRAME and event.data[0] & 0xF8 == 0x08:
            if event.conn == self.conns[side]:
                self._chunk(1 - side, event.data)
        elif event.type == lib.EVENT_OVERFLOW:
            raise Broken(f"{SIDES[side]}: event queue full")
        (self.sim.client_handshake, self.sim.server_handshake)[side](event)

    def _closed(self, side: int, event: Event) -> None:
        view = self.views[side][event.conn]
        gave_up = view.abandoned or any(other.abandoned for other in self.views[1 - side].values())
        if event.a == NO_VIABLE_PATH and not event.level and gave_up:
            pass  # both gave up, each another one; or one end the only path that it has a CID of the peer for
        elif event.token == lib.CLOSE_ERROR:
            raise Broken(f"{SIDES[side]}: closed for {event.a:#x}, frame {event.b:#x}: {event.data.decode(errors='replace')}")
        elif event.a == INVALID_TOKEN and any(w.corrupted for w in self.sim.wires.values()):
            pass  # a Retry's token is judged before the packet is opened (RFC 9000 §8.1.2): a flipped bit there ends the attempt
        elif event.a == APPLICATION_ERROR and event.token == lib.CLOSE_PEER and not event.level and self.closed_early[1 - side]:
            pass
        elif event.token == lib.CLOSE_PEER and not event.level and event.a:
            raise Broken(f"{SIDES[side]}: the peer closed for {event.a:#x}: {event.data.decode(errors='replace')}")
        elif event.token == lib.CLOSE_RESET and self.conns[1 - side]:  # else the peer closed, and its word was lost
            raise Broken(f"{SIDES[side]}: stateless reset")
        if event.conn == self.conns[side]:
            self.conns[side] = 0

    def _state(self, side: int, view: View, event: Event) -> None:
        before, path = view.state.get(event.path, lib.PATH_UNUSED), event.path
        if event.a in (lib.PATH_ACTIVE, lib.PATH_SUSPECT, lib.PATH_FAILED) and path not in view.validated:
            raise Broken(f"{SIDES[side]}: path {path} is in state {event.a} and was not validated")
        if before == lib.PATH_ABANDONED:
            raise Broken(f"{SIDES[side]}: path {path} came back from abandonment")
        view.state[path] = event.a

    def _inner(self, side: int, packet: bytes) -> None:
        direction = 1 - side
        if packet[9] == 1:  # an ICMP answer of the engine to its own side
            return
        if packet not in self.inner_given[direction]:
            raise Broken(f"{SIDES[side]}: an inner packet that was not sent, or altered")
        if packet in self.unremembered[direction] and self.rule["mode"] == REDUNDANT["mode"]:
            self.unremembered[direction].remove(packet)  # the copy came, and the original waited for the next connection
            return
        if packet in self.inner_got[direction]:
            raise Broken(f"{SIDES[side]}: inner packet delivered twice")
        self.inner_got[direction].add(packet)
        self.inner_order[direction].append(packet)

    def _datagram(self, side: int, data: bytes) -> None:
        head = {b"\0\0": 2, b"\0\2": 6}.get(data[:2])
        if head is not None and data[head:] in self.inner_given[1 - side]:  # it came before the tunnel was bound here
            return
        if data not in self.datagrams_given[1 - side]:
            raise Broken(f"{SIDES[side]}: a datagram that was not sent, or altered")
        if data in self.datagrams_got[1 - side]:
            raise Broken(f"{SIDES[side]}: datagram delivered twice")
        self.datagrams_got[1 - side].add(data)

    def _token(self, side: int, event: Event) -> None:
        stream = self.streams[side]
        offset = stream.tokens.pop(event.token, None)
        if offset is None:
            raise Broken(f"{SIDES[side]}: token {event.token} came back twice")
        if event.type == lib.EVENT_LOST:
            stream.waiting.append(offset)
            return
        if offset not in stream.got:
            raise Broken(f"{SIDES[side]}: a frame was acknowledged that did not arrive")
        stream.acked.add(offset)

    def _chunk(self, direction: int, frame: bytes) -> None:
        _, at = read_varint(frame, 1)
        offset, at = read_varint(frame, at)
        length, at = read_varint(frame, at)
        data = frame[at:]
        if len(data) != length or data != pattern(offset)[:length]:
            raise Broken(f"stream data altered at {offset}")
        self.streams[direction].got[offset] = data

    def _stream_push(self, side: int) -> None:
        stream = self.streams[side]
        while self.conns[side] and stream.waiting:
            offset = stream.waiting.pop(0)
            frame = b"\x0e\x00" + varint(offset) + varint(CHUNK) + pattern(offset)
            self.token += 1
            if not self._try(
                lib.conn_frame_send(self.nodes[side].endpoint, self.conns[side], 2, ANY, frame, len(frame), self.token, 0)
            ):
                stream.waiting.append(offset)
                return
            stream.tokens[self.token] = offset

    # ---- rules over time

    def _try(self, result: int) -> bool:
        """Errors of state and limits are answers; others are ours."""
        if result >= 0:
            return True
        if -result in (lib.ENGINE_E_STATE, lib.ENGINE_E_LIMIT, lib.ENGINE_E_HANDLE):
            return False
        raise Broken(f"engine error {-result}")

    def _waits(self, side: int) -> bool:
        own = any(info.queue_packets for info in self._paths(side).values())
        return own or bool(self.conns[side] and self.nodes[side].stats(self.conns[side]).queue_packets)

    def _paths(self, side: int) -> dict[int, Any]:
        return self.nodes[side].paths(self.conns[side]) if self.conns[side] else {}

    def _confirmed(self, side: int) -> bool:
        return bool(self.conns[side]) and bool(self.nodes[side].stats(self.conns[side]).handshake_confirmed)

    def check(self) -> None:
        """What holds at any moment."""
        self.sim.check()
        state, wires = self.sim.state, self.sim.wires
        for direction in range(2):
            sender, receiver = self.counters(direction), self.counters(1 - direction)
            lines = [wires[link, direction] for link in range(LINKS)]
            total = {
                name: sum(getattr(w, name) for w in lines)
                for name in ("sent", "passed", "dropped", "lost", "cut_drops", "mtu_drops", "queue_drops", "delivered", "nobody",
                             "duplicated", "inner_sent", "inner_dropped", "inner_duplicated")
            }  # fmt: skip
            self._equal("datagrams sent", total["sent"], sender.get("udp_sent", 0))
            self._equal("sent = passed + dropped", total["sent"], total["passed"] + total["dropped"])
            self._equal("drops", total["dropped"], sum(total[n] for n in ("lost", "cut_drops", "mtu_drops", "queue_drops")))
            self._equal("datagrams received", total["delivered"], receiver.get("udp_received", 0))
            self._equal("inner sent", total["inner_sent"], sender.get("inner_sent", 0))
            arrived = state.inner_taken[direction] + state.inner_kept[direction] + state.inner_refused[direction]
            on_way = total["inner_sent"] + total["inner_duplicated"] - total["inner_dropped"] - state.inner_in_flight[direction]
            if arrived > on_way:
                raise Broken(f"{arrived} datagrams with inner packets arrived, {on_way} could")
            taken, kept = state.inner_taken[direction], state.inner_kept[direction]
            if not taken <= receiver.get("inner_received", 0) <= taken + kept:
                raise Broken(
                    f"{receiver.get('inner_received', 0)} inner packets received, {taken} came out ({kept} waited for keys)"
                )
        in_flight = sum(w.passed + w.duplicated - w.delivered - w.nobody for w in wires.values())
        self._equal("datagrams in flight", in_flight, state.in_flight)

    @staticmethod
    def _equal(what: str, a: int, b: int) -> None:
        if a != b:
            raise Broken(f"{what}: {a} and {b}")

    def counters(self, side: int) -> Counter[str]:
        """Of all processes that this end has had."""
        return self.past[side] + Counter(self.nodes[side].counters())

    def _unaccounted(self, direction: int) -> int:
        """Inner packets given to an end that it neither sent nor dropped by a name: they wait, in a queue or for a connection."""
        counters = self.counters(direction)
        names = ("inner_malformed", "ingress_filter", "inner_destination", "inner_mtu", "inner_path_mtu", "tunnel_none",
                 "tunnel_hold_full", "tunnel_hold_expired", "steering_no_rule", "steering_no_path", "path_queue_full",
                 "path_queue_codel", "redundant_dropped")  # fmt: skip
        # inner_malformed, filter and destination also count what arrives; our packets never meet those
        dropped = sum(counters[name] for name in names)
        given = self.given_count[direction] + counters["redundant_copies"] + counters["datagrams_sent_again"]
        return given - counters["inner_sent"] - dropped - self.forgotten[direction]

    def inner_account(self, direction: int) -> None:
        """Every inner packet given to an end was sent, dropped by a name, lost with its process, or waits in a path's queue; when
        no tunnel holds any."""
        node = self.nodes[direction]
        waiting = sum(info.queue_packets for conn in node.connections() for info in node.paths(conn).values())
        waiting += sum(node.stats(conn).queue_packets for conn in node.connections())
        left = self._unaccounted(direction)
        if left != waiting:
            raise Broken(
                f"{SIDES[direction]}: {self.given_count[direction]} inner packets given, {left} unaccounted for, {waiting} wait: "
                f"{dict(self.counters(direction))}"
            )

    def heal(self) -> None:
        """A network without faults, the size of the line aside."""
        for wire in self.sim.wires.values():
            wire.cut, wire.loss, wire.corrupt, wire.duplicate, wire.reorder, wire.jitter, wire.mtu = 0, 0, 0, 0, 0, 0, 0
            wire.shared = ffi.NULL
            if wire.rate and wire.rate < 2e6:
                wire.rate = 2e6

    def settle(self) -> None:
        """Once the network is well, a connection that has not ended carries everything again, within bounded time."""
        self.heal()
        sim = self.sim
        sim.run(3 * SECOND)  # a failed path is probed every half second
        if all(self.conns) and not all(any(info.validated for info in self._paths(side).values()) for side in range(2)):
            sim.run(PATIENCE)  # no path lives: the connection may end with the last validation (RFC 10069 §3.4)
        if all(self.conns) and not set.intersection(*(set(self._paths(side)) for side in range(2))):
            sim.run(IDLE_MOST)  # each end gave up the path that the other one keeps, before it heard of it: nobody answers any more
        if not all(self.conns):
            self._start_anew()
        marks = [len(self.inner_got[d]) for d in range(2)]
        for direction in range(2):
            self.stream(direction, 2)
        conns = list(self.conns)

        def done() -> bool:
            for side in range(2):
                self._stream_push(side)
            whole = all(len(s.got) * CHUNK == s.sent and not s.tokens and not s.waiting for s in self.streams)
            return whole and all(len(self.inner_got[d]) - marks[d] >= 3 for d in range(2))

        def nudge() -> None:
            for direction in range(2):  # what goes to an address that the client has left is lost: not the first must arrive
                self.inner(direction, 1, 200, 1)

        sim.every(100 * MS, sim.now + PATIENCE - SECOND, nudge)
        if not sim.run(PATIENCE, done):
            raise Broken(
                f"no progress in {PATIENCE // SECOND} s: connections {conns} -> {self.conns}, inner "
                f"{[len(self.inner_got[d]) - marks[d] for d in range(2)]}, streams "
                f"{[(len(s.got) * CHUNK, s.sent, len(s.tokens), len(s.waiting)) for s in self.streams]}, "
                f"paths {[{p: (i.state, i.reason, i.bytes_in_flight) for p, i in self._paths(s).items()} for s in range(2)]}"
            )
        if self.conns != conns:
            raise Broken("the connection ended although the network is well")
        sim.run(PATIENCE)
        self._nothing_lost()
        for direction in range(2):
            self.inner_account(direction)
        self.check()

    def _start_anew(self) -> None:
        """An end whose peer has gone learns it, and in a network that is well the next connection comes up."""
        if not self.sim.run(IDLE_MOST, lambda: not any(self.conns)):
            raise Broken(f"connections {self.conns}: the end that is left has not learned within {IDLE_MOST // SECOND} s")
        self.connect()
        if not all(self.conns):
            raise Broken(f"no connection in a network without faults: {self.summary()}")

    def _nothing_lost(self) -> None:
        """In a network that has been well for a while every inner packet arrives, on whatever path."""
        for wire in self.sim.wires.values():
            wire.rate = 0
        if not self.sim.run(100 * SECOND, lambda: not any(self._waits(s) for s in range(2))):
            raise Broken("queues that do not empty in 100 s")
        self.sim.run(2 * SECOND)
        first = self.serial
        for _ in range(10):
            for direction in range(2):
                self.inner(direction, 4, 300, 4)
            self.sim.run(50 * MS)
        self.sim.run(2 * SECOND)
        mine = [{p for p in self.inner_given[d] if serial_of(p) >= first} for d in range(2)]
        lost = [len(mine[d] - self.inner_got[d]) for d in range(2)]
        if any(lost) or [len(m) for m in mine] != [40, 40]:
            raise Broken(f"{lost} of 40 inner packets were lost in a network without faults: {self.summary()}")
        for d in range(2):
            for flow in range(4):
                came = [serial_of(p) for p in self.inner_order[d] if p in mine[d] and p[20:24] == template(300, d, flow)[0][20:24]]
                # the first may still change paths; and once more, when one comes back, or a slower one is used for the first time
                if changes_back(came[2:]) > 1 or len(came) != 10:
                    raise Broken(f"{SIDES[d]}: flow {flow} came in the order {came} over a network that keeps it")

    def finish(self) -> None:
        """After a close nothing is left at either end."""
        if self.conns[0]:
            self.close_connection(0, 0)
        # closing and draining last three PTO (RFC 9000 §10.2), and a handshake that took seconds makes those long
        self.sim.run(200 * SECOND, lambda: not any(node.connections() for node in self.nodes))
        self.sim.run(SECOND)
        for side in range(2):
            left = self.nodes[side].connections()
            if left:
                raise Broken(f"{SIDES[side]}: connections {left} are left")
            if any(not view.gone for view in self.views[side].values()):
                raise Broken(f"{SIDES[side]}: a connection did not say GONE")
        self.check()

    def summary(self) -> dict[str, Any]:
        """What happened, for the reader of a failure."""
        drops: Counter[str] = Counter()
        for node in self.nodes:
            drops.update(node.drops())
        return {"now": self.sim.now / SECOND, "trace": f"{self.sim.trace:016x}", "drops": dict(drops)}

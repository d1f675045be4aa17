"""The C engine behind typed Python calls: every result is checked, every structure is made here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from mpquic.errors import EngineError
from mpquic.path_reasons import path_reason
from mpquic.steering import ACCESS_3GPP, ACCESS_NON_3GPP, ACCESSES, SteeringRule
from mpquic.transport_parameters import PreferredAddress
from native import ffi, lib

PER_ACCESS = (
    "access_packets_out", "access_bytes_out", "access_packets_in", "access_bytes_in", "access_copies_in", "access_copy_bytes_in",
)
"""Of struct tunnel_stats, what is counted for each access by itself."""

PATH_ANY = 0xFFFFFFFF
NEVER = (1 << 64) - 1
_ERRORS = {
    1: "a value is out of its range",
    2: "no such connection, tunnel, link or path",
    3: "not possible in this state",
    4: "a limit is reached",
    5: "out of memory",
    6: "the AEAD refused",
    7: "system error",
    8: "the I/O thread drives this endpoint",
}
E_HANDLE = 2
E_STATE = 3
E_LIMIT = 4
PATH_STATES = ("unused", "validating", "active", "standby", "suspect", "failed", "abandoned")
ECN_STATES = ("testing", "unknown", "capable", "failed")
ECN_FAILURES = ("", "missing", "bleached", "remarked", "excess", "decreased", "black hole", "off")

Remote = tuple[str, int]  # address in text, port
_ADDRESSES_KEPT = 1024  # conversions between text and octets that are remembered


class Event(NamedTuple):
    """struct event, with its data."""

    type: int
    conn: int
    path: int
    level: int
    a: int
    b: int
    token: int
    time: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ConnInfo:
    local_cid: bytes
    remote_cid: bytes
    original_dcid: bytes
    retry_cid: bytes  # empty without a Retry
    reset_token: bytes = field(repr=False)
    link: int
    remote: Remote


@dataclass(frozen=True, slots=True)
class Datagram:
    link: int
    remote: Remote
    data: bytes
    ecn: int = 0


@dataclass(frozen=True, slots=True)
class PeerParams:
    max_idle_timeout_ns: int
    max_ack_delay_ns: int
    ack_delay_exponent: int
    disable_active_migration: bool
    reset_token: bytes | None = field(repr=False)
    preferred: PreferredAddress | None
    initial_max_path_id: int | None  # None: no multipath
    active_connection_id_limit: int
    max_udp_payload_size: int
    max_datagram_frame_size: int


CONGESTION_CONTROLLERS = tuple(ffi.string(lib.congestion_control_name(i)).decode() for i in range(lib.CC_COUNT))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """struct endpoint_config."""

    role: int
    reset_key: bytes = field(repr=False)
    max_connections: int
    max_half_open: int
    random_seed: int
    max_idle_timeout_ns: int
    max_ack_delay_ns: int
    ack_delay_exponent: int
    active_connection_id_limit: int
    initial_max_path_id: int
    max_datagram_frame_size: int
    max_udp_payload: int
    validation_size: int
    key_update_packets: int
    close_after_packets: int
    close_after_forgeries: int = 0
    retry_half_open: int = 0
    congestion_control: int = 0  # index in CONGESTION_CONTROLLERS
    ecn_off: int = 0  # 1: packets are not marked; what comes marked is counted and told all the same
    mss_clamp_off: int = 0  # 1: the maximum segment size in inner SYNs stays


@lru_cache(_ADDRESSES_KEPT)
def _text(family: int, octets: bytes) -> str:
    return str(IPv4Address(octets[:4]) if family == 4 else IPv6Address(octets))


@lru_cache(_ADDRESSES_KEPT)
def _address(remote: Remote) -> Any:
    """A struct address, to be read only; a zone behind % is left out."""
    ip = ip_address(remote[0].partition("%")[0])
    out = ffi.new("struct address *")
    out.family, out.port = ip.version, remote[1]
    ffi.buffer(out.ip)[:] = ip.packed.ljust(16, b"\0")
    return out


def _remote(address: Any) -> Remote:
    return _text(address.family, ffi.buffer(address.ip)[:]), int(address.port)


def check(call: str, result: int) -> int:
    if result < 0:
        raise EngineError(call, -result, _ERRORS.get(-result, f"error {-result}"))
    return result


class Engine:
    """One native endpoint, with or without its I/O thread."""

    def __init__(self, config: EngineConfig) -> None:
        native = ffi.new("struct endpoint_config *")
        for name in EngineConfig.__slots__:
            setattr(native, name, getattr(config, name))
        self._endpoint = lib.endpoint_new(native)
        ffi.buffer(native)[:] = bytes(ffi.sizeof("struct endpoint_config"))  # the reset key is wiped
        if self._endpoint == ffi.NULL:
            raise EngineError("endpoint_new", 1, "the configuration is refused")
        self._io: Any = None
        self._event = ffi.new("struct event *")
        self._data = ffi.new("uint8_t[]", lib.ENGINE_MAX_EVENT_DATA)
        self._datagram = ffi.new("struct datagram *")
        self._packet = ffi.new("uint8_t[]", 65536)

    @staticmethod
    def backend_force(name: str) -> None:
        check("aead_backend_force", lib.aead_backend_force(name.encode()))

    def free(self) -> None:
        if self._io is not None:
            lib.io_free(self._io)
            self._io = None
        if self._endpoint != ffi.NULL:
            lib.endpoint_free(self._endpoint)
            self._endpoint = ffi.NULL

    @property
    def freed(self) -> bool:
        return not self._endpoint

    # ---- endpoint

    def link_set(self, link: int, access: str) -> None:
        check("endpoint_link_set", lib.endpoint_link_set(self._endpoint, link, ACCESSES.index(access)))

    def link_state(self, link: int, up: bool) -> None:
        """The host says that the link's device went down, or is up (again), or has got a route."""
        check("endpoint_link_state", lib.endpoint_link_state(self._endpoint, link, int(up)))

    def forbid(self, network: IPv4Network | IPv6Network) -> None:
        """No inner packet goes to these addresses any more (a server's)."""
        address = network.network_address.packed
        check("endpoint_forbid", lib.endpoint_forbid(self._endpoint, network.version, address, network.prefixlen))

    def accept(self, enabled: bool) -> None:
        check("endpoint_accept", lib.endpoint_accept(self._endpoint, enabled))

    def events(self) -> Iterator[Event]:
        """All events that are there."""
        ev, data, octets = self._event, self._data, ffi.buffer(self._data)
        # While a handler has not freed the engine
        while self._endpoint and check("event_next", lib.endpoint_event_next(self._endpoint, ev, data, len(octets))):
            yield Event(ev.type, ev.conn, ev.path, ev.level, ev.a, ev.b, ev.token, ev.time, octets[: ev.length])

    def connections(self) -> set[int]:
        out = ffi.new("uint32_t[]", lib.ENGINE_MAX_CONNS)
        n = check("endpoint_connections", lib.endpoint_connections(self._endpoint, out, lib.ENGINE_MAX_CONNS))
        return set(out[0:n])

    def counters(self) -> dict[str, int]:
        count = lib.counter_count()
        values = ffi.new("uint64_t[]", count)
        check("endpoint_counters", lib.endpoint_counters(self._endpoint, values, count))
        return {ffi.string(lib.counter_name(i)).decode(): values[i] for i in range(count)}

    # ---- sans-IO

    def input(self, datagram: Datagram, now: int) -> None:
        d = self._datagram
        d.link, d.ecn, d.length = datagram.link, datagram.ecn, len(datagram.data)
        d.remote = _address(datagram.remote)[0]
        ffi.memmove(self._packet, datagram.data, len(datagram.data))
        d.data = self._packet
        check("endpoint_input", lib.endpoint_input(self._endpoint, d, now))

    def output(self, now: int) -> Datagram | None:
        d = self._datagram
        d.data, d.length = self._packet, 65536
        if check("endpoint_output", lib.endpoint_output(self._endpoint, d, now)) == 0:
            return None
        return Datagram(d.link, _remote(d.remote), bytes(ffi.buffer(d.data, d.length)), d.ecn)

    def deadline(self) -> int:
        return int(lib.endpoint_deadline(self._endpoint))

    def advance(self, now: int) -> None:
        check("endpoint_advance", lib.endpoint_advance(self._endpoint, now))

    def tunnel_input(self, tun: int, packet: bytes, now: int) -> None:
        check("tunnel_input", lib.tunnel_input(self._endpoint, tun, packet, len(packet), now))

    def tunnel_output(self) -> tuple[int, bytes] | None:
        tun = ffi.new("uint32_t *")
        n = check("tunnel_output", lib.tunnel_output(self._endpoint, tun, self._packet, 65536))
        return (int(tun[0]), bytes(ffi.buffer(self._packet, n))) if n else None

    # ---- I/O thread

    def io_open(self) -> None:
        if self._io is None:
            self._io = lib.io_new(self._endpoint)
            if self._io == ffi.NULL:
                self._io = None
                raise EngineError("io_new", 5, _ERRORS[5])

    def io_socket_add(self, fd: int, link: int) -> None:
        self.io_open()
        check("io_socket_add", lib.io_socket_add(self._io, fd, link))

    def io_socket_remove(self, link: int) -> None:
        check("io_socket_remove", lib.io_socket_remove(self._io, link))

    def io_tun_add(self, fd: int) -> int:
        self.io_open()
        return check("io_tun_add", lib.io_tun_add(self._io, fd))

    def io_start(self) -> int:
        """Starts the thread; returns the descriptor that is readable while events wait."""
        self.io_open()
        check("io_start", lib.io_start(self._io))
        return int(lib.io_event_fd(self._io))

    def io_stop(self) -> None:
        if self._io is not None:
            lib.io_stop(self._io)

    def io_stats(self) -> dict[str, int]:
        if self._io is None:
            return {}
        out = ffi.new("struct io_stats *")
        check("io_stats", lib.io_stats(self._io, out))
        return _fields(out, "struct io_stats")

    @property
    def endpoint(self) -> Any:
        """The native endpoint, for mpquic.trace."""
        return self._endpoint

    # ---- connection

    def connect(self, link: int, remote: Remote, now: int) -> int:
        return check("conn_connect", lib.conn_connect(self._endpoint, link, _address(remote), now))

    def conn_info(self, conn: int) -> ConnInfo:
        out = ffi.new("struct conn_info *")
        check("conn_info", lib.conn_info(self._endpoint, conn, out))
        return ConnInfo(
            ffi.buffer(out.local_cid)[: out.local_cid_length],
            ffi.buffer(out.remote_cid)[: out.remote_cid_length],
            ffi.buffer(out.original_dcid)[: out.original_dcid_length],
            ffi.buffer(out.retry_cid)[: out.retry_cid_length],
            ffi.buffer(out.reset_token)[:],
            out.link,
            _remote(out.remote),
        )

    def token_set(self, conn: int, token: bytes) -> None:
        """Client, before the first packet: the token of an earlier connection's NEW_TOKEN (RFC 9000 §8.1.3)."""
        check("conn_token_set", lib.conn_token_set(self._endpoint, conn, token, len(token)))

    def peer_params(self, conn: int, params: PeerParams) -> None:
        p = ffi.new("struct peer_params *")
        p.max_idle_timeout_ns = params.max_idle_timeout_ns
        p.max_ack_delay_ns = params.max_ack_delay_ns
        p.ack_delay_exponent = params.ack_delay_exponent
        p.disable_active_migration = params.disable_active_migration
        if params.reset_token is not None:
            p.has_reset_token, p.reset_token = 1, params.reset_token
        if params.preferred is not None:
            p.preferred_cid_length, p.preferred_cid = len(params.preferred.cid), params.preferred.cid.ljust(20, b"\0")
            p.preferred_token = params.preferred.token
        if params.initial_max_path_id is not None:
            p.multipath, p.initial_max_path_id = 1, params.initial_max_path_id
        p.active_connection_id_limit = min(params.active_connection_id_limit, 0xFFFFFFFF)
        p.max_udp_payload_size = min(params.max_udp_payload_size, 0xFFFFFFFF)
        p.max_datagram_frame_size = min(params.max_datagram_frame_size, 0xFFFFFFFF)
        check("conn_peer_params", lib.conn_peer_params(self._endpoint, conn, p))

    def keys_install(self, conn: int, level: int, direction: int, suite: int, secret: bytes) -> None:
        check(
            "conn_keys_install",
            lib.conn_keys_install(self._endpoint, conn, level, direction, suite, secret, len(secret)),
        )

    def handshake_complete(self, conn: int) -> None:
        check("conn_handshake_complete", lib.conn_handshake_complete(self._endpoint, conn))

    def frame_send(self, conn: int, level: int, frame: bytes, token: int, once: bool = False) -> None:
        flags = lib.FRAME_ONCE if once else 0
        check(
            "conn_frame_send",
            lib.conn_frame_send(self._endpoint, conn, level, PATH_ANY, frame, len(frame), token, flags),
        )

    def datagram_send(self, conn: int, payload: bytes) -> None:
        check("conn_datagram_send", lib.conn_datagram_send(self._endpoint, conn, payload, len(payload)))

    def key_update(self, conn: int) -> None:
        check("conn_key_update", lib.conn_key_update(self._endpoint, conn))

    def close(self, conn: int, application: bool, code: int, frame: int, reason: str) -> None:
        text = reason.encode()[:200]
        check("conn_close", lib.conn_close(self._endpoint, conn, application, code, frame, text, len(text)))

    def conn_stats(self, conn: int) -> dict[str, Any]:
        """struct conn_stats, the congestion controller by name."""
        out = ffi.new("struct conn_stats *")
        check("conn_stats", lib.conn_stats(self._endpoint, conn, out))
        return _fields(out, "struct conn_stats") | {"congestion_control": CONGESTION_CONTROLLERS[out.congestion_control]}

    # ---- paths

    def path_open(self, conn: int, link: int, remote: Remote) -> int:
        return check("path_open", lib.path_open(self._endpoint, conn, link, _address(remote)))

    def path_abandon(self, conn: int, path: int, code: int) -> None:
        check("path_abandon", lib.path_abandon(self._endpoint, conn, path, code))

    def path_cid_rotate(self, conn: int, path: int) -> None:
        """Another of the peer's connection IDs from now on (RFC 9000 §5.1.2); EngineError E_LIMIT when there is none."""
        check("path_cid_rotate", lib.path_cid_rotate(self._endpoint, conn, path))

    def path_status_set(self, conn: int, path: int, available: bool) -> None:
        check("path_status_set", lib.path_status_set(self._endpoint, conn, path, available))

    def paths(self, conn: int) -> list[dict[str, Any]]:
        """Live paths in words: state, reason and access by name, times in ns."""
        out = ffi.new("struct path_info[]", lib.ENGINE_MAX_PATHS)
        count = check("conn_paths", lib.conn_paths(self._endpoint, conn, out, lib.ENGINE_MAX_PATHS))
        result = []
        for i in range(count):
            fields = _fields(out[i], "struct path_info")
            fields["remote"] = "{}:{}".format(*_remote(out[i].remote))
            fields["state"] = path_state(out[i].state)
            fields["reason"] = path_reason(out[i].reason, out[i].rule)
            fields["ecn_state"] = ECN_STATES[out[i].ecn_state]
            fields["ecn_failure"] = ECN_FAILURES[out[i].ecn_failure]
            fields["congestion_control"] = CONGESTION_CONTROLLERS[out[i].congestion_control]
            fields["access"] = ACCESSES[out[i].access] if 0 <= out[i].access < len(ACCESSES) else ""
            result.append(fields)
        return result

    # ---- tunnels

    def tunnel_new(
        self,
        tun: int,
        ipv4: IPv4Address | None,
        ipv6: IPv6Network | None,
        mtu: int,
        hold_packets: int,
        hold_ns: int,
    ) -> int:
        c = ffi.new("struct tunnel_config *")
        c.tun, c.mtu, c.hold_packets, c.hold_ns = tun, mtu, hold_packets, hold_ns
        if ipv4 is not None:
            c.has_ipv4, c.ipv4 = 1, list(ipv4.packed)
        if ipv6 is not None:
            c.has_ipv6, c.ipv6, c.ipv6_prefix = 1, list(ipv6.network_address.packed), ipv6.prefixlen
        return check("tunnel_new", lib.tunnel_new(self._endpoint, c))

    def tunnel_free(self, tunnel: int) -> None:
        check("tunnel_free", lib.tunnel_free(self._endpoint, tunnel))

    def tunnel_bind(self, tunnel: int, conn: int, quarter_stream_id: int) -> None:
        check("tunnel_bind", lib.tunnel_bind(self._endpoint, tunnel, conn, quarter_stream_id))

    def tunnel_admit(self, tunnel: int, conn: int, quarter_stream_id: int) -> None:
        check("tunnel_admit", lib.tunnel_admit(self._endpoint, tunnel, conn, quarter_stream_id))

    def tunnel_unbind(self, tunnel: int, conn: int) -> None:
        check("tunnel_unbind", lib.tunnel_unbind(self._endpoint, tunnel, conn))

    def tunnel_contexts_set(self, tunnel: int, conn: int, sequenced_in: bool, sequenced_out: bool) -> None:
        contexts = (lib.SEQUENCED_IN if sequenced_in else 0) | (lib.SEQUENCED_OUT if sequenced_out else 0)
        check("tunnel_contexts_set", lib.tunnel_contexts_set(self._endpoint, tunnel, conn, contexts))

    def tunnel_steering_set(self, tunnel: int, rules: Sequence[SteeringRule]) -> None:
        native = ffi.new("struct steering_rule[]", max(len(rules), 1))
        for out, rule in zip(native, rules, strict=False):
            _fill_rule(out, rule)
        check("tunnel_steering_set", lib.tunnel_steering_set(self._endpoint, tunnel, native, len(rules)))

    def tunnel_stats(self, tunnel: int) -> dict[str, Any]:
        out = ffi.new("struct tunnel_stats *")
        check("tunnel_stats", lib.tunnel_stats(self._endpoint, tunnel, out))
        fields = _fields(out, "struct tunnel_stats")
        for name in PER_ACCESS:
            values = getattr(out, name)
            fields[name] = {ACCESS_3GPP: values[0], ACCESS_NON_3GPP: values[1]}
        return fields


def path_state(value: int) -> str:
    return PATH_STATES[value] if 0 <= value < len(PATH_STATES) else f"state {value}"


def _fields(struct: Any, name: str) -> dict[str, Any]:
    """The numbers of a structure."""
    return {
        field: getattr(struct, field)
        for field, info in ffi.typeof(name).fields
        if info.type.kind == "primitive"
    }


def _fill_rule(out: Any, rule: SteeringRule) -> None:
    out.rule_id, out.precedence = rule.rule_id, rule.precedence
    if rule.remote is not None:
        out.match_ip_version = rule.remote.version
        out.remote = list(rule.remote.network_address.packed.ljust(16, b"\0"))
        out.remote_prefix = rule.remote.prefixlen
    if rule.protocol is not None:
        out.match_protocol, out.protocol = 1, rule.protocol
    if rule.ports is not None:
        out.match_port, out.port_low, out.port_high = 1, rule.ports[0], rule.ports[1]
    out.transport = lib.TRANSPORT_SEQUENCED if rule.sequenced else lib.TRANSPORT_PLAIN
    out.max_rtt_ms = rule.max_rtt_ms or 0
    if rule.max_loss_percent is not None:
        out.has_max_loss, out.max_loss_percent = 1, rule.max_loss_percent
    if rule.weights is not None:
        out.mode = lib.STEER_LOAD_BALANCING
        out.weight = [rule.weights.get(name, 0) for name in ACCESSES]
        out.autonomous = rule.autonomous
    elif rule.priority is not None:
        out.mode = lib.STEER_PRIORITY
        out.active_access = ACCESSES.index(rule.priority)
    elif rule.redundant:
        out.mode = lib.STEER_REDUNDANT
        out.active_access = lib.STEER_NO_PRIMARY if rule.primary is None else ACCESSES.index(rule.primary)
    elif rule.smallest_delay:
        out.mode = lib.STEER_SMALLEST_DELAY
    else:
        out.mode = lib.STEER_ACTIVE_STANDBY
        out.active_access = ACCESSES.index(rule.active or ACCESS_3GPP)
        out.has_standby = rule.standby is not None

"""Filter expressions for inner packets: the part of tcpdump's language (pcap-filter(7)) that an IP packet needs.

    expression := term { ("and" | "&&" | "or" | "||") term }         both bind alike, from left to right, as in libpcap
    term       := ("not" | "!") term | "(" expression ")" | primitive
    primitive  := ip | ip6 | tcp | udp | icmp | icmp6
                | [ip | ip6] [src | dst] host ADDRESS
                | [src | dst] net ADDRESS/LENGTH
                | [tcp | udp] [src | dst] port NUMBER
                | [tcp | udp] [src | dst] portrange NUMBER-NUMBER
                | less LENGTH | greater LENGTH                       octets of the IP packet, both inclusive

What libpcap leaves out or guesses (names, protocols by number, offsets) is refused by name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from lab.errors import Misuse

Match = Callable[[bytes], bool]
TOKEN = re.compile(r"\s*(\(|\)|&&|\|\||!|[^\s()!&|]+)")
PROTOCOLS = {"tcp": (6, 6), "udp": (17, 17), "icmp": (1, None), "icmp6": (None, 58)}     # of IPv4, of IPv6
DEPTH_MAX = 64
LENGTH_MAX = 4096
REMEMBERED_MAX = 4096           # flows and lengths whose answer is remembered


class _View:
    """What primitives look at; a packet that is cut short matches nothing that would need the missing octets."""

    __slots__ = ("destination", "length", "ports", "protocol", "source", "version")

    def __init__(self, packet: bytes) -> None:
        self.version = packet[0] >> 4 if packet else 0
        self.length = len(packet)
        self.protocol, self.source, self.destination, offset = -1, b"", b"", 0
        self.ports: tuple[int, int] | None = None
        fragment = False
        if self.version == 4 and len(packet) >= 20:
            self.protocol, self.source, self.destination = packet[9], packet[12:16], packet[16:20]
            offset = (packet[0] & 15) * 4
            fragment = bool(packet[6] & 0x1F or packet[7])
        elif self.version == 6 and len(packet) >= 40:
            self.protocol, self.source, self.destination, offset = packet[6], packet[8:24], packet[24:40], 40
        if self.protocol in (6, 17) and not fragment and len(packet) >= offset + 4:
            self.ports = (packet[offset] << 8 | packet[offset + 1], packet[offset + 2] << 8 | packet[offset + 3])


Test = Callable[[_View], bool]


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            if found is None:
                raise self.error(f"{text[at:].strip()[:1]} does not belong there")
            self.tokens.append(found[1])
            at = found.end()
        self.at = 0
        self.depth = 0

    def error(self, why: str) -> Misuse:
        return Misuse(f"filter '{self.text}': {why} (`mpq inspect --help` shows the language)")

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, what: str = "") -> str:
        token = self.peek()
        if not token:
            raise self.error(f"it ends where {what or 'more'} is due")
        self.at += 1
        return token

    def expression(self) -> Test:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise self.error(f"more than {DEPTH_MAX} levels of brackets")
        left = self.term()
        while self.peek() in ("and", "&&", "or", "||"):
            left = _joined(self.take() in ("and", "&&"), left, self.term())
        self.depth -= 1
        return left

    def term(self) -> Test:
        negate = False
        while self.peek() in ("not", "!"):
            self.take()
            negate = not negate
        if self.peek() == "(":
            self.take()
            inner = self.expression()
            if self.take("a closing bracket") != ")":
                raise self.error("a closing bracket is missing")
        else:
            inner = self.primitive()
        return (lambda view: not inner(view)) if negate else inner

    def primitive(self) -> Test:
        token = self.take("a primitive")
        if token in ("less", "greater"):
            limit = self.number(self.take("a length"), 0xFFFF)
            return (lambda view: view.length <= limit) if token == "less" else (lambda view: view.length >= limit)
        protocol = token if token in PROTOCOLS or token in ("ip", "ip6") else ""
        if protocol:
            token = self.peek()
        elif token not in ("src", "dst", "host", "net", "port", "portrange"):
            raise self.error(f"{token} is not a primitive")
        else:
            self.at -= 1
        side = self.take() if token in ("src", "dst") else ""
        token = self.peek()
        if token not in ("host", "net", "port", "portrange"):
            if side:
                raise self.error(f"{side} is followed by host, net, port or portrange")
            return _protocol(protocol)
        self.take()
        value = self.take(f"the value of {token}")
        if token in ("port", "portrange"):
            if protocol not in ("", "tcp", "udp"):
                raise self.error(f"{protocol} has no ports")
            return self.port(protocol, side, token, value)
        if protocol not in ("", "ip", "ip6"):
            raise self.error(f"{token} goes with ip or ip6, not with {protocol}")
        return self.network(protocol, side, token, value)

    def number(self, text: str, most: int) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) > most:
            raise self.error(f"{text} is not a number from 0 to {most}")
        return int(text)

    def port(self, protocol: str, side: str, kind: str, value: str) -> Test:
        first, dash, last = value.partition("-")
        if bool(dash) != (kind == "portrange"):
            raise self.error(f"{kind} {value}: a port is a number, a portrange is FIRST-LAST")
        low = self.number(first, 65535)
        high = self.number(last, 65535) if dash else low
        numbers = (PROTOCOLS[protocol][0],) if protocol else (6, 17)

        def test(view: _View) -> bool:
            if view.ports is None or view.protocol not in numbers:
                return False
            source, destination = low <= view.ports[0] <= high, low <= view.ports[1] <= high
            return source if side == "src" else destination if side == "dst" else source or destination

        return test

    def network(self, protocol: str, side: str, kind: str, value: str) -> Test:
        try:
            network = ipaddress.ip_network(value)
        except ValueError:
            raise self.error(f"{value} is not an IP {'address' if kind == 'host' else 'network (ADDRESS/LENGTH)'}") from None
        if kind == "host" and "/" in value:
            raise self.error(f"{value}: a host has no prefix length; take net")
        if protocol and (protocol == "ip") != (network.version == 4):
            raise self.error(f"{value} is no address of {protocol}")
        size, shift = network.max_prefixlen // 8, network.max_prefixlen - network.prefixlen
        prefix = int(network.network_address) >> shift

        def test(view: _View) -> bool:
            source = len(view.source) == size and int.from_bytes(view.source, "big") >> shift == prefix
            target = len(view.destination) == size and int.from_bytes(view.destination, "big") >> shift == prefix
            return source if side == "src" else target if side == "dst" else source or target

        return test


def _joined(both: bool, left: Test, right: Test) -> Test:
    if both:
        return lambda view: left(view) and right(view)
    return lambda view: left(view) or right(view)


def _protocol(name: str) -> Test:
    if name in ("ip", "ip6"):
        version = 4 if name == "ip" else 6
        return lambda view: view.version == version
    four, six = PROTOCOLS[name]
    return lambda view: view.protocol == (four if view.version == 4 else six if view.version == 6 else None)


def compile_expression(text: str) -> Match:
    """A test for one IP packet (octets from its IP header on). Misuse says what of the text is not understood."""
    if len(text) > LENGTH_MAX:
        raise Misuse(f"filter: longer than {LENGTH_MAX} characters")
    parser = _Parser(text)
    test = parser.expression()
    if parser.peek():
        raise parser.error(f"{parser.peek()} does not belong there")
    return _remembered(test)


def _remembered(test: Test) -> Match:
    """Packets of one flow and length look alike to every primitive: the answer for most is known already."""
    known: dict[tuple[int, bytes, int], bool] = {}

    def match(packet: bytes) -> bool:
        if len(packet) < 24 or packet[0] != 0x45 or packet[6] & 0x1F or packet[7]:      # options, IPv6, fragments: each time anew
            return test(_View(packet))
        key = (packet[9], packet[12:24], len(packet))       # protocol, addresses, ports
        answer = known.get(key)
        if answer is None:
            if len(known) >= REMEMBERED_MAX:
                known.clear()
            answer = known[key] = test(_View(packet))
        return answer

    return match

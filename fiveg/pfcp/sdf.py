"""Flow descriptions of SDF filters: the IPFilterRule text of RFC 6733 §4.3.1 as TS 29.244 §8.2.5 restricts it. Written
from the UPF's side, always `permit out`: `from` is the far end, `to` is the UE, which is called `assigned` (or `any`).

    permit out 6 from 10.99.0.0/16 80-90 to assigned
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from fiveg.pfcp.errors import IeIncorrect

LONGEST = 256
SYNTAX = re.compile(
    r"permit out (ip|\d{1,3}) from (any|[0-9a-fA-F.:]+(?:/\d{1,3})?)(?: (\d{1,5})(?:-(\d{1,5}))?)?"
    r" to (?:assigned|any)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class FlowDescription:
    """What the far end must be; None: anything."""

    protocol: int | None = None
    remote: IPv4Network | IPv6Network | None = None
    port: tuple[int, int] | None = None

    def text(self) -> str:
        protocol = "ip" if self.protocol is None else str(self.protocol)
        remote = "any" if self.remote is None else str(self.remote)
        port = ""
        if self.port is not None:
            low, high = self.port
            port = f" {low}" if low == high else f" {low}-{high}"
        return f"permit out {protocol} from {remote}{port} to assigned"

    @classmethod
    def parse(cls, text: str) -> "FlowDescription":
        """Refuses what it cannot hold exactly: a filter half understood would match the wrong packets."""
        if len(text) > LONGEST:
            raise IeIncorrect(f"flow description of {len(text)} characters, {LONGEST} are allowed")
        match = SYNTAX.fullmatch(text)
        if match is None:
            raise IeIncorrect("flow description is not `permit out PROTOCOL from REMOTE [PORT[-PORT]] to assigned`")
        protocol = None if match[1] == "ip" else int(match[1])
        if protocol is not None and protocol > 255:
            raise IeIncorrect(f"flow description with protocol {protocol}")
        remote = None
        if match[2] != "any":
            try:
                remote = ip_network(match[2])
            except ValueError as error:
                raise IeIncorrect(f"flow description: {error}") from None
        port = None
        if match[3] is not None:
            port = (int(match[3]), int(match[4] or match[3]))
            if not port[0] <= port[1] <= 0xFFFF:
                raise IeIncorrect(f"flow description with ports {port[0]}-{port[1]}")
        return cls(protocol, remote, port)

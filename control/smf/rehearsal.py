"""The configured rules and names, put once into the messages of a session before there is one: a configuration that could
not be encoded is refused at start, never with the first session."""

from __future__ import annotations

from ipaddress import IPv4Address

from control.smf.config import SmfConfig
from control.smf.n1_sm import SmRequest, accept
from control.smf.n4_rules import establishment
from control.smf.pool import AddressPool
from fiveg.errors import FivegError
from fiveg.pfcp.codes import ProxyType
from fiveg.pfcp.message import encode
from fiveg.pfcp.sdf import FlowDescription
from fiveg.pfcp.values import FSeid, MpquicAddress, NodeId
from node.errors import ConfigError

ANYWHERE = IPv4Address("192.0.2.1")  # RFC 5737
PROXY = MpquicAddress(ProxyType.CONNECT_IP, 4433, ANYWHERE)


def rehearse(config: SmfConfig) -> None:
    """ConfigError when a session with this configuration could not be set up."""
    pool = AddressPool(config.ue_pool)
    try:
        for rule in config.rules:
            FlowDescription.parse(FlowDescription(rule.protocol, rule.remote, rule.ports).text())
        for ipv4, ipv6 in ((True, False), (False, True), (True, True)):
            address = pool.take(ipv4, ipv6)
            encode(establishment(config, address, NodeId(ANYWHERE), FSeid(1, ANYWHERE)), 0, 0)
            accept(config, SmRequest(1, ipv4, ipv6, mpquic_ip=True), 1, 1, address, PROXY)
            pool.give_back(address)
    except FivegError as e:
        raise ConfigError(f"smf.json: dnn, rules or accesses: no session could be set up with them: {e}") from None

"""The configured steering rules, and the UPF's proxy, as the UE's ATSSS container (TS 24.193 §6.1)."""

from __future__ import annotations

from control.smf.config import RuleConfig, SmfConfig
from fiveg.atsss import Access, AtsssContainer, AtsssRule, ProxyEntry, SteeringInformation
from fiveg.pfcp.codes import SteeringFunctionality, SteeringMode, TransportMode
from fiveg.pfcp.sdf import FlowDescription
from fiveg.pfcp.values import MpquicAddress

ACCESSES: dict[str, Access] = {"3GPP_ACCESS": "3gpp", "NON_3GPP_ACCESS": "non-3gpp"}


def container(config: SmfConfig, proxy: MpquicAddress) -> bytes:
    entry = ProxyEntry(proxy.ipv4, proxy.ipv6, proxy.port, proxy.proxy_type)
    return AtsssContainer(tuple(_rule(r) for r in config.rules), SteeringInformation((entry,))).encode()


def _rule(rule: RuleConfig) -> AtsssRule:
    mode = rule.mode
    balanced = mode.value == "LOAD_BALANCING"
    return AtsssRule(
        rule_id=rule.id,
        precedence=rule.precedence,
        flow=FlowDescription(rule.protocol, rule.remote, rule.ports),
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode.LOAD_BALANCING if balanced else SteeringMode.ACTIVE_STANDBY,
        load_3gpp=mode.load_3gpp,
        active=None if mode.active is None else ACCESSES[mode.active],
        standby=mode.standby is not None,
        transport=TransportMode[rule.transport],
    )

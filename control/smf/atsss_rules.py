"""The configured steering rules, and the UPF's proxy, as the UE's ATSSS container (TS 24.193 §6.1)."""

from __future__ import annotations

from control.smf.config import RuleConfig, SmfConfig
from fiveg.atsss import Access, AtsssContainer, AtsssRule, ProxyEntry, SteeringInformation
from fiveg.pfcp.codes import SteeringFunctionality, SteeringMode, TransportMode
from fiveg.pfcp.sdf import FlowDescription
from fiveg.pfcp.values import MpquicAddress

ACCESSES: dict[str, Access] = {"3GPP_ACCESS": "3gpp", "NON_3GPP_ACCESS": "non-3gpp"}
EVEN = 50


def container(config: SmfConfig, proxy: MpquicAddress) -> bytes:
    entry = ProxyEntry(proxy.ipv4, proxy.ipv6, proxy.port, proxy.proxy_type)
    return AtsssContainer(tuple(_rule(r) for r in config.rules), SteeringInformation((entry,))).encode()


def _rule(rule: RuleConfig) -> AtsssRule:
    mode = rule.mode
    first = mode.active or mode.priority or mode.primary
    limits = mode.thresholds
    load = EVEN if mode.load_3gpp is None and mode.indicator is not None else mode.load_3gpp  # the NAS code has no "left open"
    return AtsssRule(
        rule_id=rule.id,
        precedence=rule.precedence,
        flow=FlowDescription(rule.protocol, rule.remote, rule.ports),
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode[mode.value],
        load_3gpp=load,
        active=None if first is None else ACCESSES[first],
        standby=mode.standby is not None,
        transport=TransportMode[rule.transport],
        autonomous=mode.indicator is not None,
        max_rtt_ms=None if limits is None else limits.rtt_ms,
        max_loss_percent=None if limits is None else limits.loss_percent,
    )

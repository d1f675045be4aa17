"""The rules of one PFCP session: an immutable set. A request makes a new set out of the old one; only when that whole set
is sound, and the data path has taken it, does it become the session's. So nothing is ever half applied.

What is checked here is what TS 29.244 §5.20 wants of a MA session and what this UPF can do: a value that it could not
honour is refused at set-up, never accepted and then fatal (or silently ignored) at the first packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal, TypeVar

from fiveg.pfcp.codes import (
    ApplyAction,
    DestinationInterface,
    InterfaceType,
    Priority,
    RuleKind,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    SteeringModeIndicator,
    TransportMode,
)
from fiveg.pfcp.errors import NoResources, PfcpError, RuleFailure
from fiveg.pfcp.message import SessionEstablishmentRequest, SessionModificationRequest
from fiveg.pfcp.rules import (
    AccessForwarding,
    CreateFar,
    CreateMar,
    CreatePdr,
    CreateQer,
    CreateSrr,
    ForwardingParameters,
    UpdateAccessForwarding,
    UpdateFar,
    UpdateMar,
    UpdatePdr,
    UpdateQer,
)
from fiveg.pfcp.sdf import FlowDescription
from fiveg.pfcp.values import UeIpAddress

MAX_PDRS = 32
MAX_FARS = 32
MAX_MARS = 16
MAX_QERS = 16
MAX_SRRS = 4
MAX_STEERING = 32
"""Steering rules per tunnel in the engine (ENGINE_MAX_RULES); a PDR makes one per SDF filter."""

IPV6_PREFIX = 64
"""The session's IPv6 address stands for its /64 (TS 23.501 §5.8.2.2)."""

INTERFACES = {
    "3gpp": (InterfaceType.N3_3GPP,),
    "non-3gpp": (InterfaceType.N3_UNTRUSTED_NON_3GPP, InterfaceType.N3_TRUSTED_NON_3GPP),
}

Access = Literal["3gpp", "non-3gpp"]
R = TypeVar("R", CreatePdr, CreateFar, CreateMar, CreateQer, CreateSrr)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules by their id; `accesses` maps the names of the access paths to "3gpp" or "non-3gpp"."""

    accesses: Mapping[str, str]
    pdrs: Mapping[int, CreatePdr] = field(default_factory=dict)
    fars: Mapping[int, CreateFar] = field(default_factory=dict)
    mars: Mapping[int, CreateMar] = field(default_factory=dict)
    qers: Mapping[int, CreateQer] = field(default_factory=dict)
    srrs: Mapping[int, CreateSrr] = field(default_factory=dict)

    @property
    def steered_by_mpquic(self) -> bool:
        return any(self.mars[p.mar_id or 0].functionality.mpquic for p in self.downlink)

    @property
    def ue_address(self) -> UeIpAddress | None:
        """The session's address: that of its downlink rules."""
        return next((p.pdi.ue_ip_address for p in self.pdrs.values() if p.mar_id is not None), None)

    @property
    def downlink(self) -> list[CreatePdr]:
        """Downlink rules that a MAR steers, the one that is looked at first in front (lower precedence value wins)."""
        return sorted((p for p in self.pdrs.values() if p.mar_id is not None), key=lambda p: (p.precedence, p.pdr_id))

    def usable(self, mar: CreateMar) -> dict[Access, AccessForwarding]:
        """The accesses over which a MAR sends now: those whose FAR forwards. A lone access in reserve that is never to be
        used is none."""
        found: dict[Access, AccessForwarding] = {}
        if mar.access_3gpp is not None and self._forwards(mar.access_3gpp.far_id):
            found["3gpp"] = mar.access_3gpp
        if mar.access_non_3gpp is not None and self._forwards(mar.access_non_3gpp.far_id):
            found["non-3gpp"] = mar.access_non_3gpp
        alone = len(found) == 1 and mar.mode is SteeringMode.ACTIVE_STANDBY
        if alone and next(iter(found.values())).priority is Priority.NO_STANDBY:
            return {}
        return found

    def _forwards(self, far_id: int) -> bool:
        return bool(self.fars[far_id].apply_action & ApplyAction.FORW)

    def established(self, request: SessionEstablishmentRequest) -> RuleSet:
        return self._created(request).checked()

    def modified(self, request: SessionModificationRequest) -> RuleSet:
        """Removal, update, creation, in this order."""
        rules = replace(
            self,
            pdrs=_removed(self.pdrs, RuleKind.PDR, [r.pdr_id for r in request.remove_pdrs]),
            fars=_removed(self.fars, RuleKind.FAR, [r.far_id for r in request.remove_fars]),
            mars=_removed(self.mars, RuleKind.MAR, [r.mar_id for r in request.remove_mars]),
            qers=_removed(self.qers, RuleKind.QER, [r.qer_id for r in request.remove_qers]),
            srrs=_removed(self.srrs, RuleKind.SRR, [r.srr_id for r in request.remove_srrs]),
        )
        rules = replace(
            rules,
            pdrs=_updated(rules.pdrs, RuleKind.PDR, request.update_pdrs, lambda u: u.pdr_id, _pdr_update),
            fars=_updated(rules.fars, RuleKind.FAR, request.update_fars, lambda u: u.far_id, _far_update),
            mars=_updated(rules.mars, RuleKind.MAR, request.update_mars, lambda u: u.mar_id, _mar_update),
            qers=_updated(rules.qers, RuleKind.QER, request.update_qers, lambda u: u.qer_id, _qer_update),
        )
        return rules._created(request).checked()

    def _created(self, request: SessionEstablishmentRequest | SessionModificationRequest) -> RuleSet:
        return replace(
            self,
            pdrs=_added(self.pdrs, RuleKind.PDR, request.create_pdrs, lambda r: r.pdr_id, MAX_PDRS),
            fars=_added(self.fars, RuleKind.FAR, request.create_fars, lambda r: r.far_id, MAX_FARS),
            mars=_added(self.mars, RuleKind.MAR, request.create_mars, lambda r: r.mar_id, MAX_MARS),
            qers=_added(self.qers, RuleKind.QER, request.create_qers, lambda r: r.qer_id, MAX_QERS),
            srrs=_added(self.srrs, RuleKind.SRR, request.create_srrs, lambda r: r.srr_id, MAX_SRRS),
        )

    def checked(self) -> RuleSet:
        """This set, if it is sound as a whole; else RuleFailure with the rule that is not."""
        for pdr in self.pdrs.values():
            _within(RuleKind.PDR, pdr.pdr_id, self._pdr_check, pdr)
        for far in self.fars.values():
            _within(RuleKind.FAR, far.far_id, self._far_check, far)
        for mar in self.mars.values():
            _within(RuleKind.MAR, mar.mar_id, self._mar_check, mar)
        for qer in self.qers.values():
            _within(RuleKind.QER, qer.qer_id, _qer_check, qer)
        addresses = {p.pdi.ue_ip_address for p in self.pdrs.values() if p.mar_id is not None}
        if len(addresses) > 1:
            raise RuleFailure("downlink rules of one session with different UE addresses")
        if sum(max(1, len(p.pdi.sdf_filters)) for p in self.downlink) > MAX_STEERING:
            raise NoResources(f"more than {MAX_STEERING} flows to steer")
        self._whole_check()
        return self

    def _whole_check(self) -> None:
        """What the data path cannot do rule by rule: it would forward what the rules drop."""
        open_ = [p for p in self.downlink if self.usable(self.mars[p.mar_id or 0])]
        for pdr in self.downlink:
            if open_ and pdr not in open_:
                text = "a rule that drops its packets beside one that forwards is not supported"
                raise RuleFailure(text, rule=(RuleKind.PDR, pdr.pdr_id))
        uplinks = [p for p in self.pdrs.values() if p.pdi.source_interface is SourceInterface.ACCESS]
        covered = {self.accesses[p.pdi.network_instance or ""] for p in uplinks}
        for kind in set(self.accesses.values()) - covered if self.downlink else ():
            raise RuleFailure(f"no uplink rule for the {kind} access: it could not be closed")
        address = self.ue_address
        for pdr in uplinks:
            source = pdr.pdi.ue_ip_address
            if source is not None and address is not None and (source.ipv4, source.ipv6) != (address.ipv4, address.ipv6):
                raise RuleFailure("the UE address of an uplink rule is another one", rule=(RuleKind.PDR, pdr.pdr_id))

    def _pdr_check(self, pdr: CreatePdr) -> None:
        pdr.check()
        for qer_id in pdr.qer_ids:
            _require(qer_id in self.qers, f"QER {qer_id} does not exist")
        _require(pdr.far_id is None or pdr.far_id in self.fars, f"FAR {pdr.far_id} does not exist")
        _require(pdr.mar_id is None or pdr.mar_id in self.mars, f"MAR {pdr.mar_id} does not exist")
        _require(pdr.pdi.qfi is None, "there is no N3 here, so no QFI in a packet")
        _require(pdr.pdi.f_teid is None and pdr.outer_header_removal is None, "there is no N3 here, so no F-TEID")
        if pdr.pdi.source_interface is SourceInterface.ACCESS:
            self._uplink_check(pdr)
        elif pdr.pdi.source_interface in (SourceInterface.CORE, SourceInterface.N6_LAN):
            self._downlink_check(pdr)
        else:
            _require(False, "source interface CP function has no traffic here")
        for sdf in pdr.pdi.sdf_filters:
            _require(sdf.flow is not None, "an SDF filter without flow description cannot be matched")
            _require(
                sdf.tos is None and sdf.spi is None and sdf.flow_label is None,
                "an SDF filter on ToS, SPI or flow label cannot be matched",
            )
            FlowDescription.parse(sdf.flow or "")

    def _uplink_check(self, pdr: CreatePdr) -> None:
        pdi = pdr.pdi
        _require(pdi.network_instance in self.accesses, "network instance names none of the access paths")
        kind = self.accesses[pdi.network_instance or ""]
        _require(
            pdi.interface_type is None or pdi.interface_type in INTERFACES[kind],
            f"interface type does not fit an access of type {kind}",
        )
        far = self.fars.get(pdr.far_id or 0) if pdr.far_id is not None else None
        if far is None:
            raise RuleFailure("an uplink rule names a FAR")
        _require(bool(far.apply_action & ApplyAction.FORW), "uplink packets cannot be dropped by rule")
        to = None if far.forwarding is None else far.forwarding.destination_interface
        _require(to is not DestinationInterface.ACCESS, "an uplink rule leads back to an access")
        source = pdi.ue_ip_address
        _require(source is None or not source.destination, "the UE address of an uplink rule is the source")
        _require(not pdi.sdf_filters, "uplink rules with SDF filters are not supported")

    def _downlink_check(self, pdr: CreatePdr) -> None:
        _require(pdr.mar_id is not None, "a downlink rule of a MA session names a MAR")
        address = pdr.pdi.ue_ip_address
        if address is None or not address.destination:
            raise RuleFailure("a downlink rule has the UE address as destination")
        _require(not (address.choose_ipv4 or address.choose_ipv6), "the UPF allocates no addresses")
        for given in (address.ipv4, address.ipv6):
            _require(given is None or _is_unicast(given), f"{given} is no address of a UE")
        if address.ipv6 is not None:
            length = IPV6_PREFIX if address.prefix_length is None else address.prefix_length
            _require(length == IPV6_PREFIX, f"the IPv6 prefix of a session is a /{IPV6_PREFIX}")
            _require(address.delegation_bits is None, "prefix delegation is not supported")

    def _far_check(self, far: CreateFar) -> None:
        far.check()
        _require(not far.apply_action & ~(ApplyAction.DROP | ApplyAction.FORW), "only dropping and forwarding are supported")
        if far.forwarding is None:
            return
        to = far.forwarding.destination_interface
        _require(far.forwarding.outer_header_creation is None, "there is no N3 here, so no outer header")
        if to is DestinationInterface.ACCESS:
            _require(far.forwarding.network_instance in self.accesses, "network instance names none of the access paths")
        else:
            _require(to in (DestinationInterface.N6_LAN, DestinationInterface.CORE), "destination is neither access nor N6")

    def _mar_check(self, mar: CreateMar) -> None:
        mar.check()
        _require(mar.functionality is SteeringFunctionality.MPQUIC_IP, "only MPQUIC-IP steers here")
        _require(mar.transport_mode is not TransportMode.STREAM, "IP packets travel in datagram mode")
        _limits_check(mar)
        for kind, access in (("3gpp", mar.access_3gpp), ("non-3gpp", mar.access_non_3gpp)):
            if access is not None:
                self._access_check(kind, access)
        if mar.mode is SteeringMode.LOAD_BALANCING:
            weights = [a.weight for a in (mar.access_3gpp, mar.access_non_3gpp) if a is not None]
            if not mar.indicator or set(weights) != {None}:  # autonomous ones may be left to us
                _require(None not in weights, "load balancing without a weight")
                _require(sum(w or 0 for w in weights) == 100, "weights of load balancing do not sum to 100")
        elif mar.mode is SteeringMode.ACTIVE_STANDBY:
            roles = [a.priority for a in (mar.access_3gpp, mar.access_non_3gpp) if a is not None]
            _require(roles.count(Priority.ACTIVE) == 1, "active-standby without exactly one active access")
            others = set(roles) - {Priority.ACTIVE}
            _require(others <= {Priority.STANDBY, Priority.NO_STANDBY}, "active-standby with another priority")
        elif mar.mode is SteeringMode.PRIORITY_BASED:
            roles = [a.priority for a in (mar.access_3gpp, mar.access_non_3gpp) if a is not None]
            _require(roles.count(Priority.HIGH) == 1, "priority-based without exactly one access of high priority")
            _require(set(roles) <= {Priority.HIGH, Priority.LOW}, "priority-based with another priority")
        elif mar.mode is SteeringMode.REDUNDANT:
            _redundant_check(mar)

    def _access_check(self, kind: str, access: AccessForwarding) -> None:
        _require(access.far_id in self.fars, f"FAR {access.far_id} does not exist")
        forwarding = self.fars[access.far_id].forwarding
        if forwarding is None:
            return
        _require(forwarding.destination_interface is DestinationInterface.ACCESS, f"FAR {access.far_id} leads to no access")
        name = forwarding.network_instance or ""
        _require(self.accesses.get(name) == kind, f"FAR {access.far_id} leads to no access of type {kind}")


def _is_unicast(address: IPv4Address | IPv6Address) -> bool:
    reserved = isinstance(address, IPv4Address) and address.is_reserved
    return not (reserved or address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise RuleFailure(text)


def _within(kind: RuleKind, number: int, check: Callable[[Any], None], rule: Any) -> None:
    """Whatever is wrong in a rule becomes RuleFailure that names the rule."""
    try:
        check(rule)
    except RuleFailure as error:
        error.rule = error.rule or (kind, number)
        raise
    except PfcpError as error:
        raise RuleFailure(error.text, ie=error.ie, rule=(kind, number)) from None


def _redundant_check(mar: CreateMar) -> None:
    _require(mar.transport_mode is TransportMode.DATAGRAM_1, "redundant without sequence numbers: each packet would come twice")
    roles = [a.priority for a in (mar.access_3gpp, mar.access_non_3gpp) if a is not None]
    primary = roles.count(Priority.PRIMARY) == 1 and set(roles) <= {Priority.PRIMARY, Priority.SECONDARY}
    _require(primary or set(roles) <= {None}, "redundant with other priorities than one primary access, or none at all")
    _require(primary or mar.thresholds is None, "redundant with thresholds and without the primary access that they are for")


def _limits_check(mar: CreateMar) -> None:
    """Which modes have thresholds, and which indicators (TS 23.501 §5.32.8)."""
    indicator = mar.indicator or SteeringModeIndicator(0)
    balancing = mar.mode is SteeringMode.LOAD_BALANCING
    _require(not indicator & SteeringModeIndicator.UEAI, "UE assistance is not supported")
    _require(not indicator or balancing, "autonomous load balance in a mode that balances no load")
    if mar.thresholds is None:
        return
    mode = mar.mode.name.lower()
    _require(not indicator, "thresholds with autonomous load balance")
    may = (SteeringMode.LOAD_BALANCING, SteeringMode.PRIORITY_BASED, SteeringMode.REDUNDANT)
    _require(mar.mode in may, f"thresholds with steering mode {mode}")
    _require(mar.thresholds.rtt_ms != 0, "a threshold of 0 ms, which no path can keep")


def _qer_check(qer: CreateQer) -> None:
    closed = qer.gate_status.uplink_closed or qer.gate_status.downlink_closed
    _require(not closed, "a closed gate is not supported")
    _require(qer.mbr is None and qer.gbr is None, "bit rates are not enforced here")


def _added(old: Mapping[int, R], kind: RuleKind, new: Iterable[R], key: Callable[[R], int], limit: int) -> Mapping[int, R]:
    rules = dict(old)
    for rule in new:
        if key(rule) in rules:
            raise RuleFailure(f"{kind.name} {key(rule)} exists already", rule=(kind, key(rule)))
        rules[key(rule)] = rule
    if len(rules) > limit:
        raise NoResources(f"{len(rules)} {kind.name}s, {limit} are possible")
    return rules


def _removed(old: Mapping[int, R], kind: RuleKind, numbers: Iterable[int]) -> Mapping[int, R]:
    rules = dict(old)
    for number in numbers:
        if rules.pop(number, None) is None:
            raise RuleFailure(f"{kind.name} {number} does not exist", rule=(kind, number))
    return rules


U = TypeVar("U", UpdatePdr, UpdateFar, UpdateMar, UpdateQer)


def _updated(
    old: Mapping[int, R],
    kind: RuleKind,
    updates: Iterable[U],
    key: Callable[[U], int],
    update: Callable[[R, U], R],
) -> Mapping[int, R]:
    rules = dict(old)
    for change in updates:
        number = key(change)
        if number not in rules:
            raise RuleFailure(f"{kind.name} {number} does not exist", rule=(kind, number))
        rules[number] = update(rules[number], change)
    return rules


def _pdr_update(pdr: CreatePdr, change: UpdatePdr) -> CreatePdr:
    if change.precedence is not None:
        pdr = replace(pdr, precedence=change.precedence)
    if change.pdi is not None:
        pdr = replace(pdr, pdi=change.pdi)
    if change.far_id is not None:
        pdr = replace(pdr, far_id=change.far_id)
    if change.mar_id is not None:
        pdr = replace(pdr, mar_id=change.mar_id)
    return replace(pdr, qer_ids=change.qer_ids) if change.qer_ids else pdr


def _far_update(far: CreateFar, change: UpdateFar) -> CreateFar:
    if change.apply_action is not None:
        far = replace(far, apply_action=change.apply_action)
    new = change.forwarding
    if new is None:
        return far
    old = far.forwarding
    destination = old.destination_interface if old else None
    if new.destination_interface is not None:
        destination = new.destination_interface
    if destination is None:
        raise RuleFailure("forwarding without destination interface", rule=(RuleKind.FAR, far.far_id))
    return replace(
        far,
        forwarding=ForwardingParameters(
            destination_interface=destination,
            network_instance=new.network_instance or (old.network_instance if old else None),
            outer_header_creation=new.outer_header_creation or (old.outer_header_creation if old else None),
            interface_type=new.interface_type or (old.interface_type if old else None),
        ),
    )


def _mar_update(mar: CreateMar, change: UpdateMar) -> CreateMar:
    if change.functionality is not None:
        mar = replace(mar, functionality=change.functionality)
    if change.mode is not None and change.mode is not mar.mode:  # thresholds and indicators are of the mode that they came with
        mar = replace(mar, mode=change.mode, thresholds=None, indicator=None)
    if change.transport_mode is not None:
        mar = replace(mar, transport_mode=change.transport_mode)
    if change.thresholds is not None:
        mar = replace(mar, thresholds=change.thresholds)
    if change.indicator is not None:
        mar = replace(mar, indicator=change.indicator)
    return replace(
        mar,
        access_3gpp=_access_update(mar.access_3gpp, change.access_3gpp, change.update_access_3gpp),
        access_non_3gpp=_access_update(mar.access_non_3gpp, change.access_non_3gpp, change.update_access_non_3gpp),
    )


def _access_update(
    old: AccessForwarding | None, new: AccessForwarding | None, change: UpdateAccessForwarding | None
) -> AccessForwarding | None:
    """§7.5.4.16: a new one comes whole; an update changes the one that is there; an empty update takes it away."""
    if new is not None:
        return new
    if change is None:
        return old
    if change.removes:
        return None
    if old is None:
        raise RuleFailure("update of an access that the MAR does not have")
    return AccessForwarding(
        far_id=old.far_id if change.far_id is None else change.far_id,
        weight=old.weight if change.weight is None else change.weight,
        priority=old.priority if change.priority is None else change.priority,
    )


def _qer_update(qer: CreateQer, change: UpdateQer) -> CreateQer:
    return replace(
        qer,
        gate_status=change.gate_status or qer.gate_status,
        mbr=change.mbr or qer.mbr,
        gbr=change.gbr or qer.gbr,
        qfi=qer.qfi if change.qfi is None else change.qfi,
    )

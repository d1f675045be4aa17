"""What removes the protection of a row R-nn of SBI and N4 where Python has it (tests/rules/rule_sabotage.py)."""

from __future__ import annotations

import asyncio
import contextlib

from rule_sabotage import removes

PATIENCE_S = 3.0


def _be_brief() -> None:
    """What does not end without its protection is not waited for as long as a busy machine may need."""
    timeout = asyncio.timeout
    asyncio.timeout = lambda delay: timeout(None if delay is None else min(delay, PATIENCE_S))  # type: ignore[assignment]


@removes
def r_120() -> None:
    """Whoever comes is an NF: no certificate is wanted, none is looked at, one that cannot be used is left out; and who does not
    speak TLS is spoken to in clear."""
    import ssl

    import httpx

    from control.sbi import tls
    from control.sbi.client import SbiClient

    somebody = tls.PeerIdentity("smf", "smf.local", tls.uuid.UUID(int=1))

    def fill(context, config):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with contextlib.suppress(OSError):
            context.load_cert_chain(config.cert, config.key)
        return context

    once = SbiClient._once

    async def in_clear(self, method, path, body, content_type):
        try:
            return await once(self, method, path, body, content_type)
        except (httpx.HTTPError, OSError):
            async with httpx.AsyncClient() as client:
                await client.request(method, f"http://{self._peer.address}:{self._peer.port}{path}", content=body)
            raise

    _be_brief()
    SbiClient._once = in_clear
    tls._fill = fill
    tls.PeerIdentity.of_certificate = classmethod(lambda cls, certificate: somebody)


@removes
def r_123() -> None:
    """Every body is an object, if need be an empty one, and every member is what it should be."""
    import json

    from fiveg.sbi import member, strict

    def parse(body):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    strict.parse = member.parse = parse
    for kind in (member.String, member.Integer, member.Choice, member.Uuid, member.Uri, member.Base64):
        kind.read = lambda self, value: value


@removes
def r_124() -> None:
    """A body that is no multipart is JSON alone, whatever part there is is the one that is meant, and nothing is too large."""
    from control.sbi import client, server
    from fiveg.sbi import multipart
    from fiveg.sbi.errors import SbiError

    decode, limits = multipart.decode, server.Limits

    def decode_anyway(content_type, body):
        try:
            return decode(content_type, body)
        except SbiError:
            return multipart.Body(body)

    multipart.decode = decode_anyway
    multipart.Body.binary = lambda self, ref, content_type=multipart.NAS: next((p.data for p in self.parts.values()), b"")
    client.MAX_BODY = 1 << 30
    init = server.SbiServer.__init__

    def boundless(self, config, handler, counters, given=None, *more):
        init(self, config, handler, counters, limits(body_octets=1 << 30), *more)

    server.SbiServer.__init__ = boundless


@removes
def r_125() -> None:
    """No limit holds, nobody is too slow, and what is no HTTP/2 is waited out."""
    from control.sbi import server

    _be_brief()
    original = server.SbiServer.__init__

    def boundless(self, config, handler, counters, limits=None, *more):
        most = 1 << 30
        none = server.Limits(
            connections=most, streams=most, header_octets=most, path_octets=most, body_octets=most, partial_octets=most,
            events_burst=most, resets_burst=most, output_octets=most, request_s=most, idle_s=most,
        )
        original(self, config, handler, counters, none, *more)

    server.SbiServer.__init__ = boundless
    receive = server._Connection.receive

    def patient(self, data):
        with contextlib.suppress(server.h2.exceptions.ProtocolError):
            receive(self, data)

    server._Connection.receive = patient


@removes
def r_128() -> None:
    """A key goes out once, over the access that comes to mind, and then it counts as delivered."""
    from control.amf.delivery import Delivery, Outcome

    async def run(self):
        return Outcome.ACKNOWLEDGED

    Delivery.run = run


@removes
def r_132() -> None:
    """A rule that is not there is passed over, one that is there already is replaced, and the set is not looked at as a whole."""
    from fiveg.pfcp.errors import PfcpError
    from upf import rules

    def removed(old, kind, numbers):
        gone = set(numbers)
        return {number: rule for number, rule in old.items() if number not in gone}

    def updated(old, kind, updates, key, update):
        found = dict(old)
        for change in updates:
            if key(change) in found:
                with contextlib.suppress(PfcpError):
                    found[key(change)] = update(found[key(change)], change)
        return found

    rules._removed, rules._updated = removed, updated
    rules._added = lambda old, kind, new, key, limit: {**old, **{key(rule): rule for rule in new}}
    rules.RuleSet.checked = lambda self: self


@removes
def r_133() -> None:
    """What cannot be read is passed over, a value that nobody knows is the first that somebody knows, and no rule is looked at
    before the first packet."""
    from fiveg.pfcp import codec
    from fiveg.pfcp.errors import PfcpError
    from upf import rules
    from upf.pfcp_agent import PfcpAgent

    decode = codec.Enumeration.decode

    def decode_anyway(self, data):
        try:
            return decode(self, data)
        except PfcpError:
            return next(iter(self.enum))

    def group(cls, data):
        slots, found = codec.slots_of(cls), {}
        for raw in codec.ies_split(data):
            if raw.type in slots:
                with contextlib.suppress(PfcpError):
                    found.setdefault(raw.type, []).append(slots[raw.type].codec.decode(raw.value))
        values = {}
        for number, slot in slots.items():
            if number in found:
                values[slot.name] = tuple(found[number]) if slot.many else found[number][0]
            elif slot.mandatory:
                values[slot.name] = () if slot.many else None
        return cls(**values)

    codec.Enumeration.decode = decode_anyway
    codec.Group.decode = classmethod(group)
    rules._added = lambda old, kind, new, key, limit: {**old, **{key(rule): rule for rule in new}}
    rules.RuleSet.checked = lambda self: self
    PfcpAgent._address_check = lambda self, rules, own: None


@removes
def r_141() -> None:
    """Nobody waits before asking again, and nobody counts."""
    from node.budget import Budget
    from upf import key_request

    key_request.BACKOFF_FIRST = key_request.BACKOFF_LONGEST = 0.05  # at 0 time would stand still in tests
    Budget.take = lambda self, now: True

"""Which of a client's keys the server takes: the suite first, then the first identity that is known, then only its binder
(RFC 8446 §4.2.11). Whatever is refused costs the same work and the same alert (RFC 8446 App. E.6)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpquic.errors import PskSpent
from mpquic.key_schedule import KeySchedule
from mpquic.psk import EXTERNAL_LABEL, IMPORTED_LABEL, ImportedIdentity, Offer, Psk, PskMode, import_key
from mpquic.suites import Suite
from mpquic.tls_errors import KeyOfAnotherRole, KeyRefused, KeyWithoutSuite, SpentKey, UnknownIdentity, WrongBinder
from mpquic.tls_messages import ClientHello
from mpquic.tls_states import Role

IDENTITIES_MOST = 8  # of one ClientHello; the further ones are not looked up
PskLookup = Callable[[bytes], Psk | None]


@dataclass(frozen=True, slots=True, repr=False)
class Choice:
    """The identity's place in the ClientHello, its key, the suite, and the key schedule with the early secret."""

    index: int
    psk: Psk
    suite: Suite
    schedule: KeySchedule


def choose(hello: ClientHello, truncated: bytes, lookup: PskLookup, suites: Sequence[Suite]) -> Choice:
    """`hello` keeps the rules of client_hello_rules; `truncated` is what its binders cover. KeyRefused, by its reason."""
    common = [suite for suite in suites if suite.code in hello.suites]
    found = _find(hello, lookup, common)
    if isinstance(found, KeyRefused):
        index, offer = 0, decoy(hello, common)
    else:
        index, psk, suite = found
        offer = psk.offer(suite)
    schedule = KeySchedule(offer.hash_name, offer.key)
    proved = binder_matches(schedule.binder(offer.binder_label, truncated), hello.binders[index])
    if isinstance(found, KeyRefused):
        try:
            raise found
        finally:
            del found  # the traceback holds this frame, and by those above it the connection
    if not proved:
        raise WrongBinder("binder does not verify")
    if not psk.claim(Role.SERVER):  # it became the client's in between
        raise KeyOfAnotherRole("the key is used by a client of this node")
    return Choice(index, psk, suite, schedule)


def binder_matches(expected: bytes, received: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(expected, received)


def decoy(hello: ClientHello, common: Sequence[Suite]) -> Offer:
    """A key of nobody in the form of the first identity: what is done with it takes as long as with a known one."""
    identity = (hello.identities or [(b"", 0)])[0][0]
    imported = ImportedIdentity.decode(identity)
    if imported is None:
        return Offer(identity, bytes(32), "sha256", EXTERNAL_LABEL)
    suite = next((suite for suite in common if suite.kdf == imported.target_kdf), common[0])
    return Offer(identity, import_key(bytes(32), identity, suite), suite.hash_name, IMPORTED_LABEL)


def _find(hello: ClientHello, lookup: PskLookup, common: Sequence[Suite]) -> tuple[int, Psk, Suite] | KeyRefused:
    refusal: KeyRefused = UnknownIdentity("no identity is known")
    known: list[tuple[int, Psk, bytes]] = []
    for index, (identity, _age) in enumerate((hello.identities or [])[:IDENTITIES_MOST]):
        try:
            psk = _look_up(lookup, identity)
        except PskSpent:
            refusal = SpentKey("the key has made its connection")
            continue
        if psk is None:
            continue
        if not role_fits(psk):
            refusal = KeyOfAnotherRole("the key is used by a client of this node (RFC 9257 §4.1)")
            continue
        known.append((index, psk, identity))
    for suite in common:
        for index, psk, identity in known:
            # An imported identity names the hash and the context it is for; the import itself is done once, for the choice
            if suite in psk.suites and psk.wire_identity(suite) == identity:
                return index, psk, suite
    return KeyWithoutSuite("the key is not for a common suite, or another context") if known else refusal


def role_fits(psk: Psk) -> bool:
    """RFC 9257 §4.1: whoever is client with a key is never server with it, so that no hello can be reflected (Selfie)."""
    return psk.role in (None, Role.SERVER)


def _look_up(lookup: PskLookup, identity: bytes) -> Psk | None:
    """The identity as it stands, of an external PSK; or the external identity inside an imported one (RFC 9258).
    A key has one mode: offered in the other it is unknown."""
    psk = lookup(identity)
    if psk is not None:
        return psk if psk.mode is PskMode.EXTERNAL and not psk.wiped else None
    imported = ImportedIdentity.decode(identity)
    if imported is None:
        return None
    psk = lookup(imported.external_identity)
    return psk if psk is not None and psk.mode is PskMode.IMPORTED and not psk.wiped else None

"""Names as DNS labels, each behind its length, without the final zero: the DNN of NAS (TS 24.501 §9.11.2.1B), DNN and FQDN
of PFCP (TS 29.244 §8.2.117, §8.2.38), both by TS 23.003 §9.1."""

from __future__ import annotations

from fiveg.errors import FivegError

LONGEST_LABEL = 63
CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class LabelError(FivegError, ValueError):
    """A name that has no such form, or octets that are no name."""


def labels_encode(name: str, longest: int) -> bytes:
    """At most `longest` octets, lengths included."""
    out = bytearray()
    for label in name.split("."):
        octets = label.encode("utf-8", "replace")
        _check(octets)
        out.append(len(octets))
        out += octets
    if len(out) > longest:
        raise LabelError(f"a name of {len(out)} octets, allowed are 1 to {longest}")
    return bytes(out)


def labels_decode(data: bytes, longest: int) -> str:
    if not 1 <= len(data) <= longest:
        raise LabelError(f"a name of {len(data)} octets, allowed are 1 to {longest}")
    labels, at = [], 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise LabelError(f"a label of {data[at]} octets, {len(data) - at - 1} are left")
        _check(data[at + 1 : end])
        labels.append(data[at + 1 : end].decode("ascii"))
        at = end
    return ".".join(labels)


def _check(label: bytes) -> None:
    if not 1 <= len(label) <= LONGEST_LABEL or not CHARACTERS.issuperset(label):
        raise LabelError(f"a label has 1 to {LONGEST_LABEL} letters, digits, - and _, not this one of {len(label)} octets")

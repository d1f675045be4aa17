"""Field sections of HTTP/3 messages: which are well formed (RFC 9114 §4.2 to §4.4, RFC 9220 §3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpquic.errors import H3StreamError
from mpquic.h3_codes import Code

Headers = list[tuple[bytes, bytes]]

_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_CONTENT_FIELDS = frozenset((b"content-length", b"content-type"))  # transfer-encoding is forbidden everywhere
_NO_CAPSULES = (b"204", b"205", b"206")
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))


def _malformed(reason: str) -> H3StreamError:
    return H3StreamError(Code.MESSAGE_ERROR, reason)


def _pseudo(headers: Headers, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """The pseudo-header fields of a message that is well formed (RFC 9114 §4.2, §4.3)."""
    out: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise _malformed("a field has octets that it may not have")
        if not name.startswith(b":"):
            regular = True
            if name in _CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
                raise _malformed(f"field {name.decode()} is of HTTP/1.1")
            continue
        if regular or name in out or name not in allowed:
            raise _malformed(f"pseudo-header field {name.decode()} late, twice or unknown")
        out[name] = value
    return out


def check_request(headers: Headers) -> None:
    pseudo = _pseudo(headers, _REQUEST_PSEUDO)
    present = frozenset(pseudo)
    if b":method" not in present:
        raise _malformed("request without :method")
    if b":protocol" in present:
        if pseudo[b":method"] != b"CONNECT" or present != _REQUEST_PSEUDO:
            raise _malformed("extended CONNECT needs :method, :protocol, :scheme, :authority and :path")
        _check_no_content(headers)
    elif pseudo[b":method"] == b"CONNECT":
        if present != {b":method", b":authority"}:
            raise _malformed("CONNECT has :method and :authority only")
    elif not present >= {b":scheme", b":path"}:
        raise _malformed("request without :scheme or :path")
    elif b":authority" not in present and not any(name == b"host" and value for name, value in headers):
        raise _malformed("request without :authority and host")
    if b":authority" in pseudo and (not pseudo[b":authority"] or b"@" in pseudo[b":authority"]):
        raise _malformed(":authority is empty, or names a user")
    hosts = {value for name, value in headers if name == b"host"}
    if b":authority" in pseudo and hosts - {pseudo[b":authority"]}:
        raise _malformed("host is not :authority")
    if b":path" in pseudo and not pseudo[b":path"].startswith(b"/") and pseudo[b":path"] != b"*":
        raise _malformed("path does not begin with /")


def check_response(headers: Headers) -> int:
    """The status of a response to an extended CONNECT."""
    pseudo = _pseudo(headers, frozenset((b":status",)))
    status = pseudo.get(b":status", b"")
    if not re.fullmatch(rb"[1-9][0-9]{2}", status) or status == b"101":
        raise _malformed("response without a proper :status")
    if status in _NO_CAPSULES:
        raise _malformed(f"status {int(status)} has no capsules (RFC 9297 §3.2)")
    if status.startswith(b"2"):
        _check_no_content(headers)
    return int(status)


def check_trailers(headers: Headers) -> None:
    _pseudo(headers, frozenset())


def _check_no_content(headers: Headers) -> None:
    if any(name in _CONTENT_FIELDS for name, _ in headers):
        raise _malformed("content fields with the Capsule Protocol (RFC 9297 §3.2)")


def section_size(headers: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 32 for name, value in headers)

"""JSON as the SBI needs it: UTF-8, one object, no duplicate members, no NaN, bounded in size, depth and members. Python's
own reader would take what others read differently, and recurse as deep as the peer likes."""

import json
import math
from typing import Any

from fiveg.sbi.errors import malformed

MAX_BODY = 65536
MAX_DEPTH = 16
MAX_MEMBERS = 256
MAX_NUMBER = 32
"""Digits of a number: an integer of a million digits takes seconds to convert."""

Json = dict[str, Any]


def parse(body: bytes) -> Json:
    """The object that a body is; SbiError 400 otherwise."""
    if len(body) > MAX_BODY:
        raise malformed(f"body of {len(body)} octets, {MAX_BODY} are allowed")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("body is not UTF-8") from None
    _depth_check(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float)
    except ValueError:
        raise malformed("body is not JSON") from None
    if not isinstance(value, dict):
        raise malformed("body is not a JSON object")
    return value


def dump(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _depth_check(text: str) -> None:
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise malformed(f"nested deeper than {MAX_DEPTH}")
        elif char in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> Json:
    if len(pairs) > MAX_MEMBERS:
        raise malformed(f"object of {len(pairs)} members, {MAX_MEMBERS} are allowed")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise malformed("object with a member twice")
    return found


def _constant(name: str) -> Any:
    raise malformed(f"{name} is no JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER:
        raise malformed(f"number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER:
        raise malformed(f"number of {len(text)} digits")
    value = float(text)
    if math.isinf(value):
        raise malformed("number beyond all that can be held")
    return value

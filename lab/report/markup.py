"""HTML and SVG by construction: what is not Markup already is escaped, so no name in a run can become an element. The page is well
formed as XML, too: a test, or anybody's script, can read it with any parser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lab.numbers import is_number

BLANK = "\N{NARROW NO-BREAK SPACE}"
SHOWN = {"\n": " ", "\t": " ", "\xa0": " "}
VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def plain(text: object) -> str:
    """What can be shown: control characters, directions of writing and halves of surrogates are not."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == BLANK else SHOWN.get(c, "\N{REPLACEMENT CHARACTER}") for c in text)


def escape(text: object) -> Markup:
    if isinstance(text, Markup):
        return text
    return Markup(plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;"))


def join(*parts: object, by: str = "") -> Markup:
    return Markup(by.join(escape(part) for part in parts))


def el(name: str, *children: object, **attributes: object) -> Markup:
    """An element. `class_` is class, `data_of` is data-of; what is None is left out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{told}/>")
    return Markup(f"<{name}{told}>{join(*children)}</{name}>")


def grouped(value: float, digits: int) -> str:
    """Thousands apart, with so many digits behind the point."""
    return f"{value:,.{digits}f}".replace(",", BLANK)


def number(value: float) -> str:
    """Four digits, or all before the point: 0.02345 -> 0.02345, 1234567.8 -> 1 234 568."""
    if abs(value) >= 1000 or value == int(value):
        return grouped(value, 0)
    return f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.1e}"


def at(document: Any, way: Sequence[str | int]) -> Any:
    """What stands there; None when nothing does."""
    try:
        for step in way:
            document = document[step]
    except (KeyError, IndexError, TypeError):
        return None
    return document


def figure(document: Any, *way: str | int, digits: int | None = None) -> Markup:
    """What stands in result.json at this way, told with where it stands: `data-of` is a JSON pointer (RFC 6901), `value` is the
    JSON. A dash for null and for what is not there."""
    value = at(document, way)
    pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in way)
    return el("data", told(value, digits), value=json.dumps(value), data_of=pointer)


def told(value: Any, digits: int | None = None) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if not is_number(value):
            return "out of range"
        fixed = None if digits is None else grouped(value, digits)
        return number(value) if fixed is None or (value and not fixed.strip("0.,-")) else fixed
    return str(value)


def digits_of(values: Iterable[Any]) -> int:
    """Behind the point, the same for a column of such values."""
    known = [v for v in values if is_number(v)]
    if all(v == int(v) for v in known):
        return 0
    most = max(map(abs, known))
    return 3 if most < 1 else 2 if most < 10 else 1 if most < 10_000 else 0

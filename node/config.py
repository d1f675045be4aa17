"""Configuration: a JSON file becomes a dataclass, strictly. Every refusal reads `file: key: what is allowed`."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from node.errors import ConfigError

T = TypeVar("T")
FILE_LIMIT = 1 << 20
DEPTH_LIMIT = 16


def strict_json(data: str | bytes) -> Any:
    """JSON without duplicate members, NaN or Infinity. ValueError says what is wrong."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            if key in result:
                raise ValueError(f"member {key!r} stands twice")
            result[key] = value
        return result

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON number")

    def number(text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise ValueError("a number is too large")
        return value

    try:
        return json.loads(data, object_pairs_hook=pairs, parse_constant=constant, parse_float=number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def load(path: str | Path, cls: type[T]) -> T:
    """Read a JSON file into the dataclass `cls`."""
    try:
        with open(path, "rb") as f:
            data = f.read(FILE_LIMIT + 1)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    if len(data) > FILE_LIMIT:
        raise ConfigError(f"{path}: larger than {FILE_LIMIT} octets")
    try:
        value = strict_json(data)
    except ValueError as e:
        raise ConfigError(f"{path}: not JSON: {e}") from None
    return parse(value, cls, str(path))


def parse(value: Any, cls: type[T], where: str) -> T:
    """A decoded JSON value into `cls`; `where` begins every error text."""
    return typing.cast(T, _convert(value, cls, where, "", 0))


def _fail(where: str, key: str, text: str) -> ConfigError:
    return ConfigError(f"{where}: {key or 'top level'}: {text}")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "true/false", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}[type(value)]


def _convert(value: Any, kind: Any, where: str, key: str, depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        raise _fail(where, key, f"nested deeper than {DEPTH_LIMIT}")
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(value, kind, where, key, depth)
    if origin in (Union, types.UnionType):
        return _union(value, arguments, where, key, depth)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != any(value is a for a in (True, False)):
            raise _fail(where, key, f"must be one of {', '.join(map(repr, arguments))}, not {value!r:.60}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _fail(where, key, f"must be a list, not {_kind(value)}")
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                raise _fail(where, key, f"must have {len(arguments)} items, it has {len(value)}")
            pairs = enumerate(zip(value, arguments, strict=True))
            return tuple(_convert(v, a, where, f"{key}[{i}]", depth + 1) for i, (v, a) in pairs)
        return origin(_convert(v, arguments[0], where, f"{key}[{i}]", depth + 1) for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _fail(where, key, f"must be an object, not {_kind(value)}")
        return {k: _convert(v, arguments[1], where, f"{key}.{k}" if key else k, depth + 1) for k, v in value.items()}
    return _scalar(value, kind, where, key)


def _scalar(value: Any, kind: Any, where: str, key: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _fail(where, key, "is too large") from None
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is type(None) and value is None:
        return None
    if kind in (int, float, str, bool) and type(value) is kind:
        return value
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", Path: "a file name"}
    raise _fail(where, key, f"must be {names.get(kind, 'null')}, not {_kind(value)}")


def _union(value: Any, arguments: tuple[Any, ...], where: str, key: str, depth: int) -> Any:
    if value is None and type(None) in arguments:
        return None
    errors = []
    for argument in arguments:
        if argument is type(None):
            continue
        try:
            return _convert(value, argument, where, key, depth)
        except ConfigError as e:
            errors.append(str(e))
    raise ConfigError(errors[0] if len(errors) == 1 else " or ".join(errors))


def _dataclass(value: Any, cls: Any, where: str, key: str, depth: int) -> Any:
    """Fields by name, or by `metadata={"json": name}` where the JSON name is no Python name."""
    if not isinstance(value, dict):
        raise _fail(where, key, f"must be an object, not {_kind(value)}")
    hints = typing.get_type_hints(cls)
    fields = {f.metadata.get("json", f.name): f for f in dataclasses.fields(cls) if f.init}
    dot = f"{key}." if key else ""
    for name in value:
        if name not in fields:
            raise _fail(where, f"{dot}{name}"[:120], f"unknown; allowed: {', '.join(sorted(fields))}")
    arguments: dict[str, Any] = {}
    for name, f in fields.items():
        if name in value:
            arguments[f.name] = _convert(value[name], hints[f.name], where, f"{dot}{name}", depth + 1)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise _fail(where, f"{dot}{name}", "missing; it is required")
    try:
        return cls(**arguments)
    except ValueError as e:  # from the class's own __post_init__
        raise _fail(where, key, str(e)) from None

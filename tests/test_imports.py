"""What import-linter cannot say: no packet of ours goes through aioquic's connection, which is a test peer only."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("fiveg", "native", "mpquic", "node", "control", "upf", "ue", "lab")
FORBIDDEN = ("aioquic.quic.connection", "aioquic.asyncio")


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def offends(source: str) -> bool:
    return any(name == f or name.startswith(f + ".") for name in imported(source) for f in FORBIDDEN)


def test_the_check_sees_an_offender() -> None:
    assert offends("from aioquic.quic.connection import QuicConnection")
    assert offends("from aioquic.quic import connection")
    assert not offends("from aioquic.quic.stream import QuicStream")


def test_no_package_uses_aioquics_connection() -> None:
    offenders = [str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py") if offends(p.read_text())]
    assert offenders == []

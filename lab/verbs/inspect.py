"""`mpq inspect`: `lab.inspect` has its own parser."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    from lab.inspect import main as inspect_main

    return inspect_main(arguments)

"""What can go wrong in the lab: misuse (exit 2) and failure (exit 1), each a sentence for the user."""

from __future__ import annotations


class LabError(Exception):
    """Something could not be done: what, where, what to do. Exit code 1."""

    exit_code = 1


class Misuse(LabError):
    """The user asked for something that cannot be: names what is allowed. Exit code 2."""

    exit_code = 2


class ScenarioError(Misuse):
    """A scenario file is wrong: `file:line: key: what is allowed`."""

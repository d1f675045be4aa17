"""What a user of the lab can be told: one sentence, no traceback."""

from __future__ import annotations


class LabError(Exception):
    """Something failed (exit code 1)."""


class UsageError(LabError):
    """Something was asked for wrongly: arguments, a scenario (exit code 2)."""

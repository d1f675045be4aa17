"""What removes the protection of a row R-nn of N1 (NAS) where Python has it (tests/rules/rule_sabotage.py)."""

from __future__ import annotations

"""What removes the protection of a row R-nn of SBI and N4 where Python has it (tests/rules/rule_sabotage.py)."""

from __future__ import annotations

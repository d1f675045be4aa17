"""Every attack of `lab.attack` against one running lab: counted by name, nothing crashes, the tunnel carries; and its canary, the
same with nothing wrong in it, which is accepted and for which the check fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mpq_kit import ROOT, Mpq

from lab import client
from lab.attack import ATTACKS

pytestmark = pytest.mark.system

SCENARIOS = ("attack_quic", "attack_n4", "attack_n1")
COUNT_TAKEN = [a.name for a in ATTACKS.values() if a.name.startswith("n1-")]
"""A good NAS message of an attacker takes a COUNT of the true sender: these canaries come last."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mpq]:
    one = Mpq(tmp_path_factory.mktemp("attacked"))
    try:
        done = one("up", "attacks", "--json")
        assert done.code == 0, done.err
        yield one
    finally:
        one.end()


def craft(lab: Mpq, monkeypatch: pytest.MonkeyPatch, attack: str, canary: bool = False) -> dict[str, Any]:
    monkeypatch.setenv("MPQ_STATE", str(lab.place / "labs"))
    outcome: dict[str, Any] = client.ask("default", "craft", {"attack": attack, "canary": canary})
    return outcome


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_counted_and_changes_nothing(attacked: Mpq, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    outcome = craft(attacked, monkeypatch, attack)
    assert outcome["ok"], outcome
    assert outcome["sent"] >= 1 and outcome["rows"]
    assert not [c for c in outcome["rose"] if ".fault." in c or c.endswith("internal_error")], outcome["rose"]


def test_a_rekey_still_works(attacked: Mpq) -> None:
    """NAS, SBI and N4 carry a whole procedure after all that was done to them, at the first try: also right behind the flood, whose
    answers wait in the kernel until ARP gives its sender up (3 s)."""
    assert attacked("rekey", "--by", "ue").code == 0
    assert attacked("rekey", "--by", "core").code == 0
    assert attacked.round_trip().code == 0


@pytest.mark.parametrize("attack", sorted(ATTACKS, key=lambda name: name in COUNT_TAKEN))
def test_canary(attacked: Mpq, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    outcome = craft(attacked, monkeypatch, attack, canary=True)
    assert outcome["accepted"] >= 1, outcome
    assert not outcome["ok"] and outcome["why"].startswith("not counted"), outcome


def test_the_command_says_what_happened(attacked: Mpq) -> None:
    done = attacked("craft", "quic-wrong-key", "--json")
    assert done.code == 0 and done.document["counted"] == {"upf:auth_failed": 20}
    canary = attacked("craft", "quic-wrong-key", "--canary")
    assert canary.code == 1 and "not counted" in canary.out
    unknown = attacked("craft", "no-such-attack")
    assert unknown.code == 2 and "there is no such attack" in unknown.err and "quic-replay" in unknown.err


def test_every_attack_ships_in_a_scenario() -> None:
    """But those that end the connection: their gap is the re-connection's, and they are in the lab above."""
    shipped = {
        action["attack"]
        for name in SCENARIOS
        for phase in yaml.safe_load((ROOT / "lab" / "scenarios" / f"{name}.yaml").read_text())["steps"]
        for action in phase["actions"]
    }
    assert shipped == {a.name for a in ATTACKS.values() if not a.ends_connection}


def test_every_attack_stands_in_the_docs() -> None:
    page = (ROOT / "docs" / "interfaces.md").read_text()
    for a in ATTACKS.values():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{a.name}` |")]
        assert a.about in row and all(r in row for r in a.rows) and all(f"`{c}` {n}" in row for c, n in a.counters.items())


def test_a_scenario_with_a_canary_fails(mpq: Mpq, tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "lab" / "scenarios" / "attack_n4.yaml").read_text())
    phase = document["steps"][0]
    phase["seconds"] = 4
    phase["actions"] = [{"at": 1, "attack": "n4-wrong-seid"}, {"at": 2, "attack": "n4-wrong-seid", "canary": True}]
    path = tmp_path / "canary.yaml"
    path.write_text(yaml.safe_dump(document))
    done = mpq("run", str(path), "--json")
    assert done.code == 1, done.err
    failed = {c["id"]: c for c in done.document["checks"] if not c["ok"]}
    assert set(failed) == {"attacked.attack", "attacks.seen"} and "not counted" in failed["attacked.attack"]["why"]


def test_without_keys_there_is_nothing_to_craft_from(mpq: Mpq) -> None:
    assert mpq("up").code == 0
    done = mpq("craft", "quic-replay")
    assert done.code == 2 and "capture: true" in done.err

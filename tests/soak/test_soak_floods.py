"""The floods of docs/rules.toml at the size that bars.md gives them: `make test` runs each a hundred times smaller."""

from __future__ import annotations

import test_fuzz_corpora
import test_hostile_peer
import test_mpquic_hostile_handshake as handshake
import test_native_floods


def test_a_hundred_thousand_paths_cost_nothing() -> None:
    """R-25."""
    assert test_hostile_peer.paths_come_and_go(100_000) < test_hostile_peer.SPARE


def test_a_million_initials_of_random_insides() -> None:
    """R-16: frames under ASan and UBSan, then ClientHellos."""
    dropped, refused, right = test_fuzz_corpora.initials(1_000_000, 1616)
    assert dropped + refused + right == 1_000_000 and refused > 500_000


def test_a_million_client_hellos_of_random_octets() -> None:
    """R-16."""
    assert handshake.random_hellos(1_000_000, 1616).total() == 1_000_000


def test_a_hundred_thousand_datagrams_with_rubbish_behind() -> None:
    """R-03."""
    grown, counters = test_native_floods.rubbish_behind_initials(100_000)
    assert grown < test_native_floods.SPARE and counters["udp_received"] == 100_000

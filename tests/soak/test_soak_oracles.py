"""The oracles of tests/oracle over many more generated packets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("oracle", "lab", "system", "fiveg"))

import drawn_layers
import test_oracle_http3
import test_oracle_nas
import test_oracle_pfcp
import test_oracle_quic_aioquic
import test_oracle_quic_tshark

MORE = 4
WITH_FILES = [test_oracle_http3.test_any_frames_by_tshark, test_oracle_nas.test_any_elements, test_oracle_pfcp.test_any_elements,
              test_oracle_quic_tshark.test_packets_of_any_frames]
WITHOUT = [test_oracle_http3.test_any_frames_by_aioquic, test_oracle_quic_aioquic.test_any_frames,
           test_oracle_quic_aioquic.test_headers_of_every_kind, test_oracle_quic_aioquic.test_any_transport_parameters]


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(strategy: Any, count: int) -> list[Any]:
        return drawn_layers.drawn(strategy, MORE * count)

    for module in (test_oracle_http3, test_oracle_nas, test_oracle_pfcp, test_oracle_quic_aioquic, test_oracle_quic_tshark):
        monkeypatch.setattr(module, "drawn", drawn)


@pytest.mark.parametrize("oracle", WITH_FILES, ids=lambda oracle: oracle.__name__)
def test_many_captured(more: None, oracle: Any, tmp_path: Path) -> None:
    oracle(tmp_path)


@pytest.mark.parametrize("oracle", WITHOUT, ids=lambda oracle: oracle.__name__)
def test_many(more: None, oracle: Any) -> None:
    oracle()

"""upf.json: what docs/interfaces.md says is taken, anything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.config import load
from node.errors import ConfigError
from upf.config import UpfConfig

GOOD: dict[str, Any] = {
    "node": "upf",
    "n4": {"address": "10.90.0.20", "port": 8805, "smf": ["10.90.0.11"], "key": "n4.key"},
    "accesses": [
        {
            "name": name,
            "type": kind,
            "ue_ipv4": f"10.{k}.0.2/24",
            "upf_ipv4": f"10.{k}.0.1/24",
            "ue_ipv6": f"fd0{k}::2/64",
            "upf_ipv6": f"fd0{k}::1/64",
        }
        for k, (name, kind) in enumerate((("3gpp", "3gpp"), ("wifi", "non-3gpp")), 1)
    ],
    "proxy": {"ipv4": "10.100.0.1", "ipv6": "fd64::1", "port": 4433},
    "tun": "n6",
    "tun_mtu": 1280,
    "psk_mode": "external",
    "suites": ["TLS_AES_128_GCM_SHA256"],
    "keylog": None,
    "qlog": None,
    "backend": None,
}


def read(tmp_path: Path, value: dict[str, Any]) -> UpfConfig:
    path = tmp_path / "upf.json"
    path.write_text(json.dumps(value))
    return load(path, UpfConfig)


def test_documented_file_is_taken(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert [a.name for a in config.accesses] == ["3gpp", "wifi"]
    assert config.access("wifi") is config.accesses[1] and config.access("lte") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tun_mtu": 1200}, "tun_mtu"),
        ({"accesses": []}, "accesses"),
        ({"accesses": [GOOD["accesses"][0]] * 2}, "same name"),
        ({"accesses": [{**GOOD["accesses"][0], "type": "lte"}]}, "type"),
        ({"accesses": [{**GOOD["accesses"][0], "upf_ipv4": "10.1.0.1.9/24"}]}, "accesses"),
        ({"proxy": {"ipv4": "fd64::1"}}, "proxy"),
        ({"proxy": {"ipv4": "10.100.0.1", "port": 0}}, "port"),
        ({"n4": {"address": "10.90.0.20"}}, "n4.key"),
        ({"n4": {"address": "10.90.0.20", "key": "n4.key"}}, "n4.smf"),
        ({"n4": {"address": "10.90.0.20", "key": "n4.key", "smf": []}}, "smf"),
        ({"n4": {"address": "10.90.0.20", "key": "n4.key", "smf": ["10.90.0.11", "10.90.0.11"]}}, "smf"),
        ({"n4": {"address": "10.90.0.20", "key": "n4.key", "smf": ["fd90::11"]}}, "n4"),
        ({"psk_mode": "both"}, "psk_mode"),
        ({"suites": []}, "suites"),
        ({"suites": ["TLS_NULL"]}, "suites"),
        ({"suites": ["TLS_AES_256_GCM_SHA384"]}, "suites"),
        ({"more": 1}, "more"),
        ({"rekey": {"packets": 1}}, "packets"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, {**GOOD, **change})

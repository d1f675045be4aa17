"""The nodes' configuration files and the run's secrets, written into the lab's 0700 state directory (docs/interfaces.md).

Subscriber key, N4 key and certificates are made for the run: nothing that ships with the project opens anything.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.sbi.certs import make_run_certificates
from lab.capture_files import KEYLOG_NAME
from lab.scenario import Scenario
from lab.topology import (
    AMF,
    N1_PORTS,
    PROXY,
    PROXY6,
    PROXY_PORT,
    SMF,
    TAMPER_N1_OFFSET,
    TAMPER_N4,
    UE_POOL,
    UE_POOL6,
    UPF_N4,
    AccessAddresses,
)

SUPI = "imsi-001010000000001"
PLMN = {"mcc": "001", "mnc": "01"}
TUN_MTU = 1400  # at most: the UE begins at 1280 and follows what its paths carry


def write_secret(path: Path, text: str) -> Path:
    """A file that only its owner can read, from its first moment."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    return path


@dataclass(frozen=True, slots=True)
class NodeConfigs:
    """Where the files are."""

    amf: Path
    smf: Path
    upf: Path
    ue: Path


def write_configs(scenario: Scenario, directory: Path, run_dir: Path, *, keys: bool = False) -> NodeConfigs:
    """`keys`: the nodes write what opens their traffic (`keys.log`, `nas.keys`), as with a capture."""
    certificates = make_run_certificates(directory / "sbi")
    subscriber = {
        "supi": SUPI,
        "k": secrets.token_hex(16),
        "opc": secrets.token_hex(16),
        "sqn": "000000000020",
    }
    subscribers = write_secret(directory / "subscribers.json", json.dumps([subscriber]))
    usim = write_secret(directory / "usim.json", json.dumps(subscriber))
    n4_key = write_secret(directory / "n4.key", secrets.token_hex(32))
    keys = keys or scenario.capture
    keylog = str(run_dir / KEYLOG_NAME) if keys else None
    derivation = {"fc": scenario.key.get("fc", "f0"), "bind": scenario.key.get("bind", "none")}
    n1_offset = TAMPER_N1_OFFSET if any(t.startswith("n1:") for t in scenario.tamper) else 0
    n4_relay = any(t.startswith("n4:") for t in scenario.tamper)  # each end takes it for the other
    upf_address, smf_address = (TAMPER_N4, TAMPER_N4) if n4_relay else (UPF_N4, SMF)

    def sbi(name: str, address: str) -> dict[str, Any]:
        files = certificates.nfs[name]
        return {
            "address": address,
            "port": 7777,
            "cert": str(files.cert),
            "key": str(files.key),
            "ca": str(files.ca),
            "nf_instance_id": str(files.nf_instance_id),
            "keylog": keylog,
        }

    accesses = list(enumerate(scenario.accesses, 1))
    configs: dict[str, dict[str, Any]] = {
        "amf": {
            "node": "amf",
            "plmn": PLMN,
            "n1": [{"access": a.type, "address": AMF, "port": N1_PORTS[a.type]} for a in scenario.accesses],
            "sbi": sbi("amf", AMF),
            "smf": {"address": SMF, "port": 7777, "host": "smf.local"},
            "subscribers": str(subscribers),
            "key": {
                **derivation,
                "mode": scenario.key.get("mode", "delivered"),
                "lifetime_s": scenario.key.get("lifetime_s", 3600),
            },
        },
        "smf": {
            "node": "smf",
            "sbi": sbi("smf", SMF),
            "amf": {"address": AMF, "port": 7777, "host": "amf.local"},
            "n4": {"address": SMF, "port": 8805, "upf": upf_address, "upf_port": 8805, "key": str(n4_key)},
            "ue_pool": {"ipv4": UE_POOL, "ipv6": UE_POOL6},
            "dnn": scenario.session.dnn,
            "rules": list(scenario.rules),
            "rekey": {"lifetime_s": scenario.key.get("lifetime_s", 3600)},
            "accesses": [{"name": a.name, "type": a.type} for a in scenario.accesses],
        },
        "upf": {
            "node": "upf",
            "n4": {"address": UPF_N4, "port": 8805, "smf": [smf_address], "key": str(n4_key)},
            "accesses": [
                {
                    "name": a.name,
                    "type": a.type,
                    "ue_ipv4": f"{AccessAddresses(k).ue}/24",
                    "upf_ipv4": f"{AccessAddresses(k).upf}/24",
                    "ue_ipv6": f"{AccessAddresses(k).ue6}/64",
                    "upf_ipv6": f"{AccessAddresses(k).upf6}/64",
                }
                for k, a in accesses
            ],
            "proxy": {"ipv4": PROXY, "ipv6": PROXY6, "port": PROXY_PORT},
            "tun": "n6",
            "tun_mtu": TUN_MTU,
            "psk_mode": scenario.psk.mode,
            "suites": list(scenario.psk.suites),
            "congestion_control": scenario.congestion_control,
            "ecn": scenario.ecn,
            "mss_clamp": scenario.mss_clamp,
            "keylog": keylog,
            "qlog": str(run_dir / "upf.sqlog"),
            "qlog_detail": scenario.qlog,
            "backend": None,
        },
        "ue": {
            "node": "ue",
            "subscriber": str(usim),
            "plmn": PLMN,
            "accesses": [
                {
                    "name": a.name,
                    "type": a.type,
                    "address": AccessAddresses(k).ue,
                    "address6": AccessAddresses(k).ue6,
                    "device": AccessAddresses(k).device,
                    "amf": AMF,
                    "amf_port": N1_PORTS[a.type] + n1_offset,
                }
                for k, a in accesses
            ],
            "session": {"id": scenario.session.id, "dnn": scenario.session.dnn, "type": scenario.session.type},
            "tun": "mpq0",
            "tun_mtu": TUN_MTU,
            "psk_mode": scenario.psk.mode,
            "suites": list(scenario.psk.suites),
            "congestion_control": scenario.congestion_control,
            "ecn": scenario.ecn,
            "mss_clamp": scenario.mss_clamp,
            "keylog": keylog,
            "qlog": str(run_dir / "ue.sqlog"),
            "qlog_detail": scenario.qlog,
            "key": derivation,
            "nas_keys": str(run_dir / "nas.keys") if keys else None,
            "probe_spent_key": "oldkey.refused" in scenario.checks,
        },
    }
    paths = {}
    for name, config in configs.items():
        paths[name] = write_secret(directory / f"{name}.json", json.dumps(config, indent=1))
    return NodeConfigs(**paths)

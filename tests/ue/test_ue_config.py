"""ue.json and the subscriber file: strict, and silent about secrets."""

import json

import pytest

from node.config import parse
from node.errors import ConfigError
from node.subscriber import load_subscriber
from ue.config import UeConfig

ACCESS = {"name": "3gpp", "type": "3gpp", "address": "10.1.0.2", "device": "acc1", "amf": "10.90.0.10", "amf_port": 38412}
WIFI = {**ACCESS, "name": "wifi", "type": "non-3gpp", "address": "10.2.0.2", "device": "acc2", "amf_port": 38413}
GOOD = {"node": "ue", "subscriber": "usim.json", "plmn": {"mcc": "001", "mnc": "01"}, "accesses": [ACCESS, WIFI]}


def test_a_good_one():
    config = parse(GOOD, UeConfig, "ue.json")
    assert (config.session.id, config.tun, config.tun_mtu) == (5, "mpq0", 1280)
    assert config.key.fc_octets == b"\xf0" and not config.probe_spent_key


@pytest.mark.parametrize(
    "change",
    [
        {"accesses": []},
        {"accesses": [ACCESS, ACCESS]},
        {"accesses": [ACCESS, {**WIFI, "type": "3gpp"}]},
        {"accesses": [{**ACCESS, "address": "10.1.0"}]},
        {"accesses": [{**ACCESS, "amf_port": 0}]},
        {"accesses": [{**ACCESS, "device": "a" * 16}]},
        {"session": {"id": 16}},
        {"session": {"type": "Ethernet"}},
        {"tun_mtu": 1279},
        {"suites": []},
        {"suites": ["TLS_NULL"]},
        {"suites": ["TLS_AES_256_GCM_SHA384"]},
        {"key": {"fc": "ff"}},
        {"plmn": {"mcc": "1", "mnc": "01"}},
        {"unknown": 1},
        {"node": "upf"},
    ],
)
def test_a_bad_one_is_named(change):
    with pytest.raises(ConfigError, match=r"ue\.json: "):
        parse({**GOOD, **change}, UeConfig, "ue.json")


def write(path, mode=0o600, **change):
    value = {"supi": "imsi-001010000000001", "k": "ab" * 16, "opc": "cd" * 16, "sqn": "000000000020", **change}
    path.write_text(json.dumps(value))
    path.chmod(mode)
    return path


def test_the_subscriber(tmp_path):
    subscriber = load_subscriber(write(tmp_path / "usim"))
    assert subscriber.sqn == 32 and subscriber.k.reveal() == b"\xab" * 16 and "ab" * 4 not in repr(subscriber)


@pytest.mark.parametrize(
    ("mode", "change"),
    [(0o644, {}), (0o600, {"supi": "001010000000001"}), (0o600, {"k": "ab" * 15}), (0o600, {"sqn": "zz"}), (0o600, {"x": "1"})],
)
def test_a_bad_subscriber_is_refused_without_its_secrets(tmp_path, mode, change):
    with pytest.raises(ConfigError) as refused:
        load_subscriber(write(tmp_path / "usim", mode, **change))
    assert "abab" not in str(refused.value) and "cdcd" not in str(refused.value)

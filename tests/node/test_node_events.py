import base64
import copy
import json
import os
import pickle

import pytest

from node.counters import Counters
from node.errors import ConfigError, SecretLeak
from node.events import EventList, Events
from node.secrets import Secret, read_secret

KEY = bytes(range(32))


def test_events_reach_the_sink_with_the_clock():
    got = []
    events = Events(lambda name, t, fields: got.append((name, t, fields)), clock=lambda: 12.5)
    events.emit("key_derived", generation=1, fingerprint="9c99b2bf", list=[1, "x"], nested={"a": None})
    assert got == [("key_derived", 12.5, {"generation": 1, "fingerprint": "9c99b2bf", "list": [1, "x"], "nested": {"a": None}})]


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        bytearray(KEY),
        Secret(KEY),
        KEY.hex(),
        KEY.hex().upper(),
        f"k={KEY.hex()}!",
        base64.b64encode(KEY).decode(),
        [{"deep": KEY.hex()}],
        {KEY.hex(): 1},
        object(),
    ],
)
def test_a_secret_never_leaves(value):
    sink = EventList()
    events = Events(sink)
    secret = events.register_secret(Secret(KEY))
    with pytest.raises(SecretLeak) as e:
        events.emit("oops", field=value)
    assert sink.items == [] and KEY.hex() not in str(e.value).lower() and "oops.field" in str(e.value)
    assert secret


def test_a_forgotten_secret_costs_nothing():
    events = Events(EventList())
    events.register_secret(Secret(KEY))
    assert events._secrets == {}


def test_secret_shows_nothing():
    secret = Secret(KEY)
    assert repr(secret) == str(secret) == "<secret 32>" and f"{secret}" == "<secret 32>"
    for leak in (
        lambda: json.dumps(secret),
        lambda: pickle.dumps(secret),
        lambda: copy.copy(secret),
        lambda: hash(secret),
    ):
        with pytest.raises(TypeError):
            leak()
    assert secret == Secret(KEY) and secret != Secret(KEY[:-1]) and secret != KEY
    held = secret._data
    secret.wipe()
    assert not secret and held == bytes(32)


def test_counters():
    counters = Counters()
    counters.inc("b")
    counters.inc("a", 2)
    counters.inc("b")
    assert counters.snapshot() == {"a": 2, "b": 2} and counters.get("none") == 0


def test_a_secret_that_nobody_wiped_is_wiped_when_it_goes():
    secret = Secret(KEY)
    octets = secret._data
    del secret
    assert octets == bytes(len(KEY))


def test_a_fifo_is_no_key_file_and_holds_nobody_up(tmp_path):
    path = tmp_path / "key"
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="regular file"):
        read_secret(path, 32)

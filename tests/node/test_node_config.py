import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from node.config import load, parse, strict_json
from node.errors import ConfigError
from node.secrets import Secret, read_secret, write_secret_file


@dataclass(frozen=True, slots=True)
class Inner:
    port: int
    share: float | None = field(default=None, metadata={"json": "3gLoad"})

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError("port must be 1..65535")


@dataclass(frozen=True, slots=True)
class Config:
    node: Literal["amf"]
    inner: Inner
    names: list[str]
    table: dict[str, int] = field(default_factory=dict)
    more: tuple[Inner, ...] = ()


GOOD = {"node": "amf", "inner": {"port": 5, "3gLoad": 30}, "names": ["a"], "more": [{"port": 7}]}


def test_good_configuration(tmp_path):
    path = tmp_path / "amf.json"
    path.write_text(json.dumps(GOOD))
    config = load(path, Config)
    assert config.inner == Inner(5, 30.0) and config.more == (Inner(7),) and config.table == {}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"node": "smf"}, "node: must be one of 'amf'"),
        ({"inner": {"port": True}}, "inner.port: must be a whole number, not true/false"),
        ({"inner": {"port": 0}}, "inner: port must be 1..65535"),
        ({"inner": {"port": 1, "prot": 1}}, "inner.prot: unknown; allowed: 3gLoad, port"),
        ({"inner": {}}, "inner.port: missing"),
        ({"names": "a"}, "names: must be a list, not a string"),
        ({"names": [1]}, "names[0]: must be a string, not a number"),
        ({"table": {"x": "y"}}, "table.x: must be a whole number"),
        ({"more": [{"port": 1}, {"port": None}]}, "more[1].port: must be a whole number, not null"),
    ],
)
def test_refusals_name_file_key_and_what_is_allowed(tmp_path, change, text):
    path = tmp_path / "amf.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ConfigError) as e:
        load(path, Config)
    assert str(e.value).startswith(f"{path}: ") and text in str(e.value)


@pytest.mark.parametrize("text", ["{", '{"a":1,"a":2}', '{"a":NaN}', "[" * 100000, '"\udcff'])
def test_what_is_not_json(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"x\.json: not JSON"):
        load(path, Config)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.json", Config)


def test_strict_json_keeps_values():
    assert strict_json('{"a":[1,2.5,null,true]}') == {"a": [1, 2.5, None, True]}
    assert parse({"port": 3}, Inner, "x").port == 3


def test_secret_files(tmp_path):
    path = tmp_path / "k"
    write_secret_file(path, "00" * 16 + "\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path, 16).reveal() == bytes(16)
    with pytest.raises(ConfigError, match="must have 32 octets"):
        read_secret(path, 32)
    with pytest.raises(FileExistsError):
        write_secret_file(path, "11")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0600"):
        read_secret(path, 16)
    link = tmp_path / "l"
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(link, 16)


def test_secret_text_is_never_in_the_error():
    with pytest.raises(ConfigError) as e:
        Secret.from_hex("0123456789xyz")
    assert "0123" not in str(e.value)


@pytest.mark.parametrize("text", ['{"rate": 1e999}', '{"rate": ' + "9" * 400 + "}", '{"rate": -1e999}'])
def test_a_number_that_is_none_any_more_is_refused(tmp_path, text):
    @dataclass
    class Rate:
        rate: float

    path = tmp_path / "rate.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="too large"):
        load(path, Rate)

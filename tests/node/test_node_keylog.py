"""The verb `keylog`: what it takes, and that nothing is logged half-way without being said."""

import asyncio

import pytest

from node.errors import ConfigError, VerbError
from node.keylog import keylog_verb


class Channel:
    def __init__(self):
        self.verbs = {}

    def verb(self, name, handler):
        self.verbs[name] = handler

    def ask(self, **args):
        return asyncio.run(self.verbs["keylog"](args))


def test_it_opens_each_file_once(tmp_path):
    channel, opened = Channel(), []
    keylog_verb(channel, opened.append, opened.append, already=tmp_path / "configured")
    assert channel.ask(file=str(tmp_path / "configured")) == {"file": str(tmp_path / "configured")} and opened == []
    for _ in range(2):
        channel.ask(file=str(tmp_path / "a"))
    assert opened == [tmp_path / "a"] * 2


@pytest.mark.parametrize("args", [{}, {"file": 1}, {"file": None}, {"file": "relative"}, {"file": "/a\0b"}, {"file": ["/a"]}])
def test_misuse_is_named(args):
    channel, opened = Channel(), []
    keylog_verb(channel, opened.append)
    with pytest.raises(VerbError) as caught:
        channel.ask(**args)
    assert caught.value.code == "misused" and opened == []


@pytest.mark.parametrize("error", [OSError(13, "Permission denied"), ConfigError("sbi: the key log cannot be written")])
def test_what_cannot_be_written_is_said_and_may_be_tried_again(tmp_path, error):
    channel, fails = Channel(), [error]

    def opener(path):
        if fails:
            raise fails.pop()

    keylog_verb(channel, opener)
    with pytest.raises(VerbError) as caught:
        channel.ask(file=str(tmp_path / "a"))
    assert caught.value.code == "failed" and "key log" in str(caught.value)
    assert channel.ask(file=str(tmp_path / "a")) == {"file": str(tmp_path / "a")}

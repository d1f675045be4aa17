"""docs/packets.md: its sessions, run as they stand, against a run directory made by hand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from synthetic_capture import two_paths

PAGE = Path(__file__).parents[2] / "docs" / "packets.md"


def sessions() -> list[str]:
    return re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run(text: str, names: dict[str, object]) -> doctest.TestResults:
    test = doctest.DocTestParser().get_doctest(text, names, "packets.md", str(PAGE), 0)
    told: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(test, out=told.append, clear_globs=False)
    assert results.failed == 0, "".join(told)
    names.update(test.globs)
    return results


def test_the_page_is_what_a_shell_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture, keylog = two_paths(6)
    last = tmp_path / "runs" / "last"
    last.mkdir(parents=True)
    (last / "capture.pcapng").write_bytes(capture)
    (last / "keys.log").write_bytes(keylog)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    tried = sum(run(session, names).attempted for session in sessions())
    assert tried >= 15


def test_a_wrong_answer_on_the_page_is_told() -> None:
    session = sessions()[0]
    assert "['DATAGRAM', 'PATH_ACK']" in session
    with pytest.raises(AssertionError, match="PATH_ACK"):
        run(session.replace("['DATAGRAM', 'PATH_ACK']", "['PATH_ACK', 'DATAGRAM']"), {})

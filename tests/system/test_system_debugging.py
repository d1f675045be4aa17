"""docs/debugging.md: every command of the page, in its order, against one run of its scenario; and what the page claims of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from ladders import alike, blocks, missing, order_of
from mpq_kit import ROOT, Done, Mpq

PAGE = ROOT / "docs" / "debugging.md"
FILES = ("clear.pcapng", "procedure.svg")       # the page writes them where the reader is
pytestmark = pytest.mark.system


def commands() -> list[list[str]]:
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        found += [shlex.split(line[2:]) for line in block.splitlines() if line.startswith("$ ")]
    return found


def place_of(argument: str, place: Path) -> str:
    """The page is read at the repository's root; runs and files are the test's own."""
    if argument.startswith("docs/"):
        return str(ROOT / argument)
    return str(place / argument) if argument in FILES or argument.startswith("runs/") else argument


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Done]]:
    """Each command of the page as a user runs it, and the document of those that have one."""
    one = Mpq(tmp_path_factory.mktemp("debugging"))
    try:
        out: dict[str, Done] = {}
        for number, command in enumerate(commands()):
            assert command[0] == "mpq"
            arguments = [place_of(a, one.place) for a in command[1:]]
            done = out[shlex.join(command[1:])] = one(*arguments)
            assert done.code == 0, f"{shlex.join(command)}: {done.err}"
            if number:
                again = one(*arguments, "--json")
                out[shlex.join([*command[1:], "--json"])] = again
                json.loads(again.out)
        out["directory"] = Done(0, str(one.place), "")
        yield out
    finally:
        one.end()


def test_the_page_has_commands_of_every_view() -> None:
    words = {word for command in commands() for word in command}
    assert {"run", "--stats", "--dropped", "--between", "--path", "--frame", "--inner", "--follow", "--packet", "--export",
            "--flow-graph", "--svg", "--limit", "--qlog"} <= words


def test_every_packet_is_in_clear_and_every_loss_explained(answers: dict[str, Done]) -> None:
    stats = answers["inspect --stats --json"].document
    assert stats["packets"] == stats["decrypted"] > 1000
    jsonschema.validate(stats, json.loads((ROOT / "lab" / "inspect_stats.schema.json").read_text()))
    assert [one["generation"] for one in stats["connections"] if len(one["paths"]) == 2] == [1, 2], "a row for each, and its key"
    assert max(stats["accesses"], key=lambda one: one["up"]["lost"])["access"] == "wifi"
    dropped = answers["inspect --dropped --json"].document
    assert dropped["lost"] > 10
    assert any(reason.startswith("wire: cut of wifi") for reason in dropped["reasons"])
    assert dropped["by"] == "qlog", "both ends' logs are whole"
    assert not [one for one in dropped["packets"] if one["reason"].startswith("not explained")]


def test_both_ends_say_what_became_of_the_packets(answers: dict[str, Done]) -> None:
    (command,) = [name for name in answers if "--qlog" in name and name.endswith("--json")]
    told = answers[command].document
    assert told["clock"] == "same clock" and told["shown"] > 5
    ends = [one["ends"] for one in told["packets"] if one["kind"] == "1rtt"]
    assert all(one is not None and one["sent"] is not None for one in ends), "what was captured was sent"
    assert any(one["received"] is None for one in ends), "the cut"
    for one in ends:
        assert one["received"] is None or -0.001 <= one["received"] - one["sent"] < 1
    for log in ("ue", "upf"):
        (command,) = [name for name in answers if f"{log}.sqlog" in name and name.endswith("--json")]
        assert answers[command].document["end"] == log and answers[command].document["malformed"] == 0


def test_the_flow_is_followed_onto_the_other_path(answers: dict[str, Done]) -> None:
    (command,) = [name for name in answers if "--follow" in name and name.endswith("--json")]
    told = answers[command].document
    assert {one["access"] for one in told["per_path"]} == {"wifi", "3gpp"}
    assert told["path_switches"] >= 1 and told["order"]["up: sent again by TCP"] > 0
    assert any("cut of wifi" in reason for reason in told["lost"])


def test_the_ladder_has_the_whole_procedure(answers: dict[str, Done]) -> None:
    messages = answers["inspect --flow-graph --json"].document["messages"]
    order = [m["text"] for m in messages]

    def at(part: str) -> int:
        return next(i for i, text in enumerate(order) if part in text)

    steps = [
        "REGISTRATION REQUEST", "PDU SESSION ESTABLISHMENT REQUEST", "[MPQUIC Key Request]", "POST MPQUIC key request, initial",
        "derives K_MPQUIC generation 1", "installs key generation 1", "Initial: ClientHello", "HANDSHAKE_DONE",
        "HEADERS (CONNECT-IP)", "the lab cuts wifi", "the lab restores wifi", "derives K_MPQUIC generation 2",
        "connection of key generation 1 is closed"]
    places = [at(step) for step in steps]
    assert places == sorted(places)
    rekey = answers["inspect --flow-graph --between step:rekey event:ue.connection_closed"].out
    assert "generation 2" in rekey and "REGISTRATION REQUEST" not in rekey


CHAIN = [
    "REGISTRATION REQUEST", "AUTHENTICATION REQUEST", "AUTHENTICATION RESPONSE", "SECURITY MODE COMMAND", "SECURITY MODE COMPLETE",
    "PDU SESSION ESTABLISHMENT REQUEST", "[MPQUIC Key Request]", "POST MPQUIC key request, initial",
    "derives K_MPQUIC generation 1", "KEY PROVISION generation 1", "KEY ACK generation 1", "Initial: ServerHello",
    "HEADERS (CONNECT-IP)"]


@pytest.mark.parametrize("page", [ROOT / "README.md", PAGE], ids=lambda page: page.name)
def test_the_diagram_of_a_page_is_that_of_a_run(answers: dict[str, Done], page: Path) -> None:
    """Who says what to whom, and in which order: as in this run. Times, numbers, and which access was faster are a run's own."""
    run = answers["inspect --flow-graph"].out.splitlines()
    (diagram,) = blocks(page)
    assert len(alike(diagram)) >= 30 and missing(diagram, run) == []
    assert order_of(diagram, CHAIN) == order_of(run, CHAIN) == CHAIN
    turned = [line.replace("───────────>", "<───────────") if "AUTHENTICATION RESPONSE" in line else line for line in diagram]
    assert len(missing(turned, run)) == 1                   # canary: an arrow that points the other way
    assert order_of([*diagram[:1], *reversed(diagram[1:])], CHAIN) != CHAIN


def test_files_are_written(answers: dict[str, Done]) -> None:
    place = Path(answers["directory"].out)
    assert (place / "procedure.svg").read_text().startswith("<svg") and (place / "clear.pcapng").stat().st_size > 10_000

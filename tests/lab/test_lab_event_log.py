"""The events of a lab: a bounded memory that answers as a whole one does, as long as it has what was asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.event_log import EventLog

NAMES = st.tuples(st.sampled_from(["ue", "upf"]), st.sampled_from(["path_state", "cut", "key_refused"]))


@given(st.lists(NAMES, max_size=40), st.integers(1, 12), st.integers(1, 40), NAMES)
def test_it_answers_as_a_list_of_all(came: list[tuple[str, str]], most: int, number: int, asked: tuple[str, str]) -> None:
    log = EventLog(most)
    whole = [{"t": float(t), "node": node, "event": event} for t, (node, event) in enumerate(came)]
    for entry in whole:
        log.append(entry)
    kept = whole[-most:]
    assert list(log) == kept == list(reversed(log))[::-1] and log.last(3) == kept[-3:]
    of = [e for e in whole if (e["node"], e["event"]) == asked]
    assert log.count(*asked) == len(of)
    assert log.first("cut") == next((e for e in whole if e["event"] == "cut"), None)
    found = log.number(*asked, number)
    if number > len(of):
        assert found is None
    elif of[number - 1] in kept:
        assert found == of[number - 1]
    else:  # it is forgotten: the oldest of its name that is not, if there is one
        assert found == next((e for e in kept if e in of), None)

"""Random and mutated N4 messages against a live session: the UPF's rules are sound after each, and are what the data path
has (R-140)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from upf_rig import SMF, STRANGER, Rig, balancing, downlink, establishment, far, key_ie, standby

from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp import values as v
from fiveg.pfcp.codes import Cause, DestinationInterface, Priority, SteeringMode, SteeringModeIndicator
from upf.quic import steering_rule
from upf.steering import steering_of

numbers = st.integers(1, 5)
forwarding = st.tuples(
    st.none() | st.sampled_from([0, 50, 100]), st.sampled_from([None, *Priority]), st.booleans()
)
any_mar = st.builds(
    lambda number, mode, near, away, thresholds, indicator: replace(
        balancing(number),
        mode=mode,
        access_3gpp=r.AccessForwarding(far_id=2, weight=near[0], priority=near[1]),
        access_non_3gpp=r.AccessForwarding(far_id=3, weight=away[0], priority=away[1]) if away[2] else None,
        thresholds=thresholds,
        indicator=indicator,
    ),
    numbers,
    st.sampled_from(list(SteeringMode)),
    forwarding,
    forwarding,
    st.sampled_from([None, v.Thresholds(0), v.Thresholds(80), v.Thresholds(None, 0), v.Thresholds(65535, 100)]),
    st.sampled_from([None, *(SteeringModeIndicator(n) for n in range(4))]),
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "remove_pdrs": st.lists(numbers.map(lambda n: r.RemovePdr(pdr_id=n)), max_size=2).map(tuple),
        "remove_fars": st.lists(numbers.map(lambda n: r.RemoveFar(far_id=n)), max_size=2).map(tuple),
        "remove_mars": st.lists(numbers.map(lambda n: r.RemoveMar(mar_id=n)), max_size=2).map(tuple),
        "create_fars": st.lists(
            st.tuples(numbers, st.sampled_from(["3gpp", "wifi", "none"])).map(
                lambda t: far(t[0], DestinationInterface.ACCESS, t[1])
            ),
            max_size=2,
        ).map(tuple),
        "create_mars": st.lists(
            st.one_of(numbers.map(standby), st.tuples(numbers, st.integers(0, 100)).map(lambda t: balancing(*t)), any_mar),
            max_size=2,
        ).map(tuple),
        "create_pdrs": st.lists(
            st.tuples(numbers, numbers, st.integers(0, 9)).map(lambda t: downlink(t[0], t[1], precedence=t[2])),
            max_size=2,
        ).map(tuple),
        "update_mars": st.lists(
            st.tuples(numbers, st.integers(0, 100)).map(
                lambda t: r.UpdateMar(
                    mar_id=t[0],
                    update_access_3gpp=r.UpdateAccessForwarding(weight=t[1]),
                    update_access_non_3gpp=r.UpdateAccessForwarding(weight=100 - t[1]),
                )
            ),
            max_size=1,
        ).map(tuple),
        "update_pdrs": st.lists(
            st.tuples(numbers, numbers).map(lambda t: r.UpdatePdr(pdr_id=t[0], mar_id=t[1])), max_size=1
        ).map(tuple),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, min_size=1, max_size=5))
def test_any_sequence_of_modifications_leaves_sound_rules(sequence: list[dict[str, object]]) -> None:
    rig = Rig()
    session = rig.establish()
    for change in sequence:
        before = session.rules
        answer = rig.modify(session, **change)
        if answer.cause is Cause.ACCEPTED:
            for created in (*change.get("create_pdrs", ()),):  # type: ignore[misc]
                assert session.rules.pdrs[created.pdr_id] == created
            for removed in (*change.get("remove_mars", ()),):  # type: ignore[misc]
                recreated = {x.mar_id for x in change.get("create_mars", ())}  # type: ignore[attr-defined]
                assert removed.mar_id not in session.rules.mars or removed.mar_id in recreated
        else:
            assert session.rules is before
        assert session.rules.checked() is session.rules
        assert rig.datapath.sessions[session.seid] == steering_of(session.rules)
        for steering in steering_of(session.rules):
            steering_rule(steering)  # the engine has a rule for whatever was accepted


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_datagrams_never_crash_and_leave_sound_rules(data: st.DataObject) -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session))
    for number in range(data.draw(st.integers(1, 4))):
        message = data.draw(
            st.sampled_from(
                [
                    m.encode(establishment(), number, 0),
                    m.encode(m.SessionModificationRequest(key=key_ie(session, 2, bytes(32))), number, session.seid),
                    m.encode(
                        m.SessionModificationRequest(
                            create_mars=(standby(2),), create_pdrs=(downlink(4, 2),), remove_pdrs=(r.RemovePdr(pdr_id=3),)
                        ),
                        number,
                        session.seid,
                    ),
                    m.encode(m.SessionDeletionRequest(), number, session.seid),
                    m.encode(m.HeartbeatRequest(recovery_time_stamp=0xE9A1B2C3), number),
                    m.encode(m.SessionReportResponse(cause=Cause.ACCEPTED), number, session.seid),
                ]
            )
        )
        octets = bytearray(message)
        for _ in range(data.draw(st.integers(1, 3))):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.one_of(st.none(), st.integers(0, len(octets))))
        rig.raw(bytes(octets[:cut]), data.draw(st.sampled_from([SMF, STRANGER])))
        rig.advance(data.draw(st.sampled_from([0.0, 1.0, 30.0])))
        assert set(rig.datapath.sessions) == set(rig.agent.sessions)
        for live in rig.agent.sessions.values():
            assert live.rules.checked() is live.rules
            assert rig.datapath.sessions[live.seid] == steering_of(live.rules)
            assert live.keys.next is None or len(live.keys.next.key) == 32


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_garbage_is_counted_and_forgotten(data: bytes) -> None:
    rig = Rig()
    session = rig.establish()
    rig.raw(b"\x21\x34" + data)
    rig.raw(data)
    assert rig.agent.sessions == {session.seid: session}

"""The UE against a real AMF and SMF: registration, session, keys, re-key, refusals."""

import asyncio
import json
import stat

import pytest
from core_kit import Core, free_port, run
from ue_rig import Rig, until

from node.errors import VerbError


def with_core(tmp_path, work, *, core=None, **more):
    async def inner():
        (tmp_path / "ue").mkdir()
        async with Core(tmp_path, **(core or {})) as made, Rig(made, tmp_path / "ue", **more) as rig:
            await work(made, rig)

    run(inner())


def test_registers_on_both_accesses_and_carries_the_session(tmp_path):
    async def work(core, rig):
        ready = await rig.event("connection_ready")
        await rig.event("path_validated", 2)
        assert {e["access"] for e in rig.events.of("registered")} == {"3gpp", "wifi"}
        assert len(rig.events.of("security_mode_done")) == 1  # one authentication, one common context
        ((ipv4, _ipv6, interface_id, routes),) = rig.tun.settings
        assert str(ipv4) == rig.ue.status()["session"]["ipv4"] and len(interface_id) == 8 and len(routes) == 2
        derived = core.amf_events.of("key_derived")
        assert [ready["fingerprint"]] == [e["fingerprint"] for e in derived]
        await until(lambda: any(core.upf.keys.values()) and core.amf_events.of("key_acknowledged"))
        assert rig.endpoint.offers[0][0] == next(iter(core.upf.keys.values()))[0][1]  # the UPF has the same octets
        assert rig.endpoint.offers[0][2] == ("10.100.0.1", 4433)
        tunnel = rig.endpoint.tunnels[0]
        assert tunnel.rules[0].weights == {"3gpp": 30, "non-3gpp": 70}
        assert tunnel.bound == rig.endpoint.connections

    with_core(tmp_path, work)


def test_p0_alone_comes_to_the_same_key(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready")
        await until(lambda: any(core.upf.keys.values()))
        assert rig.endpoint.offers[0][0] == next(iter(core.upf.keys.values()))[0][1]

    key = {"fc": "f7", "bind": "session", "mode": "derived", "lifetime_s": 3600}
    with_core(tmp_path, work, core={"key": key}, key={"fc": "f7", "bind": "session"})


def test_a_dead_access_never_keeps_the_session_down(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready", limit=5)
        assert [e["access"] for e in rig.events.of("registered")] == ["wifi"]
        assert rig.counters.get("n1.connect_failed.3gpp") > 0

    with_core(tmp_path, work, ports={"3gpp": free_port()})


@pytest.mark.parametrize("by", ["ue", "core"])
def test_rekey_moves_the_session_to_a_new_connection(tmp_path, by):
    async def work(core, rig):
        await rig.event("connection_ready")
        await until(lambda: core.amf_events.of("key_acknowledged"))
        if by == "ue":
            assert (await rig.verb("rekey"))["generation"] == 2
        else:
            from ue_script import SUPI

            await core.channel.verbs["rekey"]({"supi": SUPI, "pdu_session_id": 5, "reason": "POLICY"})
        second = await rig.event("connection_ready", 2)
        assert second["generation"] == 2
        first = rig.endpoint.connections[0]
        await rig.event("connection_closed")
        assert first.log == ["connect_ip", "goaway", "close"]
        # what the proxy sends before its answer is known is delivered, too
        assert [c.admitted_by for c in rig.endpoint.connections] == [None, rig.endpoint.tunnels[0]]
        assert rig.endpoint.tunnels[0].bound == rig.endpoint.connections and len(rig.endpoint.tunnels) == 1
        assert rig.events.of("rekey_done") == [{"generation": 2, "fingerprint": second["fingerprint"]}]
        assert len({e["fingerprint"] for e in rig.events.of("key_received")}) == 2
        assert rig.events.of("connection_closed") == [{"generation": 1, "reason": "re-keyed"}]

    with_core(tmp_path, work)


def test_a_key_that_the_proxy_does_not_take_is_rejected_and_leaves_the_old_connection(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready")
        first = rig.endpoint.connections[0]
        rig.endpoint.accepts = lambda key: False
        with pytest.raises(VerbError):
            await rig.verb("rekey")
        refused = rig.events.of("key_refused")[0]
        assert (refused["generation"], refused["by"]) == (2, "upf")
        await until(lambda: core.amf_events.of("key_refused"))
        assert not first.ended.done() and rig.endpoint.tunnels[0].bound == [first]
        # once at once, and after 50, 100, 200, 400 and 800 ms
        second_key = rig.endpoint.offers[1][0]
        assert [k for k, _, _ in rig.endpoint.offers[1:]].count(second_key) == 6

    with_core(tmp_path, work)


def test_step_6_may_be_slower_than_step_5b(tmp_path):
    async def work(core, rig):
        tries = []
        rig.endpoint.accepts = lambda key: tries.append(key) or len(tries) == 3
        await rig.event("connection_ready")
        assert len(tries) == 3 and not rig.events.of("key_refused")

    with_core(tmp_path, work)


def test_a_connection_that_ends_by_itself_is_replaced_on_a_new_key(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready")
        rig.endpoint.connections[0].end("idle timeout")
        second = await rig.event("connection_ready", 2)
        assert second["generation"] == 2
        assert rig.events.of("connection_closed")[0] == {"generation": 1, "reason": "idle timeout"}

    with_core(tmp_path, work)


def test_the_spent_key_is_probed_only_when_allowed(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready")
        spent = rig.endpoint.offers[0][0]
        rig.endpoint.accepts = lambda key: key != spent
        assert (await rig.verb("probe_spent_key"))["outcome"] == "key refused"
        with pytest.raises(VerbError, match="for tests"):
            await rig.verb("connect_with_key", key="00" * 32)

    with_core(tmp_path, work, probe_spent_key=True)


def test_the_spent_key_is_wiped_when_not(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready")
        assert not rig.ue._store.slot.key and rig.ue._store.last_spent is None
        with pytest.raises(VerbError, match="does not allow"):
            await rig.verb("probe_spent_key")

    with_core(tmp_path, work)


def test_an_abandoned_path_is_opened_again_over_its_access(tmp_path):
    async def work(core, rig):
        await rig.event("path_validated", 2)
        connection = rig.endpoint.connections[0]
        connection.handler("path_state", {"path": 1, "state": "abandoned", "reason": "no answer"})
        again = await rig.event("path_validated", 3)
        assert again["path"] == 2 and again["access"] == "wifi"
        assert rig.events.of("path_state")[0]["access"] == "wifi"

    with_core(tmp_path, work)


def test_nas_keys_are_written_for_captures_alone(tmp_path):
    file = tmp_path / "nas.keys"

    async def work(core, rig):
        await rig.event("connection_ready")
        (line,) = file.read_text().splitlines()
        entry = json.loads(line)
        assert set(entry) == {"ue", "k_nas_enc", "k_nas_int"} and len(bytes.fromhex(entry["k_nas_enc"])) == 16
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    with_core(tmp_path, work, nas_keys=str(file))


def test_another_k_never_gets_a_session(tmp_path):
    async def work(core, rig):
        failed = await rig.event("authentication_failed")
        assert failed["cause"] == 20
        await until(lambda: core.amf_events.of("authentication_failed"))
        assert not rig.events.of("registered") and not rig.endpoint.offers

    with_core(tmp_path, work, k=bytes(16))


def test_sqn_behind_the_usim_is_resynchronised(tmp_path):
    async def work(core, rig):
        await rig.event("connection_ready")
        assert rig.counters.get("nas.sqn_not_fresh") == 1

    with_core(tmp_path, work, sqn="000000ff0000")


def test_says_goodbye_when_it_ends(tmp_path):
    async def inner():
        (tmp_path / "ue").mkdir()
        async with Core(tmp_path) as core:
            async with Rig(core, tmp_path / "ue") as rig:
                await rig.event("path_validated", 2)
                connection = rig.endpoint.connections[0]
            assert connection.log[-1] == "close" and rig.endpoint.closed and rig.endpoint.tunnels[0].freed
            await until(lambda: len(core.amf_events.of("deregistered")) == 2)
            assert core.amf.metrics() == {"ues": 0}

    run(inner())
    asyncio.set_event_loop(None)

"""AMF and SMF as the supervisor starts them: `python -m control.amf|control.smf`, with configuration files and verbs."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from core_kit import Core, free_port, run
from ue_script import ScriptedUe
from upf_script import ScriptedUpf

from node.errors import ControlError, VerbError
from node.handle import NodeHandle

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def configurations(tmp_path, upf_port):
    """The two files, made by the kit's own writer, with real ports."""
    core = Core(tmp_path, upf=False)
    core.upf = type("Port", (), {"port": upf_port})
    values = {}
    originals = core._amf_config, core._smf_config
    amf_port, smf_port = free_port(), free_port()
    import core_kit

    parse, core_kit.parse = core_kit.parse, lambda value, cls, where: value
    try:
        values["amf"], values["smf"] = (make(amf_port, smf_port) for make in originals)
    finally:
        core_kit.parse = parse
    ports = {}
    for listener in values["amf"]["n1"]:
        listener["port"] = ports[listener["access"]] = free_port()
    for name, value in values.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return ports


async def start(tmp_path, name, events):
    def heard(event, t, fields):
        events.append((name, event, fields))

    with (tmp_path / f"{name}.err").open("wb") as err:
        return await NodeHandle.spawn(
            name, f"control.{name}", tmp_path / f"{name}.json", on_event=heard, stderr=err, environment=ENVIRONMENT
        )


def test_both_start_register_a_ue_and_end_cleanly(tmp_path):
    async def main():
        upf = await ScriptedUpf.open(bytes([0x11] * 32))
        ports = configurations(tmp_path, upf.port)
        events = []
        amf, smf = [await start(tmp_path, name, events) for name in ("amf", "smf")]
        await asyncio.gather(amf.ready(20), smf.ready(20))
        ue = ScriptedUe(ports)
        await ue.register("3gpp")
        await ue.register_second("non-3gpp")
        while (await smf.request("status"))["associated"] is not True:
            await upf.until(lambda: upf.smf)
        status = await amf.request("status")
        assert status["ues"][0]["accesses"] == ["3gpp", "non-3gpp"]
        assert (await amf.request("metrics"))["counters"]["n1.received"] >= 5
        with pytest.raises(VerbError, match="has no PDU session 5"):
            await amf.request("rekey", {"supi": ue.supi, "pdu_session_id": 5})
        with pytest.raises(VerbError, match="rekey needs"):
            await amf.request("rekey", {"supi": 5})
        assert [await n.stop() for n in (amf, smf)] == [0, 0]
        assert ("smf", "association_up", {"peer": "127.0.0.20", "keys": True}) in events
        assert ("amf", "registered", {"access": "non-3gpp"}) in events
        for name in ("amf", "smf"):
            assert (tmp_path / f"{name}.err").read_text() == ""
        ue.close()
        upf.close()

    run(main(), 60)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("amf", {"subscribers": "/nonexistent/subscribers"}, "cannot be read"),
        ("amf", {"key": {"fc": "ff"}}, "amf.json: key: fc: must be one octet"),
        ("smf", {"rules": []}, "smf.json: top level: rules: must be 1 to 16"),
        ("smf", {"dnn": 5}, "smf.json: dnn: must be a string"),
    ],
)
def test_configurations_that_are_refused(tmp_path, name, change, text):
    async def main():
        configurations(tmp_path, 1)
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        node = await start(tmp_path, name, [])
        with pytest.raises(ControlError):
            await node.ready(20)
        assert await node.exited == 2
        node.close()
        stderr = (tmp_path / f"{name}.err").read_text()
        assert text in stderr and "Traceback" not in stderr

    run(main(), 60)

"""What a connection leaves in logs: qlog in its form, and no key anywhere but in a key log that was asked for."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from line import IDENTITY, KEY, SERVER, psk
from test_mpquic_connection import Proxy, run

from mpquic.errors import HandshakeRefused
from mpquic.psk import Psk
from mpquic.qlog import Qlog


def test_qlog_has_the_life_of_a_connection_and_no_key(caplog: pytest.LogCaptureFixture) -> None:
    """R-154: key, secrets and reset token are searched for in all that was written."""
    records: list[str] = []
    secrets: list[str] = []

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        for endpoint, name in ((line.client, "ue"), (line.server, "upf")):
            endpoint._qlog = Qlog(records.append, name, endpoint.config.role, "2026-01-01T00:00:00Z")
            endpoint.config.keylog = lambda one: secrets.append(one.split()[2])
        connection = await proxy.session()
        await line.do(connection.close())
        await line.run(None, 1000)
        with pytest.raises(HandshakeRefused):
            await line.do(line.client.connect(Psk(bytes(range(1, 33)), IDENTITY), 0, SERVER))

    run(test)
    assert all(one[0] == "\x1e" and one[-1] == "\n" for one in records)
    parsed: list[dict[str, Any]] = [json.loads(one[1:]) for one in records]
    assert [p["trace"]["vantage_point"]["name"] for p in parsed if "trace" in p] == ["ue", "upf"]
    names = {p["name"] for p in parsed if "name" in p}
    assert {"quic:connection_started", "quic:parameters_set", "quic:connection_closed", "mpquic:path_validated"} <= names
    times = [p["time"] for p in parsed if "time" in p]
    assert times == sorted(times)
    written = "".join(records) + caplog.text
    assert len(secrets) >= 10
    for secret in (KEY.hex(), bytes(range(1, 33)).hex(), *secrets):
        assert secret not in written


def test_objects_of_a_connection_show_no_key() -> None:
    async def test(proxy: Proxy) -> None:
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        shown = repr(connection.psk) + repr(proxy.line.server.config) + repr(connection._info) + repr(connection.__dict__)
        assert KEY.hex() not in shown and repr(KEY) not in shown and repr(bytearray(KEY)) not in shown
        assert repr(proxy.line.server.config.reset_key) not in shown

    run(test)


def test_a_psk_is_never_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(psk())



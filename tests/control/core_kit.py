"""AMF and SMF in one process over loopback, real TLS, TCP and UDP between them; a scripted UE and a scripted UPF outside."""

import asyncio
import contextlib
import functools
import inspect
import json
import os
import random
import socket

from sbi_kit import config as sbi_config
from ue_script import OPC, SUPI, K, ScriptedUe
from upf_script import ScriptedUpf

from control.amf.amf import Amf
from control.amf.config import AmfConfig
from control.sbi.certs import make_run_certificates
from control.sbi.client import NfAddress, SbiClient
from control.smf.config import SmfConfig
from control.smf.smf import Smf
from node.config import parse
from node.counters import Counters
from node.events import EventList, Events
from node.main import NodeContext

K_N4 = bytes([0x11] * 32)
RULES = [{"id": 1, "precedence": 10, "steering": "MPQUIC_IP", "mode": {"steerModeValue": "LOAD_BALANCING", "3gLoad": 30}}]
SECOND_SUPI = "imsi-001010000000002"
SECOND_K = bytes.fromhex("0396eb317b6d1c36f19c1c84cd6ffd16")


class NoChannel:
    """Stands where the supervisor's channel would: keeps the verbs, so that a test can call them."""

    def __init__(self):
        self.verbs = {}

    def verb(self, name, handler):
        self.verbs[name] = handler


def free_port(kind=socket.SOCK_STREAM, address="127.0.0.1"):
    """For somebody who binds it in a moment: none that the kernel gives to connections of the tests beside this one meanwhile."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port


class Core:
    """`async with Core(tmp_path) as core`: everything up and associated."""

    def __init__(self, directory, *, key=None, random=os.urandom, schedule=None, upf=True, implicit_s=58 * 60):
        self.directory, self.random, self.schedule, self.with_upf = directory, random, schedule, upf
        self.implicit_s = implicit_s
        self.certs = make_run_certificates(directory / "certs", ("amf", "smf", "nef", "smf.b", "amf.b"))
        self.key = key or {"fc": "f0", "bind": "none", "mode": "delivered", "lifetime_s": 3600}
        self.amf_events, self.smf_events = EventList(), EventList()
        self.amf_counters, self.smf_counters = Counters(), Counters()
        self.channel = NoChannel()

    async def __aenter__(self):
        amf_port, smf_port = free_port(), free_port()
        self.amf_port, self.smf_port = amf_port, smf_port
        self.upf = await ScriptedUpf.open(K_N4)
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        self.amf = Amf(self._amf_config(amf_port, smf_port), self._context("amf"), self.random, schedule=self.schedule)
        self.smf = Smf(self._smf_config(amf_port, smf_port), self._context("smf"))
        await self.amf.start()
        await self.smf.start()
        if self.with_upf:
            await self.smf.n4.associated()
        return self

    async def __aexit__(self, *error):
        await self.amf.stop()
        await self.smf.stop()
        self.upf.close()
        for task in list(self.group._tasks):
            task.cancel()
        await self.group.__aexit__(None, None, None)

    def _context(self, name):
        events, counters = getattr(self, f"{name}_events"), getattr(self, f"{name}_counters")
        return NodeContext(Events(events), counters, self.channel, self.group)

    def _sbi(self, name, port):
        files = self.certs.nfs[name]
        return {
            "address": "127.0.0.1", "port": port, "cert": str(files.cert), "key": str(files.key), "ca": str(files.ca),
            "nf_instance_id": str(files.nf_instance_id),
        }  # fmt: skip

    def _amf_config(self, amf_port, smf_port):
        subscribers = self.directory / "subscribers.json"
        subscribers.write_text(
            json.dumps(
                [
                    {"supi": SUPI, "k": K.hex(), "opc": OPC.hex(), "sqn": "000000001000"},
                    {"supi": SECOND_SUPI, "k": SECOND_K.hex(), "opc": OPC.hex(), "sqn": "000000001000"},
                ]
            )
        )
        subscribers.chmod(0o600)
        listeners = [{"access": a, "address": "127.0.0.1", "port": 0} for a in ("3gpp", "non-3gpp")]
        value = {
            "node": "amf", "plmn": {"mcc": "001", "mnc": "01"}, "n1": listeners, "sbi": self._sbi("amf", amf_port),
            "smf": {"address": "127.0.0.1", "port": smf_port, "host": "smf.local"}, "subscribers": str(subscribers),
            "key": self.key, "implicit_deregistration_s": self.implicit_s,
        }  # fmt: skip
        return parse(value, AmfConfig, "amf.json")

    def _smf_config(self, amf_port, smf_port):
        key = self.directory / "n4.key"
        key.write_text(K_N4.hex())
        key.chmod(0o600)
        value = {
            "node": "smf", "sbi": self._sbi("smf", smf_port),
            "amf": {"address": "127.0.0.1", "port": amf_port, "host": "amf.local"},
            "n4": {"address": "127.0.0.11", "port": 0, "upf": "127.0.0.20", "upf_port": self.upf.port, "key": str(key)},
            "ue_pool": {"ipv4": "10.45.0.0/16", "ipv6": "fd45::/48"}, "dnn": "internet", "rules": RULES,
        }  # fmt: skip
        return parse(value, SmfConfig, "smf.json")

    # ---- who talks to them

    def ue(self, **more) -> ScriptedUe:
        return ScriptedUe(self.amf.n1.ports, **more)

    def nf(self, name, target="amf") -> SbiClient:
        """A client with the certificate of any NF of the run."""
        port = self.amf_port if target == "amf" else self.smf_port
        return SbiClient(sbi_config(self.certs.nfs[name]), NfAddress("127.0.0.1", port, f"{target}.local"), Counters())


def run(work, limit=30):
    async def limited():
        async with asyncio.timeout(limit):
            await work

    asyncio.run(limited())


def with_core(**options):
    """For a test `async def test(core, ...)`: it runs inside `Core(tmp_path, **options)`, bounded in time."""

    def decorate(test):
        @functools.wraps(test)
        def wrapper(tmp_path, **more):
            async def main():
                async with Core(tmp_path, **options) as core:
                    await test(core, **more)

            run(main())

        _, *others = inspect.signature(test).parameters.values()
        path = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        wrapper.__signature__ = inspect.Signature([path, *others])
        return wrapper

    return decorate

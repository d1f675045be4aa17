"""`python -m ue` as a process: its exit codes, and that a user's mistake brings no traceback."""

import json
import os
import socket
import subprocess
import sys

from node.netns import Netns


def start(directory, value, space=None):
    file = directory / "ue.json"
    file.write_text(json.dumps(value))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "ue", "--config", str(file), "--control-fd", str(theirs.fileno())]

        def run():
            return subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=30)

        return run() if space is None else space.call_sync(run)


def test_a_bad_configuration_is_misuse(tmp_path):
    done = start(tmp_path, {"node": "ue"})
    assert done.returncode == 2 and "missing" in done.stderr and "Traceback" not in done.stderr


def test_an_access_without_its_device_is_named(tmp_path):
    usim = tmp_path / "usim.json"
    usim.touch(0o600)
    usim.write_text(json.dumps({"supi": "imsi-001010000000001", "k": "ab" * 16, "opc": "cd" * 16, "sqn": "0" * 12}))
    access = {"name": "3gpp", "type": "3gpp", "address": "10.1.0.2", "device": "acc1", "amf": "10.90.0.10", "amf_port": 38412}
    value = {"node": "ue", "subscriber": str(usim), "plmn": {"mcc": "001", "mnc": "01"}, "accesses": [access]}
    space = Netns()
    try:
        done = start(tmp_path, value, space)
    finally:
        space.close()
    assert done.returncode == 1, done.stderr
    assert "access 3gpp" in done.stderr and "Traceback" not in done.stderr and "abab" not in done.stderr
    assert os.path.exists(usim)

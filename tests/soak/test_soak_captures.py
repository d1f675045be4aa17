"""A capture of a million packets (R-172): all of it in clear, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "lab"))

from synthetic_capture import Capture, Talk

from lab.pcapng import PcapngWriter

EACH_WAY = 500_000
MEMORY_MOST_KB = 300 << 10


def test_a_million_packets(tmp_path: Path) -> None:
    with (tmp_path / "capture.pcapng").open("wb") as stream:
        capture = Capture()
        capture.stream.close()
        capture.writer = PcapngWriter(stream)
        capture.interfaces = {name: capture.writer.interface(capture.linktype, f"ue/{name}") for name in capture.interfaces}
        talk = Talk(capture)
        talk.handshake()
        talk.announce()
        talk.validate()
        talk.data(EACH_WAY, {0: "3gpp", 1: "wifi"}, size=40)
    (tmp_path / "keys.log").write_bytes(talk.keylog())
    code = "import resource, sys; from lab import inspect; inspect.main(sys.argv[1:]); " \
           "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), "--stats", "--json"], capture_output=True, text=True,
                          check=True, timeout=600)
    told = json.loads(done.stdout)
    assert told["packets"] == told["decrypted"] > 2 * EACH_WAY and told["inner_packets"] == 2 * EACH_WAY
    assert int(done.stderr.split()[-1]) < MEMORY_MOST_KB

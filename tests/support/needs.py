"""What a test needs of the machine. As root after lab/provision.sh all of it is there and nothing is skipped; without rights the
reason is told."""

from __future__ import annotations

import os
import shutil

import pytest

_TUN = os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)
needs_tun = pytest.mark.skipif(
    not _TUN, reason="makes namespaces and TUN devices: needs root (or unshare --map-root-user) and a usable /dev/net/tun"
)
needs_tunnel = pytest.mark.skipif(
    not _TUN or shutil.which("iperf3") is None, reason="needs root, a usable /dev/net/tun and iperf3"
)

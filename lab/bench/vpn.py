"""Other tunnels between the two ends of a line: OpenVPN and wireguard-go in user space, each process in the namespace of its end.
Keys are made for the run. OpenVPN gets its own on standard input; wireguard-go listens for its configuration in a /run of its own.
The processes end with the bench, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from lab.bench.certificate import SelfSigned, self_signed
from lab.bench.pair import CLIENT, OUTER, SERVER, TUN_MTU, BenchError, Line
from lab.process import dying_with_us

PEER_INNER = ("10.97.0.1", "10.97.0.2")
BUFFER = 4 << 20
START_S = 10.0
STOP_S = 3.0
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
LAST_WORDS = 2_000
OPENVPN_PORT, WIREGUARD_PORT = 1194, 51820
WIREGUARD_START = "mount -t tmpfs tmpfs /run && mkdir -m 700 /run/wireguard && exec \"$0\" -f \"$1\""


class VpnPair:
    """Two processes, one at each end of a line; the inner addresses are PEER_INNER."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, side: int, argv: list[str], stdin: bytes = b"", environment: dict[str, str] | None = None) -> int:
        """The pid of a program at this end. It reads `stdin` to its end; its output is kept for `said`."""

        def make() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                dying_with_us(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

        process = self.line.spaces[side].call_sync(make)
        self.processes.append(process)
        assert process.stdin is not None
        try:
            process.stdin.write(stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once: who waits for it says so
        return process.pid

    def cpu_ns(self) -> int:
        """Of both processes with all their threads."""
        ticks = 0
        for process in self.processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime: proc(5)
        return ticks * TICK_NS

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self.processes = []


class OpenVpnPair(VpnPair):
    """OpenVPN over UDP, AES-128-GCM, in user space, with the settings that its users are told to take for speed."""

    def __init__(self, line: Line, program: str) -> None:
        super().__init__(line)
        try:
            identities = [self_signed("bench"), self_signed("bench")]
            for side in (SERVER, CLIENT):
                self.start(side, [program, "--config", "/dev/stdin"], _openvpn_config(side, identities).encode())
            for process in self.processes:
                self._wait(process)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _wait(process: subprocess.Popen[bytes]) -> None:
        """Until it carries packets; then its output is read and forgotten."""
        assert process.stdout is not None
        said: list[bytes] = []
        timer = threading.Timer(START_S, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                said.append(line)
                if b"Initialization Sequence Completed" in line:
                    threading.Thread(target=_drain, args=(process,), daemon=True).start()
                    return
        finally:
            timer.cancel()
        words = b"".join(said)[-LAST_WORDS:].decode(errors="replace").strip()
        raise BenchError(f"openvpn did not come up within {START_S:.0f} s; it says: {words}")


def _drain(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    try:
        while process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
            pass
    except ValueError:
        pass  # closed under us: the pair has ended


def _openvpn_config(side: int, identities: list[SelfSigned]) -> str:
    """openvpn(8): a point-to-point tunnel, each end knows the other by its certificate's fingerprint."""
    own = identities[side]
    return "\n".join(
        (
            "dev vpn0",
            "dev-type tun",
            "proto udp4",
            f"local {OUTER[0][side]}",
            f"remote {OUTER[0][1 - side]} {OPENVPN_PORT}",
            f"lport {OPENVPN_PORT}",
            f"ifconfig {PEER_INNER[side]} {PEER_INNER[1 - side]}",
            *(("tls-server", "dh none") if side == SERVER else ("tls-client",)),
            f"peer-fingerprint {identities[1 - side].fingerprint}",
            "cipher AES-128-GCM",
            "data-ciphers AES-128-GCM",
            "disable-dco",
            "fast-io",
            "mssfix 0",
            f"tun-mtu {TUN_MTU}",
            "txqueuelen 1000",
            f"sndbuf {BUFFER}",
            f"rcvbuf {BUFFER}",
            "verb 3",
            f"<cert>\n{own.certificate}</cert>",
            f"<key>\n{own.private_key}</key>",
            "",
        )
    )


class WireguardGoPair(VpnPair):
    """wireguard-go; its cipher is ChaCha20-Poly1305."""

    def __init__(self, line: Line, program: str) -> None:
        super().__init__(line)
        try:
            keys = [x25519.X25519PrivateKey.generate() for _ in range(2)]
            for side in (CLIENT, SERVER):
                pid = self.start(
                    side, ["unshare", "--mount", "sh", "-c", WIREGUARD_START, program, "wg0"], environment={"LOG_LEVEL": "error"}
                )
                self._configure(side, pid, keys)
                line.spaces[side].call_sync(self._address, side)
        except BaseException:
            self.close()
            raise

    def _configure(self, side: int, pid: int, keys: list[x25519.X25519PrivateKey]) -> None:
        """wireguard.com/xplatform: the socket in the process's own /run."""
        path = Path(f"/proc/{pid}/root/run/wireguard/wg0.sock")
        raw = serialization.Encoding.Raw
        private = keys[side].private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()).hex()
        public = keys[1 - side].public_key().public_bytes(raw, serialization.PublicFormat.Raw).hex()
        request = (
            f"set=1\nprivate_key={private}\nlisten_port={WIREGUARD_PORT}\npublic_key={public}\n"
            f"endpoint={OUTER[0][1 - side]}:{WIREGUARD_PORT}\nallowed_ip=0.0.0.0/0\n\n"
        )
        end = time.monotonic() + START_S
        process = self.processes[-1]
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(START_S)
            while True:
                try:
                    control.connect(str(path))
                    break
                except OSError as error:
                    if process.poll() is not None or time.monotonic() > end:
                        process.kill()
                        assert process.stdout is not None
                        words = process.stdout.read()[-LAST_WORDS:].decode(errors="replace").strip()
                        raise BenchError(f"wireguard-go did not come up ({error}); it says: {words}") from None
                    time.sleep(0.01)
            control.sendall(request.encode())
            answer = control.recv(4096)
        if b"errno=0\n" not in answer:
            raise BenchError(f"wireguard-go refuses its configuration: {answer!r}")
        threading.Thread(target=_drain, args=(process,), daemon=True).start()

    def _address(self, side: int) -> None:
        ipr = self.line.spaces[side].ipr
        index = ipr.link_lookup(ifname="wg0")[0]
        ipr.addr("add", index=index, address=PEER_INNER[side], prefixlen=32)
        ipr.link("set", index=index, mtu=TUN_MTU, state="up", txqlen=1000)
        ipr.route("add", dst=f"{PEER_INNER[1 - side]}/32", oif=index)

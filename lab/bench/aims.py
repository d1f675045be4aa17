"""What each figure is meant to reach; a figure that misses its aim says so in the document and in the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """Of a ratio, or of the value (`ratio` empty)."""

    bound: float
    ratio: str = ""
    at_least: bool = False

    def judge(self, document: dict[str, Any]) -> dict[str, Any] | None:
        value = document["ratios"].get(self.ratio) if self.ratio else document["value"]
        if value is None:
            return None  # the peer was not there
        met = value >= self.bound if self.at_least else value <= self.bound
        what = self.ratio or document["unit"]
        return {"aim": f"{what} {'>=' if self.at_least else '<='} {self.bound:g}", "met": met}


AIMS: dict[str, tuple[Aim, ...]] = {
    "aead.aes_128_gcm": (Aim(0.45, "openssl"),),
    "aead.aes_128_gcm.open": (Aim(0.45, "openssl"),),
    "aead.aes_256_gcm": (Aim(0.50, "openssl"),),
    "aead.aes_128_gcm.openssl": (Aim(1.05, "openssl"),),
    "aead.aes_256_gcm.openssl": (Aim(1.05, "openssl"),),
    "aead.chacha20_poly1305.openssl": (Aim(1.05, "openssl"),),
    "engine.own.send": (Aim(300),),
    "engine.own.receive": (Aim(300),),
    "tunnel.cpu": (Aim(2.2, "forwarder"),),
    "tunnel.tcp.up": (
        Aim(0.55, "forwarder", True),
        Aim(6, "openvpn", True),
        Aim(8, "wireguard_go", True),
        Aim(2, "wireguard_go_offload", True),
    ),
    "tunnel.tcp.down": (Aim(0.55, "forwarder", True),),
    "tunnel.udp64": (Aim(0.7, "forwarder", True),),
    "qlog.cost": (Aim(1.10, "off"),),
    "multipath.cpu": (Aim(1.10, "single"),),
    "multipath.sum": (Aim(0.97, "sum", True),),
    "multipath.sum.unequal": (Aim(0.90, "sum", True),),
    "capture.cost": (Aim(0.95, "without", True),),
    "capture.cost.all": (Aim(0.95, "without", True),),
    "capture.cost.lost": (Aim(0),),
    "inspect.stats": (Aim(100_000, at_least=True),),
    "inspect.table": (Aim(100_000, at_least=True),),
    "inspect.dropped": (Aim(3),),
    "inspect.follow": (Aim(3),),
    "handshake.psk": (Aim(400, at_least=True), Aim(3, "aioquic", True)),
    "session.memory": (Aim(100),),
    "session.idle_cpu": (Aim(2),),
    "sessions.100": (Aim(0.8, "one", True),),
    "inspect.decrypt": (Aim(100_000, at_least=True),),
    "wire.rate.error": (Aim(2),),
    "wire.delay.error": (Aim(0.5),),
}


def judge(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a figure with its aims, if it has any."""
    judged = [result for aim in AIMS.get(document["id"], ()) if (result := aim.judge(document)) is not None]
    return {**document, "aims": judged} if judged else document

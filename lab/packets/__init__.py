"""Packets of this lab: plain readers that are fast, and scapy layers.

`from lab.packets import *` in a scapy shell gives every layer. The plain modules (frames, headers, link, masque, tls,
nas_plain, pfcp_plain) do not load scapy: the layers are looked up when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAYERS: dict[str, tuple[str, ...]] = {
    "quic": (
        "QuicLong", "QuicShort", "QuicRetry", "QuicVersionNegotiation", "QuicProtectedLong", "QuicProtectedShort",
        "QuicWire", "TransportParameter", "TransportParameters", "QuicPadding", "QuicPing", "QuicAck", "QuicAckRange",
        "QuicResetStream", "QuicStopSending", "QuicCrypto", "QuicNewToken", "QuicStream", "QuicMaxData",
        "QuicMaxStreamData", "QuicMaxStreamsBidi", "QuicMaxStreamsUni", "QuicDataBlocked", "QuicStreamDataBlocked",
        "QuicStreamsBlockedBidi", "QuicStreamsBlockedUni", "QuicNewConnectionId", "QuicRetireConnectionId",
        "QuicPathChallenge", "QuicPathResponse", "QuicConnectionClose", "QuicApplicationClose", "QuicHandshakeDone",
        "QuicImmediateAck", "QuicAckFrequency", "QuicDatagram", "QuicPathAck", "QuicPathAbandon",
        "QuicPathStatusBackup", "QuicPathStatusAvailable", "QuicPathNewConnectionId", "QuicPathRetireConnectionId",
        "QuicMaxPathId", "QuicPathsBlocked", "QuicPathCidsBlocked", "clear_layer",
    ),
    "http3": (
        "H3Frame", "H3Frames", "H3Settings", "H3Setting", "H3Goaway", "H3UniStream", "Capsule", "Capsules",
        "CapsuleAddressAssign", "CapsuleAddressRequest", "CapsuleRouteAdvertisement", "CapsuleAddress", "CapsuleRoute",
        "HttpDatagram", "QpackInstructions",
    ),
    "nas": ("Nas", "NasEnvelope", "NasSecured", "NasMobility", "NasSession", "NasTransport", "NasKeyContainer",
            "NasKeyTlv"),
    "pfcp": ("IE_MpquicKeyRequest", "IE_MpquicKey", "IE_MpquicKeyReport", "IE_MpquicKeyCapability"),
}
_HOME = {name: module for module, names in _LAYERS.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)

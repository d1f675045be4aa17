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
        "QuicWire", "TransportParameter", "TransportParameterInteger", "TransportParameterPreferredAddress",
        "TransportParameterVersions", "TransportParameters", "PreferredAddress",
        "VersionInformation", "QuicPadding", "QuicPing", "QuicAck", "QuicAckRange",
        "QuicResetStream", "QuicStopSending", "QuicCrypto", "QuicNewToken", "QuicStream", "QuicMaxData",
        "QuicMaxStreamData", "QuicMaxStreamsBidi", "QuicMaxStreamsUni", "QuicDataBlocked", "QuicStreamDataBlocked",
        "QuicStreamsBlockedBidi", "QuicStreamsBlockedUni", "QuicNewConnectionId", "QuicRetireConnectionId",
        "QuicPathChallenge", "QuicPathResponse", "QuicConnectionClose", "QuicApplicationClose", "QuicHandshakeDone",
        "QuicImmediateAck", "QuicAckFrequency", "QuicDatagram", "QuicPathAck", "QuicPathAbandon",
        "QuicPathStatusBackup", "QuicPathStatusAvailable", "QuicPathNewConnectionId", "QuicPathRetireConnectionId",
        "QuicMaxPathId", "QuicPathsBlocked", "QuicPathCidsBlocked", "clear_layer",
    ),
    "http3": (
        "H3Frame", "H3Frames", "H3Data", "H3Headers", "H3CancelPush", "H3Settings", "H3Setting", "H3PushPromise", "H3Goaway",
        "H3MaxPushId", "H3UniStream", "Capsule", "Capsules", "CapsuleDatagram", "CapsuleAddressAssign", "CapsuleAddressRequest",
        "CapsuleRouteAdvertisement", "CapsuleAddress", "CapsuleRoute", "HttpDatagram", "HttpDatagramPayload",
        "QpackInstructions",
    ),
    "nas": ("Nas", "NasEnvelope", "NasEnvelopes", "NasSecured", "NasMobility", "NasSession", "NasTransport", "NasKeyContainer",
            "NasKeyTlv"),
    "nas_ies": (
        "NasAmbr", "NasGuti", "NasIdentity", "NasIe", "NasIeDnn", "NasIeExtended", "NasIeGuti", "NasIeHalf",
        "NasIeNasMessage", "NasIePduAddress", "NasIeSessionAmbr", "NasIeSessionCapability", "NasIeSnssai",
        "NasIeTv", "NasIeUeSecurityCapability", "NasSuci",
    ),
    "nas_messages": (
        "NasAuthenticationFailure", "NasAuthenticationReject", "NasAuthenticationRequest",
        "NasAuthenticationResponse", "NasAuthenticationResult", "NasConfigurationUpdateCommand",
        "NasConfigurationUpdateComplete", "NasDeregistrationAcceptNetwork", "NasDeregistrationAcceptUe",
        "NasDeregistrationRequestNetwork", "NasDeregistrationRequestUe", "NasIdentityRequest",
        "NasIdentityResponse", "NasMobilityStatus", "NasNotification", "NasNotificationResponse",
        "NasPduSessionEstablishmentAccept", "NasPduSessionEstablishmentReject",
        "NasPduSessionEstablishmentRequest", "NasPduSessionModificationCommand",
        "NasPduSessionModificationCommandReject", "NasPduSessionModificationComplete",
        "NasPduSessionModificationReject", "NasPduSessionModificationRequest", "NasPduSessionReleaseCommand",
        "NasPduSessionReleaseComplete", "NasPduSessionReleaseReject", "NasPduSessionReleaseRequest",
        "NasRegistrationAccept", "NasRegistrationComplete", "NasRegistrationReject", "NasRegistrationRequest",
        "NasSecurityModeCommand", "NasSecurityModeComplete", "NasSecurityModeReject", "NasServiceAccept",
        "NasServiceReject", "NasServiceRequest", "NasSessionStatus",
    ),
    "pfcp": ("PFCP", "IE_MpquicKeyRequest", "IE_MpquicKey", "IE_MpquicKeyReport", "IE_MpquicKeyCapability"),
    "pfcp_access": (
        "IE_ATSSSControlParameters", "IE_ATSSSLLControl", "IE_AccessAction3GPP", "IE_AccessActionNon3GPP",
        "IE_AccessAvailability", "IE_AccessAvailabilityControl", "IE_AccessAvailabilityReport",
        "IE_CreateMAR", "IE_CreateSRR", "IE_FailedRule", "IE_LinkSpecificAddress", "IE_MAR_Id",
        "IE_MPQUICAddress", "IE_MPQUICControl", "IE_MPQUICParameters", "IE_MPTCPControl",
        "IE_MultipathApplicable", "IE_NetworkInstanceText", "IE_PMFControl", "IE_Priority",
        "IE_ProvideATSSSControl", "IE_RemoveMAR", "IE_RemoveSRR", "IE_ReportTypeRelease19",
        "IE_RequestedAccessAvailability", "IE_SNSSAI", "IE_SRR_Id", "IE_SessionReport",
        "IE_SteeringFunctionality", "IE_SteeringMode", "IE_SteeringModeIndicator", "IE_Thresholds",
        "IE_TransportMode", "IE_UpdateAccessAction3GPP", "IE_UpdateAccessActionNon3GPP", "IE_UpdateMAR",
        "IE_UpdateSRR", "IE_Weight",
    ),
}
_HOME = {name: module for module, names in _LAYERS.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)

"""scapy layers of our PFCP vendor IEs (Enterprise ID 32473), bound into scapy.contrib.pfcp; N4's port is bound there.

Importing this module makes scapy's PFCP show these IEs by name wherever its messages list IEs."""

# ruff: noqa: RUF012  (fields_desc is scapy's way)

from __future__ import annotations

from typing import Any

from scapy.contrib.pfcp import PFCP as PFCP
from scapy.contrib.pfcp import IE_EnterpriseSpecific
from scapy.fields import ByteEnumField, ByteField, FieldLenField, IntField, ShortField, XShortField

from lab.packets import pfcp_access  # noqa: F401  (its IEs stand beside ours)
from lab.packets.fields import BytesField, Leaf
from lab.packets.pfcp_plain import ENTERPRISE_ID, VENDOR_IES

REASONS = {1: "initial", 2: "packet limit", 3: "lifetime", 4: "binder failures", 5: "restart"}
EVENTS = {1: "installed", 2: "in use", 3: "binder failure", 4: "packet limit near", 5: "lifetime near",
          6: "connection ended", 7: "spent and wiped", 8: "unwrap failed"}
UE_IDENTITIES = {1: "opaque", 2: "SUPI", 3: "GPSI"}
HEAD = 4


class _VendorIe(Leaf):
    """type 2, length 2 (computed), Enterprise ID 2, then the IE's fields; further octets stay in `more`."""

    def post_build(self, p: bytes, pay: bytes) -> bytes:
        if self.length is None:
            p = p[:2] + (len(p) - HEAD).to_bytes(2, "big") + p[HEAD:]
        return p + pay

    def post_dissect(self, s: bytes) -> bytes:
        return s


def _fields(kind: int, fields: list[Any]) -> list[Any]:
    fixed = sum(int(field.sz) for field in fields)

    def size_of_more(packet: Any) -> int:
        spent = 2 + fixed
        return max(0, int(packet.length or 0) - spent)

    return [XShortField("ietype", kind), ShortField("length", None), ShortField("enterprise_id", ENTERPRISE_ID), *fields,
            BytesField("more", b"", size_of_more)]


class IE_MpquicKeyRequest(_VendorIe):
    name = "IE MPQUIC Key Request"
    fields_desc = _fields(0x8001, [ByteField("version", 1), ByteEnumField("reason", 1, REASONS), IntField("held", 0)])


class IE_MpquicKey(_VendorIe):
    name = "IE MPQUIC Key"
    fields_desc = [
        XShortField("ietype", 0x8002), ShortField("length", None), ShortField("enterprise_id", ENTERPRISE_ID),
        ByteField("version", 1), ByteField("flags", 0), IntField("generation", 1), IntField("lifetime", 3600),
        ByteEnumField("ue_id_type", 1, UE_IDENTITIES), FieldLenField("ue_id_length", None, "ue_id", "B"),
        BytesField("ue_id", bytes(8), lambda packet: packet.ue_id_length),
        FieldLenField("wrapped_key_length", None, "wrapped_key", "B"),
        BytesField("wrapped_key", b"", lambda packet: packet.wrapped_key_length),
        BytesField("more", b"", lambda packet: max(
            0, int(packet.length or 0) - 15 - len(packet.ue_id) - len(packet.wrapped_key))),
    ]


class IE_MpquicKeyReport(_VendorIe):
    name = "IE MPQUIC Key Report"
    fields_desc = _fields(0x8003, [ByteField("version", 1), ByteEnumField("event", 1, EVENTS), IntField("generation", 1),
                                   IntField("detail", 0)])


class IE_MpquicKeyCapability(_VendorIe):
    name = "IE MPQUIC Key Capability"
    fields_desc = _fields(0x8004, [ByteField("version", 1), ShortField("flags", 0)])


VENDOR_LAYERS = {0x8001: IE_MpquicKeyRequest, 0x8002: IE_MpquicKey, 0x8003: IE_MpquicKeyReport,
                 0x8004: IE_MpquicKeyCapability}
MINIMUM = {0x8001: 8, 0x8002: 14, 0x8003: 12, 0x8004: 5}       # of the length field; shorter ones stay generic


def _dispatch(cls: Any, _pkt: bytes = b"", *args: Any, **kargs: Any) -> Any:
    """scapy's class for an enterprise IE: ours when type, Enterprise ID and length are those of one of ours."""
    if len(_pkt) >= HEAD + 2 and int.from_bytes(_pkt[4:6], "big") == ENTERPRISE_ID:
        kind = int.from_bytes(_pkt[:2], "big")
        length = int.from_bytes(_pkt[2:4], "big")
        if kind in VENDOR_IES and len(_pkt) >= HEAD + length >= HEAD + MINIMUM[kind]:
            return VENDOR_LAYERS[kind]
    return IE_EnterpriseSpecific


IE_EnterpriseSpecific.dispatch_hook = classmethod(_dispatch)

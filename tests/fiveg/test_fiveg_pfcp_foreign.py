"""Our PFCP against two other readers: scapy's layer and tshark's dissector."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import scapy.contrib.pfcp as pfcp
from test_fiveg_pfcp_messages import EXAMPLES, establishment, wire

from fiveg.pfcp import message as m
from fiveg.pfcp import values as v
from fiveg.pfcp.codes import Cause, KeyReason, MessageType, ReportType, RuleKind
from fiveg.pfcp.mpquic_ies import MpquicKeyRequest

REQUEST = m.SessionReportRequest(report_type=ReportType.UISR, key_request=MpquicKeyRequest(KeyReason.INITIAL))


# scapy reads the Failed Rule ID of a MAR as one of a FAR (its layer ends with IE 160): a PDR stands in for it here.
SCAPY = [
    replace(x, failed_rule=v.FailedRule(RuleKind.PDR, 9)) if isinstance(x, m.SessionModificationResponse) else x for x in EXAMPLES
]


@pytest.mark.parametrize("message", SCAPY, ids=lambda x: type(x).__name__)
def test_scapy_reads_ours(message: m.Message) -> None:
    packet = pfcp.PFCP(wire(message))
    assert packet.message_type == message.TYPE and packet.seq == 5
    assert (packet.seid if message.SESSION else None) == (0x0102030405060708 if message.SESSION else None)
    assert not packet.haslayer("Raw") and not packet.haslayer("Padding")
    assert bytes(packet) == wire(message)


def test_scapy_sees_the_values() -> None:
    packet = pfcp.PFCP(wire(establishment()))
    assert packet[pfcp.IE_NodeId].ipv4 == "10.90.0.11"
    assert packet[pfcp.IE_FSEID].seid == 7
    assert packet[pfcp.IE_PDR_Id].id == 1
    assert packet[pfcp.IE_UE_IP_Address].ipv4 == "10.45.0.2"
    assert packet[pfcp.IE_SDF_Filter].flow_description == b"permit out ip from any to assigned"
    assert packet[pfcp.IE_APN_DNN].apn_dnn == b"internet"
    vendor = pfcp.PFCP(wire(REQUEST)).IE_list[-1]  # lab.packets, if it is loaded, gives it a class of its own
    assert (vendor.ietype, vendor.enterprise_id) == (0x8001, 32473)
    assert bytes(vendor) == bytes.fromhex("800100087ed9010100000000")


def test_we_read_scapys() -> None:
    setup = pfcp.PFCP(version=1, S=0, seq=3) / pfcp.PFCPAssociationSetupRequest(
        IE_list=[
            pfcp.IE_NodeId(id_type="FQDN", id="smf.local"),
            pfcp.IE_RecoveryTimeStamp(timestamp=3785653512),
        ]
    )
    header, message = m.decode(bytes(setup))
    assert header.type is MessageType.ASSOCIATION_SETUP_REQUEST and header.sequence == 3
    assert isinstance(message, m.AssociationSetupRequest)
    assert message.node_id == v.NodeId("smf.local") and message.recovery_time_stamp == 3785653512
    answer = pfcp.PFCP(version=1, S=1, seid=9, seq=4) / pfcp.PFCPSessionEstablishmentResponse(
        IE_list=[
            pfcp.IE_NodeId(id_type="IPv4", ipv4="10.90.0.20"),
            pfcp.IE_Cause(cause=1),
            pfcp.IE_FSEID(v4=1, seid=0x55, ipv4="10.90.0.20"),
        ]
    )
    header, message = m.decode(bytes(answer))
    assert isinstance(message, m.SessionEstablishmentResponse)
    assert (header.seid, message.cause) == (9, Cause.ACCEPTED)
    assert message.up_f_seid == v.FSeid(0x55, IPv4Address("10.90.0.20"))


def pcap(path: Path, messages: list[bytes]) -> None:
    """Raw IPv4 packets (linktype 101), UDP 8805 both ways."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for number, data in enumerate(messages):
        udp = struct.pack("!HHHH", 8805, 8805, 8 + len(data), 0) + data
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0, b"\x0a\x5a\0\x0b", b"\x0a\x5a\0\x14")
        out += struct.pack("<IIII", number, 0, len(head) + len(udp), len(head) + len(udp)) + head + udp
    path.write_bytes(out)


def test_tshark_dissects_every_message_without_error(tmp_path: Path) -> None:
    messages = [wire(x, 5 + i) for i, x in enumerate([*EXAMPLES, REQUEST])]
    pcap(tmp_path / "n4.pcap", messages)
    command = ["tshark", "-n", "-r", str(tmp_path / "n4.pcap"), "-T", "fields", "-e", "pfcp.msg_type"]
    command += ["-e", "_ws.malformed", "-e", "_ws.expert.severity", "-e", "pfcp.seqno", "-o", "ip.check_checksum:FALSE"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert len(found) == len(messages)
    for line, (number, message) in zip(found, enumerate([*EXAMPLES, REQUEST]), strict=True):
        kind, malformed, severity, sequence = line.split("\t")
        assert (int(kind), int(sequence)) == (message.TYPE, 5 + number)
        assert malformed == "", f"{type(message).__name__} is malformed for tshark"
        worst = max((int(s) for s in severity.split(",") if s), default=0)
        assert worst < 8388608, f"{type(message).__name__}: tshark reports an error"

"""scapy layers of HTTP/3, capsules, NAS and our PFCP elements against written vectors, and the star import of a scapy shell."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.pfcp import PFCP, IE_EnterpriseSpecific
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from lab.packets import http3, masque, nas, nas_plain, pfcp, quic
from lab.packets.pfcp_plain import pfcp_words

DELIVERED = bytes.fromhex("01012100000001020020b6af50be041c41bfff74a45cb190fe497d2c29575874cb11a78ebf7fa0ba6b5e03000400000e10")
DERIVED_NAS = bytes.fromhex("7e00680d003101012100000001010020" + bytes(range(32)).hex() + "03000400000e101205")
DELIVERED_NAS = bytes.fromhex("7e00680d0031") + DELIVERED + bytes.fromhex("1205")
PROTECTED_NAS = bytes.fromhex("7e02a7cac77a03d93815a6a2d682dbd530d7df8755cfe37f6657f6e4f7b36cf20b85fc458ff7b60a2196df744d5f26276"
                              "07d535df09e7764a1797740d3b32a5b")
REPORT = bytes.fromhex("21380022010203040506070800000500002700014000a1000100800100087ed9010100000000")
KEY_IE = bytes.fromhex("8002003f7ed901000000000100000e100108000000000000000728577bf2df6985c586e1a64fddae5f711251b7d15fb226c1f1273e"
                       "a3099c742af6c08971c981ee28cb")
KEY_REPORT_IE = bytes.fromhex("8003000c7ed901020000000100000000")


def test_star_import_in_a_fresh_interpreter_gives_every_layer():
    code = "from lab.packets import *; print(QuicPathAck().name, HttpDatagram().name, NasKeyContainer().name, IE_MpquicKey().name)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "PATH_ACK HTTP datagram MPQUIC key container IE MPQUIC Key"


def test_plain_readers_do_not_load_scapy():
    code = "import sys, lab.inspect, lab.capture_compose; print('scapy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_udp_of_the_quic_port_is_dissected():
    wire = bytes.fromhex("58f067a5502a4262b5ce7a9c2e5e29fb13a97781b5f420203e22f6c75bc96093e40ea585b6b3b6cd7fb1d7")
    packet = IP(bytes(IP(src="10.1.0.2", dst="10.100.0.1") / UDP(sport=40000, dport=4433) / wire))
    layer = packet[quic.QuicProtectedShort]
    assert layer.dcid == bytes.fromhex("f067a5502a4262b5")
    assert bytes(layer) == wire


@pytest.mark.parametrize(("octets", "text"), [
    ("010701040a2d000220", "ADDRESS_ASSIGN 10.45.0.2/32 (request 1)"),
    ("030a0400000000ffffffff00", "ROUTE_ADVERTISEMENT 0.0.0.0-255.255.255.255 protocol 0"),
    ("020701040000000020", "ADDRESS_REQUEST 0.0.0.0/32 (request 1)"),
])
def test_capsules_of_rfc9484(octets, text):
    data = bytes.fromhex(octets)
    (kind, value, whole), = masque.read_typed(data)
    assert whole
    assert masque.capsule_words(kind, value) == text
    layer = http3.Capsules(data).capsules[0]
    layer.raw_packet_cache = None
    assert bytes(layer) == data
    assert layer.name == text.split()[0]


def test_address_assign_built_by_hand():
    layer = http3.CapsuleAddressAssign(addresses=[
        http3.CapsuleAddress(request_id=0, version=4, address="10.45.0.2", prefix=32),
        http3.CapsuleAddress(request_id=0, version=6, address="fd45::", prefix=64)])
    (kind, value, _), = masque.read_typed(bytes(layer))
    assert masque.capsule_words(kind, value) == "ADDRESS_ASSIGN 10.45.0.2/32 (request 0), fd45::/64 (request 0)"


def test_settings_and_unknown_frames():
    data = bytes(http3.H3Settings(settings=[http3.H3Setting(id=8, value=1), http3.H3Setting(id=0x33, value=1)]))
    assert data == bytes.fromhex("040408013301")
    frames = http3.H3Frames(data + bytes.fromhex("2103616263") + bytes.fromhex("07010c")).frames
    assert [frame.name for frame in frames] == ["HTTP/3 SETTINGS", "HTTP/3 frame", "HTTP/3 GOAWAY"]
    assert [(s.id, s.value) for s in frames[0].settings] == [(8, 1), (0x33, 1)]


@given(st.integers(0, 2**60), st.integers(0, 2**30).filter(lambda n: n != 2), st.binary(min_size=1, max_size=50))
def test_http_datagram_round_trip(quarter, context, payload):
    layer = http3.HttpDatagram(quarter_stream_id=quarter, context_id=context) / payload
    data = bytes(layer)
    assert masque.read_http_datagram(data) == (quarter, context, payload)


def test_http_datagram_shows_the_inner_packet():
    inner = bytes(IPv6(src="fd45::2", dst="fd99::2") / UDP(sport=1, dport=2) / b"x")
    assert http3.HttpDatagram(b"\0\0" + inner)[IPv6].dst == "fd99::2"
    assert not {IP, IPv6} & set(http3.HttpDatagram(b"\0\4" + inner).layers())
    numbered = bytes(http3.HttpDatagram(context_id=2, sequence=0x01020304) / inner)
    assert numbered == b"\0\2\1\2\3\4" + inner and masque.inner_packet(numbered) == inner
    shown = http3.HttpDatagram(numbered)
    assert shown.sequence == 0x01020304 and shown[IPv6].dst == "fd99::2"
    assert masque.inner_packet(b"\0\2\1\2\3") is None and masque.inner_packet(b"\0\2" + inner) is None


def test_key_container_vector():
    message = nas.Nas(DELIVERED_NAS)
    container = message.container[0]
    assert isinstance(container, nas.NasKeyContainer)
    assert (container.type, container.transaction, container.generation) == (1, 0x21, 1)
    assert [(tlv.tag, len(tlv.value)) for tlv in container.tlvs] == [(2, 32), (3, 4)]
    built = nas.NasTransport(container=[nas.NasKeyContainer(transaction=0x21, tlvs=[
        nas.NasKeyTlv(tag=2, value=DELIVERED[10:42]), nas.NasKeyTlv(tag=3, value=bytes.fromhex("00000e10"))])],
        ies=bytes.fromhex("1205"))
    assert bytes(built) == DELIVERED_NAS


def test_envelope_and_security_header():
    wire = bytes(nas.NasEnvelope() / nas.Nas(PROTECTED_NAS))
    assert wire == len(PROTECTED_NAS).to_bytes(2, "big") + PROTECTED_NAS
    header = nas.NasEnvelope(wire)[nas.NasSecured]
    assert (header.security, header.mac.hex(), header.sqn) == (2, "a7cac77a", 3)


def test_a_delivered_key_is_not_shown():
    clean, words = nas_plain.without_key(DELIVERED_NAS)
    assert DELIVERED[10:42] in DELIVERED_NAS and DELIVERED[10:42] not in clean
    assert len(clean) == len(DELIVERED_NAS)
    assert "fingerprint 9c99b2bf" in words          # of chain A in the facts of the 5G side
    assert nas_plain.without_key(DERIVED_NAS) == (DERIVED_NAS, "KEY PROVISION generation 1, lifetime 3600 s")


@pytest.mark.parametrize(("octets", "text"), [
    ("7e006701000c2e0501c1ffff91a1280208d01205862201012509", "UL NAS TRANSPORT: PDU SESSION ESTABLISHMENT REQUEST"),
    ("7e005d2200020ae0", "SECURITY MODE COMMAND"),
    ("2e", "NAS, shorter than a header"),
    ("7e00680d00ff01", "DL NAS TRANSPORT, malformed: NAS TRANSPORT: its payload container is cut off (at octet 4)"),
    ("7e00680d0003010100", "DL NAS TRANSPORT, malformed: key container: 7 octets announced, 3 there (at octet 0)"),
])
def test_nas_in_words(octets, text):
    assert nas_plain.nas_words(bytes.fromhex(octets)) == text


@given(st.binary(max_size=60))
def test_hostile_nas_never_falls_over(data):
    assert nas_plain.nas_words(b"\x7e\x00\x68\x0d" + data)
    assert nas_plain.nas_words(data)
    nas.Nas(data)


def test_session_report_with_our_key_request():
    message = PFCP(REPORT)
    request = message[pfcp.IE_MpquicKeyRequest]
    assert (request.version, request.reason, request.held, request.enterprise_id) == (1, 1, 0, 32473)
    assert pfcp_words(REPORT) == "Session Report Request seq 5 SEID 0x102030405060708 [MPQUIC Key Request]"


def test_vendor_elements_build_what_they_read():
    key = pfcp.IE_MpquicKey(KEY_IE)
    assert (key.generation, key.lifetime, key.ue_id, len(key.wrapped_key)) == (1, 3600, bytes(7) + b"\7", 40)
    built = pfcp.IE_MpquicKey(generation=1, lifetime=3600, ue_id=key.ue_id, wrapped_key=key.wrapped_key)
    assert bytes(built) == KEY_IE
    assert bytes(pfcp.IE_MpquicKeyReport(event=2)) == KEY_REPORT_IE
    assert bytes(pfcp.IE_MpquicKeyRequest()) == bytes.fromhex("800100087ed9010100000000")
    assert bytes(pfcp.IE_MpquicKeyCapability(flags=3)) == bytes.fromhex("800400057ed9010003")
    assert pfcp.IE_MpquicKeyReport(KEY_REPORT_IE[:3] + b"\x0e" + KEY_REPORT_IE[4:] + b"zz").more == b"zz"


def test_foreign_vendor_elements_stay_generic():
    foreign = bytes.fromhex("800100081234010100000000")
    assert type(IE_EnterpriseSpecific(foreign)) is IE_EnterpriseSpecific
    short = bytes.fromhex("800200057ed9010000")
    assert type(IE_EnterpriseSpecific(short)) is IE_EnterpriseSpecific

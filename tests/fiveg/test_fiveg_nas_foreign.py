"""Our NAS against two other readers: pycrate in both directions, and tshark's dissector.

pycrate ends with Rel-16: the MPQUIC bits are spare to it, payload type 13 raw octets, rule IDs and operations unknown, so
ATSSS containers are held against it only as a whole.
"""

from __future__ import annotations

import struct
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pycrate_mobile import NAS5G
from pycrate_mobile import TS24501_FGMM as MM
from pycrate_mobile import TS24501_FGSM as SM
from test_fiveg_atsss import CONTAINER
from test_fiveg_key_container import DERIVED
from test_fiveg_nas_messages import GMM, GSM, IDS, SUCI

from fiveg.nas import gmm, gsm
from fiveg.nas.causes import GsmCause
from fiveg.nas_security import NasSecurityContext, Role, Sht

EXPORTED_PDU, DISSECTOR, END = 252, 12, 0
ACCEPT = gsm.EstablishmentAccept(
    **IDS,
    session_type=gsm.SessionType.IPV4V6,
    ambr=gsm.SessionAmbr.mbps(1000, 1000),
    address=gsm.PduAddress(IPv4Address("10.45.0.2"), bytes(range(8))),
    dnn="internet",
    atsss=CONTAINER.encode(),
)
OURS = [m for m in [*GMM, *GSM, ACCEPT] if not (isinstance(m, gmm.RegistrationRequest) and m.container == b"\x01")]


def parse(octets: bytes) -> Any:
    message, error = NAS5G.parse_NAS5G(octets, inner=False)
    assert error == 0, f"pycrate: error {error}"
    return message


def name(message: object) -> str:
    return type(message).__name__


PLACEHOLDER = b"\x01\0\0"  # ATSSS octets that stand for a container in the examples
PYCRATE = [m for m in OURS if getattr(m, "atsss", None) != PLACEHOLDER]


@pytest.mark.parametrize("message", PYCRATE, ids=name)
def test_pycrate_reads_ours(message: gmm.GmmMessage | gsm.GsmMessage) -> None:
    octets = message.encode()
    read = parse(octets)
    assert read[0]["Type"].get_val() == message.TYPE
    assert read.to_bytes() == octets


def test_pycrate_sees_the_values() -> None:
    read = parse(GMM[0].encode())
    assert read["NAS_KSI"]["NAS_KSI"]["Value"].get_val() == 7
    assert read["5GSID"].to_bytes()[2:] == SUCI.encode()
    assert read["UESecCap"]["UESecCap"]["5G-IA2_128"].get_val() == 1
    transport = parse(next(m for m in GMM if isinstance(m, gmm.UlNasTransport)).encode())
    assert transport["PDUSessID"].to_bytes() == b"\x12\x05" and transport["RequestType"].to_bytes() == b"\x86"
    accept = parse(ACCEPT.encode())
    assert accept["PDUAddress"].to_bytes()[2] == 3 and accept["ATSSSContainer"].to_bytes()[3:] == CONTAINER.encode()


def test_we_read_pycrates() -> None:
    values = {"5GSRegType": {"FOR": 1, "Value": 1}, "5GSID": SUCI.encode(), "UESecCap": b"\xa0\x20"}
    assert gmm.decode(MM.FGMMRegistrationRequest(val=values).to_bytes()) == GMM[0]
    challenge = MM.FGMMAuthenticationRequest(
        val={"NAS_KSI": {"Value": 3}, "ABBA": b"\0\0", "RAND": bytes(16), "AUTN": bytes(range(16))}
    )
    read = gmm.decode(challenge.to_bytes())
    assert isinstance(read, gmm.AuthenticationRequest)
    assert (read.abba, read.rand, read.autn) == (b"\0\0", bytes(16), bytes(range(16)))
    accept = SM.FGSMPDUSessionEstabAccept(
        val={
            "5GSMHeader": {"PDUSessID": 5, "PTI": 1},
            "QoSRules": bytes.fromhex("01000631310101ff01"),
            "SessAMBR": bytes.fromhex("0603e80603e8"),
            "PDUAddress": bytes.fromhex("010a2d0002"),
        }
    )
    session = gsm.decode(accept.to_bytes())
    assert isinstance(session, gsm.EstablishmentAccept)
    assert session.address == gsm.PduAddress(IPv4Address("10.45.0.2")) and session.ambr == ACCEPT.ambr
    reject = SM.FGSMPDUSessionEstabReject(val={"5GSMHeader": {"PDUSessID": 5, "PTI": 1}, "5GSMCause": 27})
    assert gsm.decode(reject.to_bytes()) == gsm.EstablishmentReject(**IDS, cause=GsmCause.UNKNOWN_DNN)


def test_pycrate_reads_a_protected_message() -> None:
    security = NasSecurityContext(bytes(32), 0, Role.UE)
    read = parse(security.protect(GMM[0].encode(), "3gpp", Sht.INTEGRITY))
    assert read._name == "5GMMSecProtNASMessage"


# ---- tshark


def exported(octets: bytes) -> bytes:
    dissector = b"nas-5gs".ljust(8, b"\0")
    return struct.pack("!HH", DISSECTOR, len(dissector)) + dissector + struct.pack("!HH", END, 0) + octets


def pcap(path: Path, messages: list[bytes]) -> None:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, EXPORTED_PDU)
    for number, octets in enumerate(messages):
        data = exported(octets)
        out += struct.pack("<IIII", 1_700_000_000 + number, 0, len(data), len(data)) + data
    path.write_bytes(out)


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """One row per frame. Fields begin with `nas_5gs` in Debian 12's release and with `nas-5gs` in later ones."""
    for prefix in ("nas_5gs", "nas-5gs"):
        names = [f.replace("NAS", prefix) for f in fields]
        command = ["tshark", "-n", "-r", str(path), "-T", "fields", *[x for f in names for x in ("-e", f)]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return [line.split("\t") for line in done.stdout.splitlines()]
    raise AssertionError(done.stderr)


def test_tshark_reads_ours(tmp_path: Path) -> None:
    path = tmp_path / "nas.pcap"
    pcap(path, [m.encode() for m in OURS])
    rows = tshark(path, "NAS.mm.message_type", "NAS.sm.message_type", "_ws.malformed", "_ws.expert.message")
    assert len(rows) == len(OURS)
    for message, (mm, sm, malformed, expert) in zip(OURS, rows, strict=True):
        seen = {int(x, 16) for x in f"{mm},{sm}".split(",") if x}
        assert message.TYPE in seen, f"{name(message)}: {mm} {sm}"
        assert not malformed, f"{name(message)}: malformed; {expert}"


def test_tshark_sees_the_values(tmp_path: Path) -> None:
    path = tmp_path / "nas.pcap"
    container = gmm.DlNasTransport(payload_type=gmm.PayloadType.MPQUIC_KEY, payload=DERIVED.encode(), pdu_session_id=5)
    request = gmm.UlNasTransport(payload_type=1, payload=GSM[0].encode(), pdu_session_id=5, request_type=6, dnn="internet")
    pcap(path, [container.encode(), request.encode(), ACCEPT.encode()])
    fields = ("NAS.pdu_session_id", "NAS.mm.req_type", "NAS.cmn.dnn", "NAS.sm.pdu_addr_inf_ipv4", "_ws.malformed")
    rows = tshark(path, *fields)
    assert rows[0][0].split(",")[0] == "5" and not rows[0][4]
    assert rows[1][1] == "6" and rows[1][2] == "internet" and not rows[1][4]
    assert rows[2][3] == "10.45.0.2" and not rows[2][4]

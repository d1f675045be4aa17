"""PFCP by our layers, by tshark and by pycrate: N4 of a run, every message of our codec, and generated IEs.

tshark 4.0 ends with IE 315: what stands inside a later group it does not look at, and neither is it compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drawn_layers import built, drawn
from hypothesis import strategies as st
from needs import needs_tun
from oracle_compare import Mismatch, Tally, Values, assert_flips_are_caught, compare, ours
from oracle_recorded import PFCP_PORT, Recorded
from oracle_tables_5g import PFCP as TABLE
from oracle_tshark import tshark
from pycrate_mobile.TS29244_PFCP import parse_PFCP
from synthetic_capture import udp4
from test_fiveg_pfcp_messages import EXAMPLES, wire

from lab.packets import pfcp_access
from lab.packets.link import LINK_RAW
from lab.packets.pfcp import PFCP, VENDOR_LAYERS
from lab.pcapng import PcapngWriter

Pair = tuple[str, Values, Values]
TSHARK_ENDS = 315
ABOVE = sorted(row for row in (
    "pfcp.qer_id", "pfcp.ul_mbr", "pfcp.dl_mbr", "pfcp.qfi_value", "pfcp.priority", "pfcp.failed_rule_id_type", "pfcp.flow_desc",
    "pfcp.srr_id_value", "pfcp.s_nssai_sst.sst", "pfcp.s_nssai_sst.sd", "pfcp.mptcp_control_information.flags.tci",
    "pfcp.atsss_ll_control_information.flags.lli", "pfcp.pmf_control_information.flags.pmfi",
    "pfcp.requested_access_availability_control_information.flags.rrca", "pfcp.ue_link_specific_ip_address.3gpp.ipv4",
    "pfcp.ue_link_specific_ip_address.3gpp.ipv6", "pfcp.ue_link_specific_ip_address.non3gpp.ipv4",
    "pfcp.ue_link_specific_ip_address.non3gpp.ipv6",
    "pfcp.thresholds.rtt", "pfcp.thresholds.plr"))          # of a run's N4 there are none


def closed_to_tshark(layer: Any) -> bool:
    return bool(TSHARK_ENDS < layer.fields.get("ietype", 0) < 0x8000)


def by_tshark(path: Path, messages: dict[int, bytes], tally: Tally) -> list[Pair]:
    pairs = []
    for frame, theirs in tshark(path, "pfcp && !icmp", TABLE).items():
        mine = ours([PFCP(messages[frame])], TABLE, closed_to_tshark)
        compare(f"frame {frame}", mine, theirs, tally)
        pairs.append((f"frame {frame}", mine, theirs))
    return pairs


def captured(messages: list[bytes], path: Path) -> dict[int, bytes]:
    with path.open("wb") as stream, PcapngWriter(stream) as writer:
        interface = writer.interface(LINK_RAW, "n4")
        for number, message in enumerate(messages):
            writer.packet(interface, number, udp4("10.90.0.11", 8805, "10.90.0.20", 8805, message))
    return dict(enumerate(messages, 1))


def by_pycrate(message: bytes, tally: Tally) -> Pair:
    """Type, sequence number, SEID, and each IE of the top: type and octets behind its length."""
    read, error = parse_PFCP(message)
    assert error == 0, f"pycrate: error {error}"
    layer = PFCP(message)
    header, ies = read["Hdr"], next((element for element in read if element._name.endswith("IEs")), [])
    mine: Values = {"type": [layer.message_type], "sequence": [layer.seq], "seid": [layer.seid] if layer.S else [],
                    "ies": [(ie.ietype, bytes(ie)[4:]) for ie in getattr(layer.payload, "IE_list", [])]}
    theirs: Values = {"type": [header["Type"].get_val()], "sequence": [header["SeqNum"].get_val()],
                      "seid": [header["SEID"].get_val()] if header["S"].get_val() else [],
                      "ies": [(ie["Type"].get_val(), ie.to_bytes()[4:]) for ie in ies]}
    compare(layer.name, mine, theirs, tally)
    return layer.name, mine, theirs


# ---- a run -----------------------------------------------------------------------------------------------------------------


@needs_tun
def test_n4_of_a_run_by_tshark(recorded: Recorded) -> None:
    tally = Tally()
    pairs = by_tshark(recorded.capture, dict(recorded.udp(PFCP_PORT)), tally)
    tally.require(12, [row.theirs for row in TABLE if row.theirs not in ABOVE])
    assert assert_flips_are_caught(pairs) >= len(TABLE) - len(ABOVE)


@needs_tun
def test_n4_of_a_run_by_pycrate(recorded: Recorded) -> None:
    tally = Tally()
    pairs = [by_pycrate(message, tally) for _, message in recorded.udp(PFCP_PORT)]
    tally.require(12, ["type", "sequence", "seid", "ies"])
    vendor = {kind for _, mine, _ in pairs for kind, _ in mine["ies"]} & VENDOR_LAYERS.keys()
    assert vendor == VENDOR_LAYERS.keys()
    assert assert_flips_are_caught(pairs) == 4


# ---- our codec, and generated ------------------------------------------------------------------------------------------------


def test_every_message_of_our_codec(tmp_path: Path) -> None:
    tally, messages = Tally(), [wire(message, 5 + number) for number, message in enumerate(EXAMPLES)]
    path = tmp_path / "n4.pcapng"
    pairs = by_tshark(path, captured(messages, path), tally)
    tally.require(len(EXAMPLES), ["pfcp.msg_type", "pfcp.ie_type", "pfcp.failed_rule_id_type", "pfcp.steering_mode", "pfcp.weight",
                                  "pfcp.thresholds.rtt", "pfcp.thresholds.plr"])
    assert assert_flips_are_caught(pairs) > 40
    tally = Tally()
    for message in messages:
        by_pycrate(message, tally)
    tally.require(len(EXAMPLES), ["type", "sequence", "seid", "ies"])


SINGLES = [pfcp_access.ACCESS_LAYERS[kind].__name__ for kind in pfcp_access.SINGLE
           if kind <= TSHARK_ENDS and kind not in (22, 219, 224, 229)]
"""Not a text of any octets, nor flags that bring further fields (224). Nor what tshark 4.0 reads wrongly: access availability
(219) stands under the names of another IE there, and of a link-specific address (229) it reads each part behind the end."""
VENDOR = [layer.__name__ for layer in VENDOR_LAYERS.values()]
IE = st.sampled_from([*SINGLES, *VENDOR]).flatmap(built)


def plain(ie: Any) -> Any:
    """Without what a later release would put behind the fields, and without its bits: tshark says so in words of its own. IDs
    of rules are below the bit that says who gave them."""
    ie.more = b""
    if ie.name == "IE Failed Rule ID":
        ie.spare, ie.id = 0, ie.id & 0x7FFFFFFF
    return ie


def group(elements: list[Any], kind: int) -> Any:
    return pfcp_access.ACCESS_LAYERS[kind](IE_list=elements)


def test_any_elements(tmp_path: Path) -> None:
    """Any of them in any order, at the top and in groups."""
    some = st.lists(IE.map(plain), min_size=1, max_size=4)
    groups = st.builds(group, some, st.sampled_from([165, 166, 167, 169, 220]))
    body = st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 2**24 - 1), st.lists(IE.map(plain) | groups, max_size=5))
    messages = []
    for seid, sequence, elements in drawn(body, 70):
        rest = seid.to_bytes(8, "big") + sequence.to_bytes(3, "big") + b"\0" + b"".join(map(bytes, elements))
        messages.append(b"\x21\x34" + len(rest).to_bytes(2, "big") + rest)
    path, tally = tmp_path / "any.pcapng", Tally()
    pairs = by_tshark(path, captured(messages, path), tally)
    tally.require(60, ["pfcp.seid", "pfcp.seqno", "pfcp.mar_id", "pfcp.steering_functionality", "pfcp.steering_mode", "pfcp.weight",
                        "pfcp.priority", "pfcp.srr_id_value", "pfcp.s_nssai_sst.sst", "pfcp.enterprise_ie_data",
                        "pfcp.failed_rule_id_type"])
    assert assert_flips_are_caught(pairs) > 20
    tally = Tally()
    for message in messages:
        by_pycrate(message, tally)
    tally.require(60, ["ies"])


def test_a_wrong_length_is_told() -> None:
    message = bytearray.fromhex("21380022010203040506070800000500002700014000a1000100800100087ed9010100000000")
    by_pycrate(bytes(message), Tally())
    _, mine, theirs = by_pycrate(bytes(message), Tally())
    mine["ies"] = [(kind, value + b"\0") for kind, value in mine["ies"]]
    with pytest.raises(Mismatch, match="ies"):
        compare("longer", mine, theirs, Tally())

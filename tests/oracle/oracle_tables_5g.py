"""Our field <-> tshark's field, of PFCP and of NAS."""

from __future__ import annotations

from typing import Any

from oracle_compare import Getter, Row, address, number, octets, text

from lab.packets.nas_messages import MESSAGE_LAYER_NAMES, MOBILITY_LAYERS, SESSION_LAYERS

VENDOR = 0x8000
EVERY = "*"                     # any layer: the getter says which


def _flag(bit: int) -> Any:
    return lambda ie: int(bool(int(ie.flags) & bit))


def _failed(rule: int) -> Any:
    """The ID in a Failed Rule ID, which has the field of its rule."""
    return lambda ie: ie.id if ie.rule == rule else None


def _ie(wanted: Any) -> Any:
    return lambda layer: wanted(layer) if "ietype" in layer.fields else None


PFCP = (
    Row("pfcp.msg_type", number, {"PFCP": "message_type"}),
    Row("pfcp.length", number, {"PFCP": "length"}),
    Row("pfcp.s", number, {"PFCP": "S"}),
    Row("pfcp.mp_flag", number, {"PFCP": "MP"}),
    Row("pfcp.seqno", number, {"PFCP": "seq"}),
    Row("pfcp.seid", number, {"PFCP": "seid", "IE_FSEID": "seid"}),
    Row("pfcp.ie_type", number, {EVERY: _ie(lambda ie: ie.ietype if ie.ietype < VENDOR else None)}),
    Row("pfcp.enterprise_ie", number, {EVERY: _ie(lambda ie: ie.ietype if ie.ietype >= VENDOR else None)}),
    Row("pfcp.ie_len", number, {EVERY: _ie(lambda ie: ie.length)}),
    Row("pfcp.enterprise_id", number, {EVERY: _ie(lambda ie: ie.fields.get("enterprise_id"))}),
    Row("pfcp.enterprise_ie_data", octets, {EVERY: _ie(lambda ie: bytes(ie)[6:] if ie.ietype >= VENDOR else None)}),
    Row("pfcp.cause", number, {"IE_Cause": "cause"}),
    Row("pfcp.node_id_type", number, {"IE_NodeId": "id_type"}),
    Row("pfcp.node_id_ipv4", address, {"IE_NodeId": "ipv4"}),
    Row("pfcp.f_seid_flags.v4", number, {"IE_FSEID": "v4"}),
    Row("pfcp.f_seid_flags.v6", number, {"IE_FSEID": "v6"}),
    Row("pfcp.f_seid.ipv4", address, {"IE_FSEID": "ipv4"}),
    Row("pfcp.pdr_id", number, {"IE_PDR_Id": "id", "IE_FailedRule": _failed(0)}),
    Row("pfcp.precedence", number, {"IE_Precedence": "precedence"}),
    Row("pfcp.source_interface", number, {"IE_SourceInterface": "interface"}),
    Row("pfcp.dst_interface", number, {"IE_DestinationInterface": "interface"}),
    Row("pfcp.network_instance", text, {"IE_NetworkInstanceText": "instance"}),
    Row("pfcp.far_id", number, {"IE_FAR_Id": "id", "IE_FailedRule": _failed(1)}),
    Row("pfcp.qer_id", number, {"IE_QER_Id": "id", "IE_FailedRule": _failed(2)}),
    Row("pfcp.apply_action.drop", number, {"IE_ApplyAction": "DROP"}),
    Row("pfcp.apply_action.forw", number, {"IE_ApplyAction": "FORW"}),
    Row("pfcp.apply_action.buff", number, {"IE_ApplyAction": "BUFF"}),
    Row("pfcp.ue_ip_address_flag.sd", number, {"IE_UE_IP_Address": "SD"}),
    Row("pfcp.ue_ip_address_flag.v4", number, {"IE_UE_IP_Address": "V4"}),
    Row("pfcp.ue_ip_address_flag.v6", number, {"IE_UE_IP_Address": "V6"}),
    Row("pfcp.ue_ip_addr_ipv4", address, {"IE_UE_IP_Address": "ipv4"}),
    Row("pfcp.ue_ip_addr_ipv6", address, {"IE_UE_IP_Address": "ipv6"}),
    Row("pfcp.flow_desc", text, {"IE_SDF_Filter": "flow_description"}),
    Row("pfcp.qfi_value", number, {"IE_QFI": "QFI"}),
    Row("pfcp.ul_mbr", number, {"IE_MBR": "ul"}),
    Row("pfcp.dl_mbr", number, {"IE_MBR": "dl"}),
    Row("pfcp.pdn_type", number, {"IE_PDNType": "pdn_type"}),
    Row("pfcp.apn_dnn", text, {"IE_APN_DNN": "apn_dnn"}),
    Row("pfcp.report_type.uisr", number, {"IE_ReportTypeRelease19": _flag(0x40)}),
    Row("pfcp.report_type.sesr", number, {"IE_ReportTypeRelease19": _flag(0x20)}),
    Row("pfcp.report_type.usar", number, {"IE_ReportTypeRelease19": _flag(0x02)}),
    Row("pfcp.failed_rule_id_type", number, {"IE_FailedRule": "rule"}),
    Row("pfcp.mar_id", number, {"IE_MAR_Id": "id", "IE_FailedRule": _failed(5)}),
    Row("pfcp.steering_functionality", number, {"IE_SteeringFunctionality": "functionality"}),
    Row("pfcp.steering_mode", number, {"IE_SteeringMode": "mode"}),
    Row("pfcp.weight", number, {"IE_Weight": "weight"}),
    Row("pfcp.thresholds.rtt", number, {"IE_Thresholds": "rtt_ms"}),
    Row("pfcp.thresholds.plr", number, {"IE_Thresholds": "loss"}),
    Row("pfcp.priority", number, {"IE_Priority": "priority"}),
    Row("pfcp.srr_id_value", number, {"IE_SRR_Id": "id", "IE_FailedRule": _failed(6)}),
    Row("pfcp.s_nssai_sst.sst", octets, {"IE_SNSSAI": lambda ie: bytes((ie.sst,))}),
    Row("pfcp.s_nssai_sst.sd", octets, {"IE_SNSSAI": "sd"}),
    Row("pfcp.mptcp_application_indication.flags.mai", number, {"IE_MultipathApplicable": _flag(0x01)}),
    Row("pfcp.mptcp_control_information.flags.tci", number, {"IE_MPTCPControl": _flag(0x01)}),
    Row("pfcp.atsss_ll_control_information.flags.lli", number, {"IE_ATSSSLLControl": _flag(0x01)}),
    Row("pfcp.pmf_control_information.flags.pmfi", number, {"IE_PMFControl": _flag(0x01)}),
    Row("pfcp.requested_access_availability_control_information.flags.rrca", number, {"IE_RequestedAccessAvailability": _flag(1)}),
    Row("pfcp.ue_link_specific_ip_address.3gpp.ipv4", address, {"IE_LinkSpecificAddress": "ipv4_3gpp"}),
    Row("pfcp.ue_link_specific_ip_address.3gpp.ipv6", address, {"IE_LinkSpecificAddress": "ipv6_3gpp"}),
    Row("pfcp.ue_link_specific_ip_address.non3gpp.ipv4", address, {"IE_LinkSpecificAddress": "ipv4_non_3gpp"}),
    Row("pfcp.ue_link_specific_ip_address.non3gpp.ipv6", address, {"IE_LinkSpecificAddress": "ipv6_non_3gpp"}),
)

# ---- NAS -------------------------------------------------------------------------------------------------------------------

MOBILITY = [layer.__name__ for layer in MOBILITY_LAYERS.values()] + ["NasTransport"]
SESSION = [layer.__name__ for layer in SESSION_LAYERS.values()]
MESSAGES = [*MESSAGE_LAYER_NAMES, "NasTransport"]


def _of(names: list[str], getter: Getter) -> dict[str, Getter]:
    return dict.fromkeys(names, getter)


def _named(name: str, value: Any = lambda ie: ie.value) -> Any:
    """The IE of this name, whatever format it has."""
    return lambda ie: value(ie) if ie.name == name else None


def _value(name: str) -> dict[str, Getter]:
    return _of(["NasIe", "NasIeExtended", "NasIeTv", "NasIeHalf"], _named(name))


def _first(name: str) -> dict[str, Getter]:
    return _of(["NasIe", "NasIeExtended", "NasIeTv", "NasIeHalf"], _named(name, lambda ie: ie.value[0]))


def _capability(bit: int, integrity: bool) -> dict[str, Getter]:
    """In an IE of its own, and in SECURITY MODE COMMAND as a mandatory value."""
    return {"NasIeUeSecurityCapability": lambda ie: int(ie.ia if integrity else ie.ea) >> bit & 1,
            "NasSecurityModeCommand": lambda message: message.capability[int(integrity)] >> bit & 1}


MM_CAUSE = [name for name in MOBILITY if name in (
    "NasRegistrationReject", "NasAuthenticationFailure", "NasSecurityModeReject", "NasMobilityStatus", "NasServiceReject")]
SM_CAUSE = ["NasPduSessionEstablishmentReject", "NasPduSessionReleaseCommand", "NasPduSessionModificationCommandReject",
            "NasPduSessionReleaseReject", "NasPduSessionModificationReject", "NasSessionStatus"]

NAS = (
    Row("nas_5gs.epd", number, _of(MESSAGES, "epd")),
    Row("nas_5gs.security_header_type", number, _of(MOBILITY, "security")),
    Row("nas_5gs.mm.message_type", number, _of(MOBILITY, "message_type")),
    Row("nas_5gs.sm.message_type", number, _of(SESSION, "message_type")),
    Row("nas_5gs.proc_trans_id", number, _of(SESSION, "pti")),
    Row("nas_5gs.pdu_session_id", number, {**_of(SESSION, "pdu_session_id"), **_first("PDU session ID")}),
    Row("nas_5gs.mm.5gs_reg_type", number, {"NasRegistrationRequest": lambda message: message.registration_type & 7}),
    Row("nas_5gs.mm.for", number, {"NasRegistrationRequest": lambda message: message.registration_type >> 3}),
    Row("nas_5gs.mm.nas_key_set_id.h1", number, _of(["NasRegistrationRequest", "NasDeregistrationRequestUe"],
                                                    lambda message: message.ngksi & 7)),
    Row("nas_5gs.mm.nas_key_set_id", number, _of(["NasAuthenticationRequest", "NasSecurityModeCommand"],
                                                 lambda message: message.ngksi & 7)),
    Row("nas_5gs.mm.type_id", number, {"NasSuci": "identity", "NasGuti": "identity", "NasIdentity": "identity"}),
    Row("nas_5gs.mm.suci.supi_fmt", number, {"NasSuci": "supi_format"}),
    Row("nas_5gs.mm.suci.scheme_id", number, {"NasSuci": "scheme"}),
    Row("nas_5gs.mm.suci.pki", number, {"NasSuci": "key_id"}),
    Row("nas_5gs.5g_tmsi", number, {"NasGuti": lambda guti: int.from_bytes(guti.tmsi, "big")}),
    Row("nas_5gs.amf_region_id", number, {"NasGuti": "amf_region"}),
    Row("nas_5gs.amf_set_id", number, {"NasGuti": "amf_set"}),
    Row("nas_5gs.amf_pointer", number, {"NasGuti": "amf_pointer"}),
    *(Row(name, number, _capability(bit, False)) for name, bit in (
        ("nas_5gs.mm.5g_ea0", 7), ("nas_5gs.mm.128_5g_ea1", 6), ("nas_5gs.mm.128_5g_ea2", 5), ("nas_5gs.mm.128_5g_ea3", 4))),
    *(Row(name, number, _capability(bit, True)) for name, bit in (
        ("nas_5gs.mm.ia0", 7), ("nas_5gs.mm.5g_128_ia1", 6), ("nas_5gs.mm.5g_128_ia2", 5), ("nas_5gs.mm.5g_128_ia3", 4))),
    Row("nas_5gs.mm.reg_res.res", number, {"NasRegistrationAccept": lambda message: message.result[0] & 7}),
    Row("nas_5gs.mm.abba_contents", octets, {"NasAuthenticationRequest": "abba", **_value("ABBA")}),
    Row("gsm_a.dtap.rand", octets, _value("RAND")),
    Row("gsm_a.dtap.autn", octets, _value("AUTN")),
    Row("nas_5gs.mm.nas_sec_algo_enc", number, {"NasSecurityModeCommand": "ciphering"}),
    Row("nas_5gs.mm.nas_sec_algo_ip", number, {"NasSecurityModeCommand": "integrity"}),
    Row("nas_5gs.mm.rinmr", number, _of(["NasIe"], _named("additional 5G security information", lambda ie: ie.value[0] >> 1 & 1))),
    Row("nas_5gs.mm.5gmm_cause", number, {**_of(MM_CAUSE, "cause"), "NasIeTv": lambda ie: ie.value[0] if ie.tag == 0x58 else None}),
    Row("nas_5gs.mm.pld_cont_type", number, {"NasTransport": "container_type"}),
    Row("nas_5gs.mm.pld_cont", octets, {"NasKeyContainer": bytes}),
    Row("nas_5gs.mm.req_type", number, _value("request type")),
    Row("nas_5gs.mm.sst", number, {"NasIeSnssai": "sst"}),
    Row("nas_5gs.cmn.dnn", text, {"NasIeDnn": "dnn"}),
    Row("nas_5gs.sm.5gsm_cause", number, {**_of(SM_CAUSE, "cause"), "NasIeTv": lambda ie: ie.value[0] if ie.tag == 0x59 else None}),
    Row("nas_5gs.sm.int_prot_max_data_rate_ul", number, {"NasPduSessionEstablishmentRequest": lambda m: m.integrity_rate[0]}),
    Row("nas_5gs.sm.int_prot_max_data_rate_dl", number, {"NasPduSessionEstablishmentRequest": lambda m: m.integrity_rate[1]}),
    Row("nas_5gs.sm.pdu_session_type", number, {**_value("PDU session type"), "NasPduSessionEstablishmentAccept": "session_type"}),
    Row("nas_5gs.sm.sc_mode", number, _value("SSC mode")),
    Row("nas_5gs.sm.sel_sc_mode", number, {"NasPduSessionEstablishmentAccept": "ssc_mode"}),
    Row("nas_5gs.sm.tpmic", number, {"NasIeSessionCapability": "tpmic"}),
    Row("nas_5gs.sm.atsss_st", number, {"NasIeSessionCapability": "atsss_st"}),
    Row("nas_5gs.sm.ept_s1", number, {"NasIeSessionCapability": "ept_s1"}),
    Row("nas_5gs.sm.mh6_pdu", number, {"NasIeSessionCapability": "mh6_pdu"}),
    Row("nas_5gs.sm.rqos", number, {"NasIeSessionCapability": "rqos"}),
    Row("nas_5gs.sm.unit_for_session_ambr_dl", number, {"NasAmbr": "down_unit", "NasIeSessionAmbr": "down_unit"}),
    Row("nas_5gs.sm.session_ambr_dl", number, {"NasAmbr": "down", "NasIeSessionAmbr": "down"}),
    Row("nas_5gs.sm.unit_for_session_ambr_ul", number, {"NasAmbr": "up_unit", "NasIeSessionAmbr": "up_unit"}),
    Row("nas_5gs.sm.session_ambr_ul", number, {"NasAmbr": "up", "NasIeSessionAmbr": "up"}),
    Row("nas_5gs.sm.pdu_ses_type", number, {"NasIePduAddress": "type"}),
    Row("nas_5gs.sm.pdu_addr_inf_ipv4", address, {"NasIePduAddress": "ipv4"}),
    Row("nas_5gs.sm.pdu_addr_inf_ipv6", octets, {"NasIePduAddress": "interface_id"}),
    Row("nas_5gs.sm.atsss_cont", octets, _value("ATSSS container")),
)

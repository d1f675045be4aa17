"""PFCP (TS 29.244 v19.5.0) without I/O: IEs, rules, messages, transactions, and our vendor IEs for MPQUIC keys.

codes        code points           values       single IEs          mpquic_ies   our vendor IEs
rules        PDR, FAR, QER, MAR    message      headers, messages   transaction  request/response engine
sdf          flow descriptions     keywrap      the key in the key IE
"""

"""PFCP (TS 29.244 v19.5.0) without I/O: IEs, rules, messages, transactions, and our vendor IEs for MPQUIC keys.

codes        code points           values       layouts of IEs      mpquic_ies   layouts of our vendor IEs
ies          table of single IEs   rules        PDR, FAR, QER, MAR  message      headers, messages
sdf          flow descriptions     keywrap      the key in its IE   transaction  request/response engine
"""

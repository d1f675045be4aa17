"""What AMF and SMF say to each other over the SBI, without I/O: strict JSON, types, multipart bodies.

strict     JSON text <-> values, with limits    member     one member of an object and its type
types      Nsmf_PDUSession, Namf_Communication  mpquickey  our service for MPQUIC keys
multipart  JSON with binary parts (N1)          errors     ProblemDetails
"""

"""The service-based interface: HTTP/2 over TLS 1.3, both sides with certificates of the run.

certs     CA and NF certificates of one run      tls      the two TLS contexts
server    asyncio + h2: the handler knows which NF asks (hypercorn's would not)
client    httpx, HTTP/2 only
"""

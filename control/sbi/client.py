"""Calls to another NF: HTTP/2 only, TLS 1.3 with both certificates, bounded retries, bounded answers.

A call that never reached the peer is tried again; one that may have reached it only when it is idempotent.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpx

from control.errors import SbiUnreachable
from control.sbi.tls import PeerIdentity, SbiConfig, client_context, log_keys
from fiveg.sbi import multipart
from fiveg.sbi.errors import SbiError
from fiveg.sbi.strict import MAX_BODY
from fiveg.sbi.types import ProblemDetails
from node.counters import Counters

TIMEOUT = httpx.Timeout(8.0, connect=3.0)
ANSWER_LIMIT = 15.0
"""s for one attempt as a whole: a peer that drips octets keeps within every single timeout of the above"""
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?", re.ASCII)
ATTEMPTS = 3
BACKOFF = 0.2  # s before the second attempt, doubled for the third


@dataclass(frozen=True, slots=True)
class NfAddress:
    """`smf` in amf.json, `amf` in smf.json: where another NF is, and the name its certificate must have."""

    address: str
    port: int
    host: str

    def __post_init__(self) -> None:
        ip_address(self.address)  # ValueError: neither IPv4 nor IPv6
        if not 0 < self.port < 65536:
            raise ValueError("port: must be 1..65535")
        if HOST.fullmatch(self.host) is None:
            raise ValueError("host: must be a host name")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    content_type: str
    location: str | None
    raw: bytes = field(repr=False)
    peer: PeerIdentity | None = None
    """who answered, by its certificate"""

    def body(self) -> multipart.Body:
        return multipart.decode(self.content_type, self.raw)


class SbiClient:
    """One peer NF. `call` gives a reply with status 2xx, or raises SbiError (refused) or SbiUnreachable."""

    def __init__(self, config: SbiConfig, peer: NfAddress, counters: Counters) -> None:
        self._peer = peer
        self._counters = counters
        self._context = client_context(config)
        self._client = httpx.AsyncClient(
            http2=True,
            http1=False,
            verify=self._context,
            timeout=TIMEOUT,
            trust_env=False,  # no proxy, no key log from the environment
            limits=httpx.Limits(max_connections=4, keepalive_expiry=60.0),
        )

    async def close(self) -> None:
        await self._client.aclose()

    def log_keys(self, path: Path) -> None:
        """Of connections that are made from now on. ConfigError."""
        log_keys(self._context, path)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = multipart.JSON,
        *,
        idempotent: bool = False,
    ) -> Reply:
        reply = await self._attempts(method, path, body, content_type, idempotent)
        if 200 <= reply.status < 300:
            return reply
        self._counters.inc(f"sbi_client.refused.{reply.status}")
        raise refusal(reply)

    async def _attempts(self, method: str, path: str, body: bytes, content_type: str, idempotent: bool) -> Reply:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with asyncio.timeout(ANSWER_LIMIT):
                    reply = await self._once(method, path, body, content_type)
                if reply.status != 503 or attempt == ATTEMPTS:
                    return reply
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as e:
                self._failed(attempt, e)
            except (httpx.HTTPError, ssl.SSLError, OSError) as e:
                self._failed(attempt if idempotent else ATTEMPTS, e)
            await asyncio.sleep(BACKOFF * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _failed(self, attempt: int, error: Exception) -> None:
        self._counters.inc(f"sbi_client.failed.{type(error).__name__}")
        if attempt >= ATTEMPTS:
            raise SbiUnreachable(f"{self._peer.host}: {type(error).__name__}") from None

    async def _once(self, method: str, path: str, body: bytes, content_type: str) -> Reply:
        host = f"[{self._peer.address}]" if ":" in self._peer.address else self._peer.address
        headers = {"host": self._peer.host, "accept-encoding": "identity"}
        if body:
            headers["content-type"] = content_type
        request = self._client.build_request(
            method,
            f"https://{host}:{self._peer.port}{path}",
            content=body,
            headers=headers,
            extensions={"sni_hostname": self._peer.host, "timeout": TIMEOUT.as_dict()},
        )
        response = await self._client.send(request, stream=True)
        try:
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > MAX_BODY:
                    raise httpx.RemoteProtocolError("answer too large")
        finally:
            await response.aclose()
        get = response.headers.get
        peer = _peer(response)
        return Reply(response.status_code, get("content-type", ""), get("location"), bytes(data), peer)


class Refused(SbiError):
    """The peer refused; `reply` is all it said (CreateSMContext's refusal brings a message for the UE)."""

    def __init__(self, error: SbiError, reply: Reply) -> None:
        super().__init__(error.status, error.cause, error.detail, error.invalid_params)
        self.reply = reply


def _peer(response: httpx.Response) -> PeerIdentity | None:
    stream = response.extensions.get("network_stream")
    ssl_object = None if stream is None else stream.get_extra_info("ssl_object")
    certificate = None if ssl_object is None else ssl_object.getpeercert()
    return None if not certificate else PeerIdentity.of_certificate(certificate)


def refusal(reply: Reply) -> Refused:
    return Refused(_error_of(reply), reply)


def _error_of(reply: Reply) -> SbiError:
    """What the peer said, as far as it made sense."""
    status = reply.status if 400 <= reply.status < 600 else 502
    if reply.raw and reply.content_type.startswith("application/problem+json"):
        try:
            return ProblemDetails.parse(reply.raw).error(status)
        except SbiError:
            pass
    return SbiError(status, "UNSPECIFIED", "")

"""Transport parameters: bounds, who may send what, and what must be read over (RFC 9000 §7.4, §18)."""

from __future__ import annotations

import pytest

from mpquic.reader import varint
from mpquic.tls_errors import TransportParameterError
from mpquic.transport_parameters import TransportParameters

TRANSPORT_PARAMETER_ERROR = 0x08


def parameter(identifier: int, content: bytes) -> bytes:
    return varint(identifier) + varint(len(content)) + content


def refused(wire: bytes, from_server: bool) -> None:
    with pytest.raises(TransportParameterError) as raised:
        TransportParameters.decode(wire, from_server)
    assert raised.value.code == TRANSPORT_PARAMETER_ERROR


@pytest.mark.parametrize("from_server", [False, True])
@pytest.mark.parametrize(
    ("identifier", "good", "bad"),
    [
        (0x03, 1200, 1199),
        (0x08, 1 << 60, (1 << 60) + 1),
        (0x09, 1 << 60, (1 << 60) + 1),
        (0x0A, 20, 21),
        (0x0B, (1 << 14) - 1, 1 << 14),
        (0x0E, 2, 1),
    ],
    ids=["payload size", "bidi streams", "uni streams", "delay exponent", "ack delay", "cid limit"],
)
def test_values_have_bounds(identifier: int, good: int, bad: int, from_server: bool) -> None:
    """RFC 9000 §18.2."""
    TransportParameters.decode(parameter(identifier, varint(good)), from_server)
    refused(parameter(identifier, varint(bad)), from_server)


@pytest.mark.parametrize("from_server", [False, True])
def test_none_comes_twice(from_server: bool) -> None:
    """RFC 9000 §7.4: neither a known one nor one that is read over."""
    for one in (parameter(0x01, varint(5)), parameter(0x7157, b"?")):
        TransportParameters.decode(one, from_server)
        refused(one + one, from_server)


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x0D, 0x10], ids=["original", "token", "preferred", "retry"])
def test_some_are_a_servers(identifier: int) -> None:
    """RFC 9000 §18.2."""
    content = bytes(16) if identifier == 0x02 else bytes(24) + b"\x04" + bytes(20) if identifier == 0x0D else b"12345678"
    TransportParameters.decode(parameter(identifier, content), from_server=True)
    refused(parameter(identifier, content), from_server=False)


@pytest.mark.parametrize("from_server", [False, True])
def test_unknown_and_reserved_ones_are_read_over(from_server: bool) -> None:
    """RFC 9000 §7.4.2, §18.1."""
    strange = b"".join(parameter(identifier, bytes(9)) for identifier in (27, 31 * 77 + 27, 0x11, 0x7157, (1 << 62) - 1))
    found = TransportParameters.decode(strange + parameter(0x01, varint(7)), from_server)
    assert found == TransportParameters(max_idle_timeout=7)

"""Transport parameters: strict, typed, and never an unnamed exception (RFC 9000 §7.3, §7.4, §18; RFC 10069 §2.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpquic.errors import TransportError
from mpquic.reader import varint
from mpquic.tls_errors import TransportParameterError
from mpquic.transport_parameters import TransportParameters

VARINT = st.integers(0, (1 << 62) - 1)
CID = st.binary(max_size=20)
PARAMETERS = st.builds(
    TransportParameters,
    original_destination_connection_id=st.none() | CID,
    max_idle_timeout=st.none() | VARINT,
    stateless_reset_token=st.none() | st.binary(min_size=16, max_size=16),
    max_udp_payload_size=st.none() | st.integers(1200, 65527),
    initial_max_data=st.none() | VARINT,
    initial_max_streams_bidi=st.none() | st.integers(0, 1 << 60),
    ack_delay_exponent=st.none() | st.integers(0, 20),
    max_ack_delay=st.none() | st.integers(0, (1 << 14) - 1),
    disable_active_migration=st.booleans(),
    active_connection_id_limit=st.none() | st.integers(2, 64),
    initial_source_connection_id=st.none() | CID,
    max_datagram_frame_size=st.none() | VARINT,
    initial_max_path_id=st.none() | st.integers(0, (1 << 32) - 1),
)


def parameter(identifier: int, content: bytes) -> bytes:
    return varint(identifier) + varint(len(content)) + content


@given(PARAMETERS)
def test_they_survive_the_wire(parameters: TransportParameters) -> None:
    assert TransportParameters.decode(parameters.encode(), from_server=True) == parameters


@given(st.binary(max_size=200), st.booleans())
def test_garbage_raises_only_its_error(garbage: bytes, from_server: bool) -> None:
    try:
        TransportParameters.decode(garbage, from_server)
    except TransportParameterError as error:
        assert error.code == 0x08


def test_unknown_and_grease_are_ignored() -> None:
    wire = parameter(27, b"grease") + parameter(0x7157, bytes(5000)) + parameter(0x01, varint(30000))
    assert TransportParameters.decode(wire, from_server=False) == TransportParameters(max_idle_timeout=30000)


@pytest.mark.parametrize(
    "wire",
    [
        parameter(0x01, varint(1)) * 2,
        parameter(27, b"") * 2,
        parameter(0x03, varint(1199)),
        parameter(0x0A, varint(21)),
        parameter(0x0B, varint(1 << 14)),
        parameter(0x0E, varint(1)),
        parameter(0x08, varint((1 << 60) + 1)),
        parameter(0x3E, varint(1 << 32)),
        parameter(0x0C, b"\0"),
        parameter(0x0F, bytes(21)),
        parameter(0x01, b""),
        parameter(0x01, varint(1) + b"\0"),
        parameter(0x01, b"\x40"),
        parameter(0x04, varint(1))[:-1],
        b"\x01\x7f",
    ],
)
def test_broken_rules_are_errors_of_the_parameters(wire: bytes) -> None:
    with pytest.raises(TransportParameterError):
        TransportParameters.decode(wire, from_server=True)


@pytest.mark.parametrize("from_server", [False, True])
def test_an_initial_max_path_id_above_32_bits_is_refused(from_server: bool) -> None:
    """RFC 10069 §2.1; 2^32-1 is the largest."""
    TransportParameters.decode(parameter(0x3E, varint((1 << 32) - 1)), from_server)
    with pytest.raises(TransportParameterError) as raised:
        TransportParameters.decode(parameter(0x3E, varint(1 << 32)), from_server)
    assert raised.value.code == 0x08


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x0D, 0x10])
def test_what_only_a_server_sends_is_refused_from_a_client(identifier: int) -> None:
    content = bytes(16) if identifier == 0x02 else bytes(24) + b"\x04" + bytes(20) if identifier == 0x0D else b"12345678"
    TransportParameters.decode(parameter(identifier, content), from_server=True)
    with pytest.raises(TransportParameterError):
        TransportParameters.decode(parameter(identifier, content), from_server=False)


def test_a_flood_of_parameters_is_refused() -> None:
    with pytest.raises(TransportParameterError):
        TransportParameters.decode(b"".join(parameter(31 * n + 27, b"") for n in range(200)), from_server=True)


def test_connection_ids_are_authenticated() -> None:
    good = TransportParameters(original_destination_connection_id=b"original", initial_source_connection_id=b"source")
    good.authenticate(source=b"source", original_destination=b"original")
    for bad in (
        replace(good, initial_source_connection_id=b"other"),
        replace(good, initial_source_connection_id=None),
        replace(good, original_destination_connection_id=None),
        replace(good, original_destination_connection_id=b"other"),
        replace(good, retry_source_connection_id=b"retry"),
    ):
        with pytest.raises(TransportParameterError):
            bad.authenticate(source=b"source", original_destination=b"original")


def test_multipath_with_an_empty_cid_is_a_violation() -> None:
    """R-20, RFC 10069 §2.1."""
    with pytest.raises(TransportError) as raised:
        TransportParameters(initial_source_connection_id=b"", initial_max_path_id=2).authenticate(source=b"")
    assert raised.value.code == 0x0A


def test_the_reset_token_is_not_described() -> None:
    parameters = TransportParameters(stateless_reset_token=bytes(range(16)), max_idle_timeout=1)
    assert parameters.describe() == {"max_idle_timeout": 1}

"""Flow descriptions: what is written is read back; what cannot be held exactly is refused."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiveg.pfcp.errors import PfcpError
from fiveg.pfcp.sdf import FlowDescription

ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda p: (min(p), max(p)))
networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda n: ip_network(n, strict=False)),
    st.integers(0, 128).map(lambda n: ip_network((2**127 + 5, n), strict=False)),
)


@given(st.none() | st.integers(0, 255), st.none() | networks, st.none() | ports)
def test_round_trip(protocol: int | None, remote: object, port: tuple[int, int] | None) -> None:
    flow = FlowDescription(protocol, remote, port)  # type: ignore[arg-type]
    assert FlowDescription.parse(flow.text()) == flow


def test_wording() -> None:
    assert FlowDescription().text() == "permit out ip from any to assigned"
    flow = FlowDescription.parse("permit out 6 from 10.99.0.0/16 80-90 to assigned")
    assert flow == FlowDescription(6, ip_network("10.99.0.0/16"), (80, 90))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "permit in ip from any to assigned",
        "deny out ip from any to assigned",
        "permit out 256 from any to assigned",
        "permit out 6 from 10.0.0.1/8 to assigned",
        "permit out 6 from 10.0.0.0/33 to assigned",
        "permit out 6 from any 90-80 to assigned",
        "permit out 6 from any 70000 to assigned",
        "permit out 6 from any 80 to 10.0.0.1",
        "permit out 6 from any 80,443 to assigned",
        "permit out ip from any to assigned\n",
        "permit out ip from any to assigned" + " " * 300,
        "permit out ٦ from any to assigned",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(PfcpError):
        FlowDescription.parse(text)

"""The TUN in a namespace of the test's own: addresses, routes, MTU, and their replacement."""

from ipaddress import IPv4Address, IPv6Network, ip_network

from node.netns import Netns
from ue.tun import Tun

EVERYWHERE = [ip_network("0.0.0.0/0"), ip_network("::/0")]


def addresses(ipr, index):
    return {a.get_attr("IFA_ADDRESS") for a in ipr.get_addr(index=index)}


def test_addresses_routes_and_mtu_of_the_session():
    space = Netns()
    tun = None
    try:
        tun = space.call_sync(Tun, "mpq0", 1280)
        (index,) = space.call_sync(space.ipr.link_lookup, ifname="mpq0")
        tun.configure(IPv4Address("10.45.0.2"), IPv6Network("fd45:0:0:1::/64"), bytes(7) + b"\x05", EVERYWHERE)
        link = space.call_sync(lambda: next(iter(space.ipr.get_links(index))))
        assert link.get_attr("IFLA_MTU") == 1280
        assert space.call_sync(addresses, space.ipr, index) == {"10.45.0.2", "fd45:0:0:1::5"}  # and no link-local one
        route = space.call_sync(lambda: next(iter(space.ipr.route("get", dst="10.99.0.2"))))
        assert route.get_attr("RTA_OIF") == index
        route = space.call_sync(lambda: next(iter(space.ipr.route("get", dst="fd99::2"))))
        assert route.get_attr("RTA_OIF") == index
        tun.configure(IPv4Address("10.45.0.9"), None, None, [ip_network("10.99.0.0/24")])
        assert space.call_sync(addresses, space.ipr, index) == {"10.45.0.9"}
        # somebody has tidied up by hand: the next session is set all the same
        space.call_sync(lambda: space.ipr.flush_routes(oif=index))
        space.call_sync(lambda: space.ipr.flush_addr(index=index))
        tun.configure(IPv4Address("10.45.0.7"), None, None, [ip_network("10.99.0.0/24")])
        assert space.call_sync(addresses, space.ipr, index) == {"10.45.0.7"}
    finally:
        if tun is not None:
            tun.close()
            assert space.call_sync(space.ipr.link_lookup, ifname="mpq0") == []
        space.close()

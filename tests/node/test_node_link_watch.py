"""What the kernel says of a device, on real devices of a namespace; and of messages, on octets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.counters import Counters
from node.errors import LinkError
from node.link_watch import HEADER, IFINFO, LinkWatch
from node.netns import Netns


@pytest.fixture
def space() -> Iterator[Netns]:
    """With a device w0 and its other end w1, both up."""
    with Netns() as netns:

        def make() -> None:
            netns.ipr.link("add", ifname="w0", kind="veth", peer={"ifname": "w1"})
            for name in ("w0", "w1"):
                netns.ipr.link("set", index=netns.ipr.link_lookup(ifname=name)[0], state="up")

        netns.call_sync(make)
        yield netns


def change(netns: Netns, name: str, state: str) -> Callable[[], None]:
    return lambda: netns.ipr.link("set", index=netns.ipr.link_lookup(ifname=name)[0], state=state)


def told(netns: Netns, now: bool, *steps: tuple[Callable[[], object], bool]) -> list[list[bool]]:
    """What was told before the first step, and after each. Waited for is each time the word that should be the last: `now`, then
    that of each step."""
    news: list[list[bool]] = []

    async def main() -> None:
        watch = netns.call_sync(LinkWatch, "w0", Counters())
        something = asyncio.Event()

        def hear(up: bool) -> None:
            news[-1].append(up)
            something.set()

        news.append([])
        watch.start(hear)
        for step, last in ((None, now), *steps):
            if step is not None:
                news.append([])
                netns.call_sync(step)
            async with asyncio.timeout(20):
                while news[-1][-1:] != [last]:
                    something.clear()
                    await something.wait()
        watch.close()

    asyncio.run(main())
    return news


def test_down_and_up_are_told_and_first_what_it_is(space: Netns) -> None:
    first, down, up = told(space, True, (change(space, "w0", "down"), False), (change(space, "w0", "up"), True))
    assert set(first) == {True} and set(down) == {False}
    assert up[-1] is True  # perhaps after a False: the carrier comes a moment later


def test_a_device_that_is_down_already_and_one_that_loses_its_carrier(space: Netns) -> None:
    space.call_sync(change(space, "w1", "down"))
    (first,) = told(space, False)
    assert set(first) == {False}
    space.call_sync(change(space, "w1", "up"))
    first, lost = told(space, True, (change(space, "w1", "down"), False))
    assert first[-1] is True and lost[-1] is False


def test_a_device_that_is_deleted_and_a_route_over_it(space: Netns) -> None:
    def route() -> None:
        index = space.ipr.link_lookup(ifname="w0")[0]
        space.ipr.addr("add", index=index, address="192.0.2.1", prefixlen=24)

    def delete() -> None:
        space.ipr.link("del", index=space.ipr.link_lookup(ifname="w0")[0])

    _, routed, deleted = told(space, True, (route, True), (delete, False))
    assert routed[-1] is True and deleted[-1] is False


def test_other_devices_say_nothing(space: Netns) -> None:
    """The canary is the last step: it is heard, so the others would have been."""

    def others() -> None:
        space.ipr.link("add", ifname="x0", kind="veth", peer={"ifname": "x1"})
        change(space, "x0", "up")()
        change(space, "x0", "down")()
        change(space, "w0", "down")()

    _, heard = told(space, True, (others, False))
    assert heard == [False]


def test_a_device_that_is_not_there(space: Netns) -> None:
    with pytest.raises(LinkError, match="device nowhere cannot be watched"):
        space.call_sync(LinkWatch, "nowhere", Counters())


# ---- octets


@pytest.fixture(scope="module")
def watch() -> Iterator[LinkWatch]:
    made = LinkWatch("lo", Counters())
    yield made
    made._socket.close()


def link(index: int, flags: int, kind: int = 16, family: int = 0) -> bytes:
    body = IFINFO.pack(family, 0, index, flags, 0)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


def route(index: int) -> bytes:
    body = bytes(12) + struct.pack("=HHI", 8, 15, 254) + struct.pack("=HHI", 8, 4, index)
    return HEADER.pack(HEADER.size + len(body), 24, 0, 0, 0) + body


UP = 0x10001


def test_messages_of_one_datagram(watch: LinkWatch) -> None:
    i = watch.index
    many = link(i, UP) + link(i, 0x1) + route(i) + link(i + 1, 0) + link(i, UP, family=socket.AF_BRIDGE) + link(i, UP) + route(i)
    assert watch._news(many) == [True, False, True, True]  # no route is news of a device that is down
    assert watch._news(route(i + 1)) == []
    assert watch._news(link(i, UP, kind=17)) == [False] and watch._news(link(i, UP)) == [True]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_octets_that_are_no_messages_are_counted_or_passed_over(watch: LinkWatch, data: st.DataObject) -> None:
    octets = bytearray(link(watch.index, UP) + route(watch.index) + data.draw(st.binary(max_size=64)))
    for at in data.draw(st.lists(st.integers(0, len(octets) - 1), max_size=4)):
        octets[at] = data.draw(st.integers(0, 255))
    watch._news(bytes(octets[: data.draw(st.integers(0, len(octets)))]))


def test_a_length_that_leads_nowhere_ends_the_datagram(watch: LinkWatch) -> None:
    before = watch._counters.get("link_watch.malformed")
    assert watch._news(HEADER.pack(0, 16, 0, 0, 0) + link(watch.index, UP)) == []
    assert watch._news(link(watch.index, UP)[:-1]) == []
    assert watch._counters.get("link_watch.malformed") == before + 2

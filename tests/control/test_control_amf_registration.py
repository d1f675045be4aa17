"""Registration at the AMF over real TCP: the whole of it, and everything that must not work (R-100 to R-112)."""

import asyncio
import os

import pytest
from core_kit import SECOND_K, SECOND_SUPI, with_core
from core_steps import until
from ue_script import CAPABILITY, OPC, SNN, Closed, K

from fiveg.aka import MacFailure, SynchFailure
from fiveg.nas.causes import GmmCause
from fiveg.nas.gmm import (
    AuthenticationFailure,
    AuthenticationReject,
    AuthenticationRequest,
    AuthenticationResponse,
    DeregistrationAccept,
    DeregistrationRequest,
    GmmStatus,
    IdentityRequest,
    IdentityResponse,
    RegistrationReject,
    SecurityModeComplete,
    SecurityModeReject,
)
from fiveg.nas.identity import Guti, Suci
from fiveg.nas_security import Sht


def registered(core):
    return [e["access"] for e in core.amf_events.of("registered")]


@with_core(upf=False)
async def test_both_accesses_with_one_authentication(core):
    ue = core.ue()
    first = await ue.register("3gpp")
    assert first.accesses == {"3gpp"} and first.guti is not None
    second = await ue.register_second("non-3gpp")
    assert second.accesses == {"3gpp", "non-3gpp"} and second.guti == first.guti
    await until(lambda: registered(core) == ["3gpp", "non-3gpp"])
    assert core.amf_events.of("security_mode_done") == [{"access": "3gpp"}]
    assert core.amf.status()["ues"][0]["accesses"] == ["3gpp", "non-3gpp"]
    assert core.amf_counters.snapshot().get("nas.wrong_mac") is None
    text = str(core.amf_events.items)
    assert ue.k_amf.hex() not in text and K.hex() not in text
    ue.close()


@with_core(upf=False)
async def test_resynchronisation(core):
    ue = core.ue(sqn=0x5000)  # the USIM is ahead of the network
    challenge = await ue.challenge("3gpp")
    with pytest.raises(SynchFailure) as e:
        ue.usim.answer(challenge.rand, challenge.autn, SNN)
    ue.send("3gpp", AuthenticationFailure(cause=GmmCause.SYNCH_FAILURE, auts=e.value.auts).encode())
    again = await ue.hear("3gpp", AuthenticationRequest)
    assert again.rand != challenge.rand
    await ue.authenticate("3gpp", again)
    ue.say("3gpp", SecurityModeComplete(nas_message=ue.request()), Sht.CIPHERED_NEW)
    await ue.finish("3gpp")
    assert core.amf_counters.get("n1.resynchronised") == 1
    assert core.amf.subscriber(ue.supi).sqn > 0x5000
    ue.close()


@pytest.mark.parametrize("how", ["wrong auts", "no auts", "twice", "mac failure"])
@with_core(upf=False)
async def test_failures_of_authentication_end_it(core, how):
    ue = core.ue(sqn=0x5000)
    challenge = await ue.challenge("3gpp")
    with pytest.raises(SynchFailure) as e:
        ue.usim.answer(challenge.rand, challenge.autn, SNN)
    auts = e.value.auts
    cause = GmmCause.MAC_FAILURE if how == "mac failure" else GmmCause.SYNCH_FAILURE
    if how == "wrong auts":
        auts = bytes(14)
    ue.send("3gpp", AuthenticationFailure(cause=cause, auts=None if how == "no auts" else auts).encode())
    if how == "twice":
        again = await ue.hear("3gpp", AuthenticationRequest)
        ue.usim.sqn = 1 << 40
        with pytest.raises(SynchFailure) as e:
            ue.usim.answer(again.rand, again.autn, SNN)
        ue.send("3gpp", AuthenticationFailure(cause=cause, auts=e.value.auts).encode())
    await ue.hear("3gpp", AuthenticationReject)
    assert await ue.closed("3gpp")
    assert core.amf.subscriber(ue.supi).sqn < 1 << 40 and core.amf.ues() == []


@with_core(upf=False)
async def test_wrong_res(core):
    ue = core.ue()
    await ue.challenge("3gpp")
    ue.send("3gpp", AuthenticationResponse(res_star=bytes(16)).encode())
    await ue.hear("3gpp", AuthenticationReject)
    assert await ue.closed("3gpp")
    assert core.amf_counters.get("n1.authentication_failed") == 1 and core.amf.ues() == []


@with_core(upf=False)
async def test_a_ue_with_another_key_knows_that_the_network_is_not_its_own(core):
    ue = core.ue(k=bytes(16))
    challenge = await ue.challenge("3gpp")
    with pytest.raises(MacFailure):
        ue.usim.answer(challenge.rand, challenge.autn, SNN)
    ue.close()


async def refused_at_once(core, identity, capability, cause):
    ue = core.ue()
    await ue.connect("3gpp")
    ue.send("3gpp", ue.request(identity, capability=capability).encode())
    assert (await ue.hear("3gpp", RegistrationReject)).cause == cause
    assert await ue.closed("3gpp") and core.amf.ues() == []


@pytest.mark.parametrize(
    "identity",
    [
        Suci("001", "01", "0000000009"),
        Suci("310", "260", "123456789"),
        Suci("001", "01", "", scheme=1, protected=bytes(20)),
    ],
)
@with_core(upf=False)
async def test_strangers_are_refused_at_once(core, identity):
    await refused_at_once(core, identity, CAPABILITY, GmmCause.ILLEGAL_UE)


@pytest.mark.parametrize("capability", ["8080", "a080", "8020", None], ids=["NEA0-NIA0", "NIA0", "NEA0", "none"])
@with_core(upf=False)
async def test_a_ue_with_weaker_algorithms_only_is_refused_at_once(core, capability):
    """R-104: nothing below NEA2 and NIA2 is agreed."""
    octets = bytes.fromhex(capability) if capability is not None else None
    await refused_at_once(core, None, octets, GmmCause.UE_SECURITY_CAPABILITIES_MISMATCH)


@with_core(upf=False)
async def test_capabilities_changed_on_the_way(core):
    """R-104: the UE repeats its request under protection; what the AMF had read in clear is compared."""
    ue = core.ue()
    challenge = await ue.challenge("3gpp", ue.request(capability=bytes.fromhex("a0a0")))
    command = await ue.authenticate("3gpp", challenge)
    assert command.capability == bytes.fromhex("a0a0")
    ue.say("3gpp", SecurityModeComplete(nas_message=ue.request()), Sht.CIPHERED_NEW)
    await ue.hear("3gpp", RegistrationReject)
    assert core.amf_counters.get("n1.capability_changed") == 1 and core.amf.ues() == []


@with_core(upf=False)
async def test_security_mode_reject(core):
    ue = core.ue()
    await ue.authenticate("3gpp", await ue.challenge("3gpp"))
    ue.send("3gpp", SecurityModeReject(cause=GmmCause.SECURITY_MODE_REJECTED).encode())
    assert await ue.closed("3gpp")
    assert core.amf.ues() == []


@with_core(upf=False)
async def test_unknown_guti_is_asked_who_it_is(core):
    ue = core.ue()
    await ue.connect("3gpp")
    ue.send("3gpp", ue.request(Guti("001", "01", 1, 1, 0, b"\x01\x02\x03\x04")).encode())
    assert (await ue.hear("3gpp", IdentityRequest)).kind == 1
    ue.send("3gpp", IdentityResponse(identity=Suci.of(ue.supi, 2)).encode())
    await ue.authenticate("3gpp", await ue.hear("3gpp", AuthenticationRequest))
    ue.say("3gpp", SecurityModeComplete(nas_message=ue.request()), Sht.CIPHERED_NEW)
    await ue.finish("3gpp")
    ue.close()


@with_core(upf=False)
async def test_a_guti_with_a_wrong_mac_is_nobodys(core):
    """R-108: another UE's GUTI gets nothing but the question who one is, and its owner notices nothing."""
    ue, thief = core.ue(), core.ue()
    await ue.register()
    await thief.connect("non-3gpp")
    thief.security, thief.guti = ue.security, ue.guti
    octets = bytearray(ue.protected("non-3gpp", ue.request(ue.guti), Sht.INTEGRITY))
    octets[2] ^= 1
    thief.send("non-3gpp", bytes(octets))
    await thief.hear("non-3gpp", IdentityRequest)
    assert core.amf_counters.get("nas.wrong_mac") == 1
    assert core.amf.status()["ues"][0]["accesses"] == ["3gpp"]
    thief.close()
    ue.close()


@with_core(upf=False)
async def test_replays_wrong_macs_and_wrong_accesses_change_nothing(core):
    """R-100, R-102"""
    ue = core.ue()
    await ue.register("3gpp")
    await ue.register_second("non-3gpp")
    status = GmmStatus(cause=GmmCause.PROTOCOL_ERROR)
    first = ue.protected("3gpp", status)
    second = ue.protected("3gpp", status)
    other = ue.protected("non-3gpp", status)
    changed = bytearray(second)
    changed[-1] ^= 1
    for octets in (first, bytes(changed), first, second, second, first, other):
        ue.send("3gpp", octets)
    ue.send("non-3gpp", other)
    await until(lambda: core.amf_counters.get("nas.status_received") == 3)
    assert core.amf_counters.get("nas.replayed") == 3
    assert core.amf_counters.get("nas.wrong_mac") == 2
    ue.close()


@with_core(upf=False)
async def test_plain_messages_after_security_are_dropped(core):
    """R-103"""
    ue = core.ue()
    await ue.register()
    dereg = DeregistrationRequest(deregistration_type=1, identity=ue.guti)
    for message in (dereg, GmmStatus(cause=111), ue.request(), AuthenticationResponse(res_star=bytes(16))):
        ue.send("3gpp", message.encode())
    ue.say("3gpp", GmmStatus(cause=111))
    await until(lambda: core.amf_counters.get("nas.status_received") == 1)
    assert core.amf_counters.get("nas.plain_after_security") == 4
    assert core.amf.status()["ues"][0]["accesses"] == ["3gpp"]
    ue.close()


@with_core(upf=False)
async def test_messages_in_the_wrong_order(core):
    """R-111: what nobody asked for is ignored and counted, and the right procedure still works afterwards."""
    ue = core.ue()
    await ue.connect("3gpp")
    for message in (
        IdentityResponse(identity=Suci.of(ue.supi, 2)),
        AuthenticationResponse(res_star=bytes(16)),
        AuthenticationFailure(cause=GmmCause.SYNCH_FAILURE, auts=bytes(14)),
        SecurityModeReject(cause=24),
        SecurityModeComplete(),
        DeregistrationRequest(deregistration_type=1, identity=Suci.of(ue.supi, 2)),
    ):
        ue.send("3gpp", message.encode())
    ue.send("3gpp", ue.request().encode())
    await ue.authenticate("3gpp", await ue.hear("3gpp", AuthenticationRequest))
    ue.say("3gpp", SecurityModeComplete(nas_message=ue.request()), Sht.CIPHERED_NEW)
    await ue.finish("3gpp")
    await until(lambda: registered(core) == ["3gpp"])
    ue.close()


JUNK = [
    b"\x7e", b"\x00", b"\x7e\x00", b"\x7e\x00\xff", b"\x7e\x0f\x41", b"\x2e\x05\x01\xc1", b"\x7e\x02" + bytes(4),
    b"\x7e\x02" + bytes(40), b"\x7e\x04" + bytes(40), b"\x7e\x03" + bytes(40), b"\x7e\x01" + bytes(5) + b"\x7e\x00\x41",
    b"\x7e\x00\x41\x79\x00\x00", b"\x7e\x00\x41\x79\x00\x01\x01", b"\x7e\x00\x41\x79\xff\xff\x01",
    b"\x7e\x00\x41\x79\x00\x07\x01\x00\xf1\x10\xf0\xff\x00", b"\x7e\x00\x57\x2d\xff", b"\x7e\x00\x59",
    b"\x7e\x00\x5c\x00\x00",
]  # fmt: skip


@with_core(upf=False)
async def test_malformed_messages(core):
    """R-106: empty, cut off, unknown, lengths beyond the end, random: the AMF stays up and says what was wrong."""
    ue = core.ue()
    await ue.connect("3gpp")
    for octets in [*JUNK, *(b"\x7e\x00" + os.urandom(n) for n in range(1, 60))]:
        ue.send("3gpp", octets)
    await ue.links["3gpp"][1].drain()
    other = core.ue()
    await other.register("non-3gpp")
    assert core.amf_counters.get("nas.malformed") >= 5
    status = await ue.receive("3gpp")
    assert status[:3] == b"\x7e\x00\x64"
    assert not any("fault" in name for name in core.amf_counters.snapshot())
    ue.close()
    other.close()


@with_core(upf=False)
async def test_registering_again_replaces_what_was(core):
    ue = core.ue()
    await ue.register("3gpp")
    await ue.register_second("non-3gpp")
    again = core.ue(sqn=ue.usim.sqn)
    await again.register("3gpp")
    assert await ue.closed("3gpp") and await ue.closed("non-3gpp")
    assert again.guti != ue.guti and core.amf.status()["ues"][0]["accesses"] == ["3gpp"]
    again.close()


@with_core(upf=False)
async def test_coming_back_on_the_same_access_with_the_context(core):
    ue = core.ue()
    await ue.register("3gpp")
    ue.links["3gpp"][1].transport.abort()
    await ue.register_second("3gpp")
    assert core.amf_events.of("security_mode_done") == [{"access": "3gpp"}]
    assert core.amf.status()["ues"][0]["accesses"] == ["3gpp"]
    ue.close()


@with_core(upf=False)
async def test_deregistration(core):
    ue = core.ue()
    await ue.register("3gpp")
    await ue.register_second("non-3gpp")
    ue.say("3gpp", DeregistrationRequest(deregistration_type=1, identity=ue.guti))
    await ue.hear("3gpp", DeregistrationAccept)
    assert await ue.closed("3gpp")
    assert core.amf.status()["ues"][0]["accesses"] == ["non-3gpp"]
    ue.say("non-3gpp", DeregistrationRequest(deregistration_type=8 | 2, identity=ue.guti))
    assert await ue.closed("non-3gpp")
    assert core.amf.ues() == []


@with_core(upf=False)
async def test_two_ues_do_not_meet(core):

    one, two = core.ue(), core.ue(supi=SECOND_SUPI, k=SECOND_K)
    await asyncio.gather(one.register(), two.register())
    assert one.guti != two.guti and one.k_amf != two.k_amf
    octets = one.protected("3gpp", GmmStatus(cause=111))
    two.send("3gpp", octets)
    await until(lambda: core.amf_counters.get("nas.wrong_mac") == 1)
    one.close()
    two.close()


@with_core(upf=False)
async def test_a_stranger_cannot_end_a_registration(core):
    """Another who gives the same SUCI is challenged, and fails: the UE that is registered notices nothing."""
    ue, stranger = core.ue(), core.ue(k=OPC)
    await ue.register()
    await stranger.challenge("non-3gpp")
    stranger.send("non-3gpp", AuthenticationResponse(res_star=bytes(16)).encode())
    await stranger.hear("non-3gpp", AuthenticationReject)
    ue.say("3gpp", GmmStatus(cause=111))
    await until(lambda: core.amf_counters.get("nas.status_received") == 1)
    with pytest.raises(Closed):
        await stranger.receive("non-3gpp")
    ue.close()

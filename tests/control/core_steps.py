"""Steps that tests of the whole core share: a session with its accept, key containers on either access, answers to them."""

import asyncio

from fiveg import keys
from fiveg.key_container import KeyContainer, KeyContainerType
from fiveg.nas import gsm
from fiveg.nas.gmm import PayloadType

PSI = 5


def establishment(pti=1, psi=PSI, **more):
    more.setdefault("capability", gsm.GsmCapability())
    more.setdefault("session_type", gsm.SessionType.IPV4V6)
    return gsm.EstablishmentRequest(pdu_session_id=psi, pti=pti, **more).encode()


async def until(condition):
    while not (value := condition()):  # noqa: ASYNC110  (another task's state)
        await asyncio.sleep(0.005)
    return value


async def session(core, **more):
    """A UE registered on both accesses with an accepted session, and its accept."""
    ue = core.ue(**more)
    await ue.register("3gpp")
    await ue.register_second("non-3gpp")
    ue.ask_session("3gpp", PSI, establishment())
    message = await ue.down("3gpp")
    assert message.payload_type == PayloadType.N1_SM and message.pdu_session_id == PSI
    accept = gsm.decode(message.payload)
    assert isinstance(accept, gsm.EstablishmentAccept), accept
    return ue, accept


async def next_container(ue, access=None):
    """The next key container, on whichever access it comes."""
    if access is not None:
        message = await ue.down(access)
        assert message.payload_type == PayloadType.MPQUIC_KEY and message.pdu_session_id == PSI
        return access, KeyContainer.decode(message.payload)
    waiting = {asyncio.create_task(next_container(ue, a)) for a in ue.links}
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return done.pop().result()


def acknowledge(ue, access, provision, key=None):
    answer = KeyContainer(
        type=KeyContainerType.ACK, transaction=provision.transaction, generation=provision.generation,
        fingerprint=keys.fingerprint_octets(key or provision.key),
    )  # fmt: skip
    ue.container(access, PSI, answer.encode())


async def first_key(core, ue):
    access, provision = await next_container(ue)
    acknowledge(ue, access, provision)
    await until(lambda: in_force(core) == 1)
    return provision


def rekey(core, ue):
    """The AMF's verb."""
    return core.channel.verbs["rekey"]({"supi": ue.supi, "pdu_session_id": PSI})


def in_force(core):
    return next(iter(core.smf.contexts.values())).keys.in_force if core.smf.contexts else 0


def upf_keys(core):
    return next(iter(core.upf.keys.values()))

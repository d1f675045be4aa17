"""What removes the protection against an attack or a fault (rows R-nn) where Python has it (tests/rules/rule_sabotage.py)."""

from __future__ import annotations

import contextlib

import canary_node
from rule_sabotage import removes
from sabotage_mp_psk import psk_11


@removes
def r_16() -> None:
    """Python's share: what does not parse has no name. The engine's is in C."""
    psk_11()


@removes
def r_07() -> None:
    """A key has whatever role it is asked for."""
    from mpquic.psk import Psk

    Psk.claim = lambda self, role: True


@removes
def r_30() -> None:
    """Frames of streams break every rule unpunished."""
    from mpquic.errors import TransportError
    from mpquic.streams import Streams

    original = Streams.receive_frame

    def receive_frame(self, frame):
        with contextlib.suppress(TransportError):
            return original(self, frame)
        return []

    Streams.receive_frame = receive_frame


@removes
def r_34() -> None:
    """Every broken rule has the same code, and what waits has no bound."""
    from mpquic import h3
    from mpquic.errors import H3Error
    from mpquic.h3_codes import Code

    original = H3Error.__init__
    H3Error.__init__ = lambda self, code, *more: original(self, Code.GENERAL_PROTOCOL_ERROR, *more)
    h3.HELD_MOST = 1 << 62


@removes
def r_41() -> None:
    """A spent key makes connections on, of any session, each may ask for the address again, and two sessions may have one."""
    from upf.key_slots import KeySlots
    from upf.pfcp_agent import PfcpAgent
    from upf.proxy import Proxy

    original = Proxy._connect_ip

    def connect_ip(self, bound):
        bound.asked = False
        return original(self, bound)

    Proxy._connect_ip = connect_ip
    spend, last = KeySlots.spend, []

    def any_slot(self, identity):
        slot = spend(self, identity)
        last.extend([slot] if slot is not None else [])
        return last[-1]

    KeySlots.spend = any_slot
    KeySlots.is_known = lambda self, identity: False
    PfcpAgent._address_check = lambda self, rules, own: None
    canary_node.replace_spawn()


@removes
def r_105() -> None:
    """Any RES* is right; an AUTS is believed and changes nothing; other failures are answered with the next challenge."""
    from control.amf import registration
    from control.amf.registration_table import TABLE, Action, Event, State
    from fiveg.aka import AuthenticationVector

    AuthenticationVector.matches = lambda self, res_star: True
    registration.resynchronise = lambda milenage, rand, auts: 0
    registration.RESYNCHRONISATIONS = 99
    TABLE[State.AUTHENTICATING, Event.OTHER_FAILURE] = (State.AUTHENTICATING, Action.CHALLENGE)


@removes
def r_108() -> None:
    """Who is not known is sent away, and anybody may authenticate in anybody's name."""
    from control.amf.registration_table import TABLE, Action, Event, State
    from fiveg.aka import AuthenticationVector

    TABLE[State.DEREGISTERED, Event.REQUEST_UNKNOWN] = (State.CLOSED, Action.ABORT)
    AuthenticationVector.matches = lambda self, res_star: True


@removes
def r_121() -> None:
    """A session is everybody's."""
    from control.amf.ue_context import SmSession

    SmSession.owned_by = lambda self, peer: True


@removes
def r_122() -> None:
    """Whatever SUPI is asked for, some UE is found."""
    from control.amf.amf import Amf

    original = Amf.ue
    Amf.ue = lambda self, supi: original(self, supi) or next(iter(self._ues.values()), None)


@removes
def r_127() -> None:
    """Every question gets a new key."""
    from control.amf.mpquic_keys import MpquicKeys

    MpquicKeys._repetition = lambda self, key, data: False


@removes
def r_134() -> None:
    """The pools have no end."""
    from upf import pfcp_agent, rules

    for module in (pfcp_agent, rules):
        module.NoResources = _Never


class _Never(Exception):
    """An error that nobody handles: what it was to say is not said."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


@removes
def r_135() -> None:
    """What the data path could not do counts as done; a session that is over stays."""
    from upf.errors import DatapathError
    from upf.pfcp_agent import PfcpAgent

    def apply(self, change):
        with contextlib.suppress(DatapathError):
            change()

    PfcpAgent._apply = apply
    PfcpAgent._session_drop = lambda self, session, reason: None


@removes
def r_140() -> None:
    """The data path is not told of changes."""
    from upf.pfcp_agent import PfcpAgent

    PfcpAgent._apply = lambda self, change: None


@removes
def r_39() -> None:
    """Python's share: any address may be a session's."""
    from upf.config import UpfConfig

    UpfConfig.outside = lambda self: []


@removes
def r_111() -> None:
    """A message counts in whatever state it comes, and none is repeated."""
    from control.amf import registration
    from control.amf.registration_table import TABLE, Action, Event

    anywhere = {event: result for (_, event), result in TABLE.items()}

    def step(state, event):
        return (state, Action.IGNORE) if event is Event.TIMER else anywhere.get(event, (state, Action.IGNORE))

    registration.step = step


@removes
def r_126() -> None:
    """A procedure that failed leaves its session without a key in force."""
    from control.smf.key_procedure import KeyProcedure

    KeyProcedure._settle = lambda self: None


@removes
def r_51() -> None:
    """The first access is asked, and no other."""
    from mpquic.endpoint import Endpoint

    race = Endpoint._race
    Endpoint._race = lambda self, psk, ways: race(self, psk, ways[:1])


@removes
def r_52() -> None:
    """Python's share: what ended by itself is not replaced. That a path which fails is not given up is in C."""
    from ue.mpquic_client import MpquicClient

    MpquicClient._ask_for_key = lambda self, lasted: None


@removes
def r_172() -> None:
    """A connection ID that nobody announced stays unknown, the other byte order is not read, and no reason is told."""
    from lab.decrypt import Decryptor
    from lab.pcapng import PcapngReader

    Decryptor._process_unannounced = lambda self, slot, last_chance: False
    close, read_packet = Decryptor._close, PcapngReader._read_packet
    Decryptor._close = lambda self, slot, reason: close(self, slot, "")
    PcapngReader._read_packet = lambda self, body: read_packet(self, body) if self.little_endian else None
    PcapngReader._cut = lambda self, where: None

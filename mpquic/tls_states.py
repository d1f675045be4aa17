"""The PSK-only TLS 1.3 handshake as a table: two roles, three messages each. What is not in it is unexpected_message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from mpquic.tls_messages import MessageType


class Role(IntEnum):
    """Values of enum engine_role. A role is fixed per key: a client never answers as server (RFC 9257 §4.1)."""

    CLIENT = 0
    SERVER = 1


class Level(IntEnum):
    """Encryption levels; values of enum engine_level."""

    INITIAL = 0
    HANDSHAKE = 1
    ONE_RTT = 2


LEVELS = tuple(Level)  # by value


class Direction(IntEnum):
    SEND = 0
    RECEIVE = 1


class State(Enum):
    CLIENT_START = "client start"
    CLIENT_WAIT_SERVER_HELLO = "client waits for ServerHello"
    CLIENT_WAIT_ENCRYPTED_EXTENSIONS = "client waits for EncryptedExtensions"
    CLIENT_WAIT_FINISHED = "client waits for Finished"
    CLIENT_CONNECTED = "client connected"
    SERVER_WAIT_CLIENT_HELLO = "server waits for ClientHello"
    SERVER_WAIT_FINISHED = "server waits for Finished"
    SERVER_CONNECTED = "server connected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """At `level` this message is handled by the method `action`; then the state is `next`."""

    level: Level
    action: str
    next: State
    key_change: bool  # the receive keys change after it: nothing may be left over (RFC 9001 §4.1.3)


TABLE: dict[tuple[State, MessageType], Row] = {
    (State.SERVER_WAIT_CLIENT_HELLO, MessageType.CLIENT_HELLO): Row(
        Level.INITIAL, "client_hello", State.SERVER_WAIT_FINISHED, True
    ),
    (State.CLIENT_WAIT_SERVER_HELLO, MessageType.SERVER_HELLO): Row(
        Level.INITIAL, "server_hello", State.CLIENT_WAIT_ENCRYPTED_EXTENSIONS, True
    ),
    (State.CLIENT_WAIT_ENCRYPTED_EXTENSIONS, MessageType.ENCRYPTED_EXTENSIONS): Row(
        Level.HANDSHAKE, "encrypted_extensions", State.CLIENT_WAIT_FINISHED, False
    ),
    (State.CLIENT_WAIT_FINISHED, MessageType.FINISHED): Row(
        Level.HANDSHAKE, "server_finished", State.CLIENT_CONNECTED, True
    ),
    (State.SERVER_WAIT_FINISHED, MessageType.FINISHED): Row(
        Level.HANDSHAKE, "client_finished", State.SERVER_CONNECTED, True
    ),
    # Some peers send tickets unasked: read over them, a key makes one connection.
    (State.CLIENT_CONNECTED, MessageType.NEW_SESSION_TICKET): Row(
        Level.ONE_RTT, "new_session_ticket", State.CLIENT_CONNECTED, False
    ),
}

# The level that each state reads. It never goes down.
READING: dict[State, Level] = {state: Level.INITIAL for state in State} | {state: row.level for (state, _), row in TABLE.items()}
READING[State.SERVER_CONNECTED] = Level.ONE_RTT

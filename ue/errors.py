"""What can go wrong in the UE beyond NAS itself."""

from node.errors import NodeError


class UeError(NodeError):
    """Base of all errors of this package. Never holds a key."""


class RuleRefused(UeError):
    """ATSSS rules that this UE cannot honour; `reason` is a name for counters and events. Nothing of them is applied."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class SessionRefused(UeError):
    """The network does not give the PDU session that was asked for."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class DatapathError(UeError):
    """The data path could not do what it was told; nothing of it was applied."""


class HandshakeRefused(UeError):
    """The proxy refused the connection. `key_refused`: it did not take the key (unknown, wrong or spent: alike on the wire)."""

    def __init__(self, text: str, *, key_refused: bool) -> None:
        super().__init__(text)
        self.key_refused = key_refused


class NoAnswer(UeError):
    """Nobody answered over any access, or the connection ended under way. The key is not spent by that."""


class PathNotOpened(UeError):
    """A further path was not validated."""

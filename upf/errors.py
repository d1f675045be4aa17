"""What can go wrong in the UPF beyond PFCP itself."""

from node.errors import NodeError


class UpfError(NodeError):
    """Base of all errors of this package. Never holds a key."""


class DatapathError(UpfError):
    """The data path could not do what the rules say; nothing of it was applied."""


class KeyRefused(UpfError):
    """A key delivery that is not accepted; `reason` is a name for counters and events. The key in force stays."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

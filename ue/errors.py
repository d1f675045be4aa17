"""What can go wrong in the UE beyond the errors that `fiveg` and `mpquic` name."""

from node.errors import NodeError


class UeError(NodeError):
    """Base of the errors of this package."""


class NoAccess(UeError):
    """No access of the UE is registered, so nothing can be sent to the AMF now."""


class SessionRefused(UeError):
    """The PDU session cannot be: the network refused it, or what it sent cannot be followed."""

    def __init__(self, text: str, cause: int) -> None:
        super().__init__(text)
        self.cause = cause


class KeyRefused(UeError):
    """The UPF does not take this key, on any access, after all retries."""


class ConnectionLost(UeError):
    """The MPQUIC connection ended."""


class TunnelError(UeError):
    """The TUN could not be made or configured."""

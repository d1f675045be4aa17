"""What can go wrong in AMF and SMF beyond the errors that `fiveg` names."""

from node.errors import NodeError


class ControlPlaneError(NodeError):
    """Base of the errors of this package."""


class SbiUnreachable(ControlPlaneError):
    """The other NF did not answer: not connected, broken off, too late, or nothing that HTTP knows."""


class PfcpRefused(ControlPlaneError):
    """The UPF refused a request, or answered what makes no sense."""

    def __init__(self, text: str, cause: int | None = None) -> None:
        super().__init__(text)
        self.cause = cause


class PfcpUnreachable(ControlPlaneError):
    """No association, or no response after all retransmissions."""


class ProcedureFailed(ControlPlaneError):
    """A procedure ended without its result; the text says at which step."""

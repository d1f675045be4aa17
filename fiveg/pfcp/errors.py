"""What can be wrong with a PFCP message, each with the cause that the peer is told (TS 29.244 §7.6, §8.2.1)."""

from fiveg.errors import FivegError
from fiveg.pfcp.codes import Cause


class PfcpError(FivegError):
    """A PFCP message or procedure that is refused: the cause for the response, the offending IE, the failed rule."""

    cause = Cause.REQUEST_REJECTED

    def __init__(self, text: str, *, ie: int | None = None, rule: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.ie = ie
        self.rule = rule

    def within(self, ie: int) -> "PfcpError":
        """Name the IE that the value stood in, unless an inner one is named already."""
        if self.ie is None:
            self.ie = ie
        return self


class MandatoryIeMissing(PfcpError):
    cause = Cause.MANDATORY_IE_MISSING


class ConditionalIeMissing(PfcpError):
    cause = Cause.CONDITIONAL_IE_MISSING


class InvalidLength(PfcpError):
    cause = Cause.INVALID_LENGTH


class IeIncorrect(PfcpError):
    cause = Cause.MANDATORY_IE_INCORRECT


class SessionNotFound(PfcpError):
    cause = Cause.SESSION_CONTEXT_NOT_FOUND


class NotAllowed(PfcpError):
    """A peer that this node was not told of (TS 29.244 leaves the choice to the node, §8.2.1 has no closer cause)."""

    cause = Cause.REQUEST_REJECTED


class NoAssociation(PfcpError):
    cause = Cause.NO_ESTABLISHED_ASSOCIATION


class RuleFailure(PfcpError):
    """A rule that cannot be created or modified; `rule` is (RuleKind, id) for the Failed Rule ID IE."""

    cause = Cause.RULE_FAILURE


class NoResources(PfcpError):
    cause = Cause.NO_RESOURCES


class ServiceNotSupported(PfcpError):
    cause = Cause.SERVICE_NOT_SUPPORTED


class SystemFailure(PfcpError):
    cause = Cause.SYSTEM_FAILURE


class HeaderError(PfcpError):
    """Not a PFCP message that could be answered: dropped and counted."""


class VersionNotSupported(HeaderError):
    """Another PFCP version: answered with message type 11 (TS 29.244 §7.6.2)."""


class UnknownMessage(HeaderError):
    """A message type that we do not have: dropped and counted (TS 29.244 §7.6.4)."""

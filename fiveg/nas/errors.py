"""What can be wrong with a NAS message, each with the cause that the peer is told (TS 24.501 §7; 5GMM and 5GSM share
the numbers 95 to 111)."""

from fiveg.errors import FivegError
from fiveg.nas.causes import GmmCause


class NasError(FivegError):
    """A NAS message that is refused, or one that cannot be written."""

    cause: int = GmmCause.PROTOCOL_ERROR


class NasTooShort(NasError):
    """The message ends before what it announces (§7.2.1)."""

    cause = GmmCause.INVALID_MANDATORY_INFORMATION


class NasMandatoryIncorrect(NasError):
    """A mandatory IE is missing or cannot be (§7.5.1), or an unknown IE must be understood (§7.5.1; TS 24.007 §11.2.5)."""

    cause = GmmCause.INVALID_MANDATORY_INFORMATION


class NasOptionalIncorrect(NasError):
    """An optional IE that cannot be. §7.7.1 would have it treated as not there; here the message is refused, as §7.6 does
    with conditional ones: those that we read decide what is done (keys, rules, algorithms, DNN), and doing it without
    them would be something else than was asked for."""

    cause = GmmCause.CONDITIONAL_IE_ERROR


class NasUnknownType(NasError):
    """A message type, or protocol, that is not here (§7.4)."""

    cause = GmmCause.MESSAGE_TYPE_NON_EXISTENT


class NasValueError(NasError, ValueError):
    """A value that has no encoding: our own fault, found before it goes out."""

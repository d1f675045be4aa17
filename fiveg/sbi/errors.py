"""What a consumer is told when its request is refused: ProblemDetails (RFC 9457; TS 29.571 §5.2.4.1)."""

from dataclasses import dataclass

from fiveg.errors import FivegError


@dataclass(frozen=True, slots=True)
class InvalidParam:
    """A member by its path, as `/sNssai/sst`, and what is allowed there; never the value (it may be a key)."""

    param: str
    reason: str


class SbiError(FivegError):
    """A request, or a response of the peer, that is refused."""

    def __init__(self, status: int, cause: str, detail: str = "", invalid_params: tuple[InvalidParam, ...] = ()) -> None:
        where = "; ".join(f"{p.param}: {p.reason}" for p in invalid_params)
        super().__init__(f"{status} {cause}" + (f": {detail}" if detail else "") + (f" ({where})" if where else ""))
        self.status = status
        self.cause = cause
        self.detail = detail
        self.invalid_params = invalid_params


def malformed(detail: str) -> SbiError:
    """A body that is not what its content type says (TS 29.500 §5.2.7.2)."""
    return SbiError(400, "INVALID_MSG_FORMAT", detail)

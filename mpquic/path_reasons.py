"""Why a path carries nothing: the engine's codes (enum path_reason), their words, and what is meant. `mpq status`, `mpq top`, the
report and docs/seeing.md all say it with these."""

from __future__ import annotations

from dataclasses import dataclass

from native import lib


@dataclass(frozen=True, slots=True)
class PathReason:
    """`words` are in events, metrics and on the screen; `by_rule`: the number of the steering rule stands behind them."""

    code: int
    words: str
    meaning: str
    by_rule: bool = False


PATH_REASONS = (
    PathReason(lib.REASON_NONE, "", "it carries, or could"),
    PathReason(lib.REASON_NOT_VALIDATED, "not validated", "PATH_CHALLENGE is under way: what comes of it is not known yet"),
    PathReason(lib.REASON_NO_ANSWER, "no answer", "nothing came back: for one PTO it is suspect, for three it has failed"),
    PathReason(lib.REASON_STANDBY_BY_RULE, "standby by rule", "no rule puts traffic there while the other path is well", True),
    PathReason(lib.REASON_PEER_BACKUP, "backup by the peer", "the other end asked for it (PATH_STATUS_BACKUP)"),
    PathReason(lib.REASON_BY_PEER, "abandoned by the peer", "the other end closed it (PATH_ABANDON)"),
    PathReason(lib.REASON_BY_APPLICATION, "abandoned by the application", "this end closed it"),
    PathReason(lib.REASON_VALIDATION_FAILED, "validation failed", "no PATH_RESPONSE came: it was given up"),
    PathReason(lib.REASON_NO_CID, "no connection ID", "the other end has given no connection ID for it"),
    PathReason(lib.REASON_NO_FLOW, "no flow", "nothing was sent there for 2 s: no flow is there, or no traffic at all"),
    PathReason(lib.REASON_SHORTER_ELSEWHERE, "the other path is shorter", "smallest delay: all flows are on the other access"),
    PathReason(lib.REASON_OVER_THRESHOLD, "RTT or loss over threshold", "it is above a threshold of its rule, the other is not"),
    PathReason(lib.REASON_LINK_DOWN, "link down", "its interface is down, as the host says"),
    PathReason(lib.REASON_WITHIN_THRESHOLD, "primary within threshold", "redundant: all goes once while the primary is well"),
)
_BY_CODE = {reason.code: reason for reason in PATH_REASONS}


def path_reason(code: int, rule: int = 0) -> str:
    """In words; `rule`: the rule_id of the steering rule that is the reason, 0 of none."""
    reason = _BY_CODE.get(code)
    if reason is None:
        return f"reason {code}"
    return f"{reason.words} {rule}" if reason.by_rule and rule else reason.words

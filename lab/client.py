"""What every verb uses to ask a running lab."""

from __future__ import annotations

import json
import socket
from typing import Any

from lab.errors import LabError, Misuse
from lab.state import StateDir

ANSWER_LIMIT = 64 << 20
LONGEST_S = 86_400.0  # that a command may run


def ask(lab: str, verb: str, args: dict[str, Any] | None = None, limit: float | None = 60.0) -> Any:
    """`limit`: None waits for ever. The result, or LabError / Misuse as the lab says."""
    state = StateDir(lab)
    if not state.running():
        raise LabError(f"no lab {lab!r} is up; `mpq up --lab {lab}` brings it up")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(limit)
        try:
            sock.connect(str(state.socket))
        except FileNotFoundError:
            raise LabError(f"lab {lab} is still coming up, or ending; `mpq down --lab {lab}` ends it") from None
        except OSError as error:
            raise LabError(f"lab {lab} does not answer: {error.strerror}; `mpq down --lab {lab}` ends it") from None
        try:
            sock.sendall(json.dumps({"verb": verb, "args": args or {}}).encode() + b"\n")
            data = bytearray()
            while not data.endswith(b"\n"):
                part = sock.recv(1 << 16)
                if not part or len(data) > ANSWER_LIMIT:
                    raise LabError(f"lab {lab} ended before it answered")
                data += part
        except TimeoutError:
            raise LabError(f"lab {lab}: no answer to {verb} in {limit:g} s") from None
        except OSError as error:
            raise LabError(f"lab {lab} ended before it answered: {error.strerror}") from None
    answer = json.loads(data)
    if answer.get("ok") is True:
        return answer.get("result")
    raise (Misuse if answer.get("exit") == 2 else LabError)(str(answer.get("error")))

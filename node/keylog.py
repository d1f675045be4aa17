"""The verb `keylog`: a node begins to write the TLS secrets of its connections. Only a user's wish sets it off; nothing ends it but
the node's end, as the secrets that are in the file stay there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.control import ControlChannel
from node.errors import NodeError, VerbError


def keylog_verb(channel: ControlChannel, *openers: Callable[[Path], None], already: Path | None = None) -> None:
    """Each of `openers` begins to log; `already`: the file that the configuration names."""
    known = {already}

    async def keylog(args: dict[str, Any]) -> dict[str, Any]:
        """args {"file": absolute path} -> the same; of connections that are made from now on."""
        name = args.get("file")
        if not isinstance(name, str) or not name.startswith("/") or "\0" in name:
            raise VerbError("misused", "keylog needs file (an absolute path)")
        path = Path(name)
        if path not in known:
            try:
                for opener in openers:
                    opener(path)
            except (NodeError, OSError) as error:
                raise VerbError("failed", f"the key log cannot be written: {error}") from None
            known.add(path)
        return {"file": name}

    channel.verb("keylog", keylog)

"""`make soak` (MPQ_SOAK=1) runs tests/soak, which takes longer than `make test` may."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("MPQ_SOAK") == "1" else ["soak/*"]

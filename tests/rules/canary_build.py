"""The engine with switches (native/src/rules.h), built into build/canary: for tests only, beside the production build."""

from __future__ import annotations

import fcntl
from pathlib import Path

from rule_catalogue import ROOT

TARGET = ROOT / "build" / "canary"


def library() -> Path | None:
    return next(iter(TARGET.glob("native/_engine*.so")), None)


def build() -> Path:
    """The shared library, made anew if a source is younger."""
    from native.build_ffi import make_builder

    TARGET.mkdir(parents=True, exist_ok=True)
    sources = [ROOT / "native" / "engine.cdef", ROOT / "native" / "build_ffi.py", *(ROOT / "native" / "src").iterdir()]
    with (TARGET / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = library()
        if made is None or any(s.stat().st_mtime > made.stat().st_mtime for s in sources):
            make_builder(f"{ROOT}/", "-O1", "-DENGINE_CANARIES").compile(tmpdir=str(TARGET))
            made = library()
    assert made is not None
    return made

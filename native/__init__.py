"""The C engine (`native/src`) and its binding: `ffi` and `lib` of engine.cdef."""

from __future__ import annotations

from native._engine import ffi, lib

__all__ = ["ffi", "lib"]

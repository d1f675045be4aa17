"""Secrets in a process: a holder that never shows them, key files that nobody else can read, no core dumps."""

from __future__ import annotations

import ctypes
import hmac
import os
import resource
import stat
from pathlib import Path
from typing import Any, NoReturn

from node.errors import ConfigError

PR_SET_DUMPABLE = 4
SECRET_FILE_LIMIT = 1 << 20


class Secret:
    """Octets that must not be printed, pickled, compared by hash or written as JSON. Only `reveal()` shows them."""

    __slots__ = ("__weakref__", "_data")

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = bytearray(data)

    @classmethod
    def from_hex(cls, text: str, size: int | None = None) -> Secret:
        try:
            data = bytearray.fromhex(text.strip())
        except ValueError:
            raise ConfigError("a secret must be written as hex digits") from None  # never the text itself
        if size is not None and len(data) != size:
            raise ConfigError(f"a secret must have {size} octets, this one has {len(data)}")
        return cls(data)

    def reveal(self) -> bytes:
        return bytes(self._data)

    def __del__(self) -> None:
        self.wipe()  # whoever forgot to: freed memory holds no key

    def wipe(self) -> None:
        """Overwrite in place. Copies that `reveal()` gave away are their holders' business."""
        for i in range(len(self._data)):
            self._data[i] = 0
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return len(self._data) > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._data, other._data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<secret {len(self._data)}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret is not copied by accident: Secret(other.reveal())")


def read_secret_file(path: str | Path) -> str:
    """Text of a file that only its owner may read; a more open one is refused, so that a leak is noticed at start."""
    path = Path(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a FIFO must not hold us up
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    with os.fdopen(fd, "rb") as f:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path}: must be a regular file")
        if info.st_mode & 0o077:
            raise ConfigError(f"{path}: holds secrets and must have mode 0600, it has {stat.S_IMODE(info.st_mode):04o}")
        data = f.read(SECRET_FILE_LIMIT + 1)
    if len(data) > SECRET_FILE_LIMIT:
        raise ConfigError(f"{path}: larger than {SECRET_FILE_LIMIT} octets")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: must be UTF-8 text") from None


def read_secret(path: str | Path, size: int) -> Secret:
    """One secret in hex from a file of mode 0600."""
    text = read_secret_file(path)
    try:
        return Secret.from_hex(text, size)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from None


def write_secret_file(path: str | Path, text: str) -> None:
    """Create (never overwrite) a file of mode 0600: there is no moment at which others can read it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as f:
        f.write(text)


def disable_core_dumps() -> None:
    """Keys stay out of core files, and other processes of the same user cannot read our memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)

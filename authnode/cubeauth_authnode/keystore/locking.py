"""One owner at a time: a lock on a file beside the database.

It is the kernel's (flock(2)), so it ends with the process however that ends.
A child that was forked shares it, so children drop their copy at once: else a
worker that outlives a killed parent would keep the next one out.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_runtime.files import PRIVATE

MAX_PID_BYTES = 32

_held: set[int] = set()


def _drop_in_child() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)


class OwnerLock:
    """Held from `take` to `release`. The file stays: taking it away would let two owners lock two files of one name."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _held.add(fd)

    @classmethod
    def take(cls, database: Path) -> OwnerLock:
        """Raises KeystoreUnusable naming the process that owns it."""
        path = database.with_name(f"{database.name}.lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as e:
            raise KeystoreUnusable(f"{path}: cannot be opened: {e.strerror}; look at its owner and mode") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(fd, MAX_PID_BYTES, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise KeystoreUnusable(f"{database}: in use by process {owner or '(unknown)'}; stop that one first") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(fd)

    def release(self) -> None:
        if self._fd in _held:
            _held.remove(self._fd)
            os.close(self._fd)

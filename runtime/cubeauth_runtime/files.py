"""Files: written whole or not at all, read with a bound."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from cubeauth.errors import InputError

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of any configuration, manifest, key or ticket file; larger is a mistake, not a file of ours."""

PRIVATE = 0o600


def read_bounded(path: Path, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """The file's bytes. Raises InputError (source is the path) for what cannot be read or is over `limit` bytes."""
    try:
        with open(path, "rb", opener=_open_at_once) as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                raise InputError("", "not a regular file", "name a file; what a pipe gives, save first", source=str(path))
            content = f.read(limit + 1)
    except OSError as e:
        raise InputError("", f"cannot be read: {e.strerror}", _remedy(e), source=str(path)) from None
    if len(content) > limit:
        raise InputError("", f"larger than {limit} bytes", "is this the right file?", source=str(path))
    return content


def _open_at_once(name: str, flags: int) -> int:
    """A FIFO would wait here for a writer that may never come."""
    return os.open(name, flags | os.O_NONBLOCK)


def _remedy(error: OSError) -> str:
    return "look at its owner and mode" if error.errno in (errno.EACCES, errno.EPERM) else "is the path right?"


def read_text(path: Path, *, limit: int = MAX_FILE_BYTES) -> str:
    """The file as UTF-8. Raises InputError."""
    try:
        return read_bounded(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("", "not UTF-8 text", "save it as UTF-8", source=str(path)) from None


def write_atomically(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Write a sibling, sync it, rename it over `path`, sync the folder: after a crash there is the old file or the new one.

    Raises InputError where the folder cannot be written.
    """
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as e:
        raise InputError("", f"cannot be written: {e.strerror}", source=str(path)) from None
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as f:
            os.fchmod(f.fileno(), mode)
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise InputError("", f"cannot be written: {e.strerror}", source=str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

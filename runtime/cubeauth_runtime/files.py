"""Files: written whole or not at all, read with a bound."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cubeauth.errors import InputError

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of any configuration, manifest, key or ticket file; larger is a mistake, not a file of ours."""

PRIVATE = 0o600


def read_bounded(path: Path, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """The file's bytes. Raises InputError (source is the path) for what cannot be read or is over `limit` bytes."""
    try:
        with path.open("rb") as f:
            content = f.read(limit + 1)
    except OSError as e:
        raise InputError("", f"cannot be read: {e.strerror}", source=str(path)) from None
    if len(content) > limit:
        raise InputError("", f"larger than {limit} bytes", "is this the right file?", source=str(path))
    return content


def read_text(path: Path, *, limit: int = MAX_FILE_BYTES) -> str:
    """The file as UTF-8. Raises InputError."""
    try:
        return read_bounded(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("", "not UTF-8 text", source=str(path)) from None


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

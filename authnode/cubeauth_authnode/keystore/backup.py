"""Copies of a keystore: taken while its owner runs, checked, put back.

A copy is one file that needs nothing beside it but the root key. Put back
where a newer store was, it is an older store, which the witness tells at the
next start.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cubeauth.errors import InputError
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore import contents, schema
from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_authnode.keystore.connection import check_pages, connect, translated
from cubeauth_authnode.keystore.filesystem import prepare_folder, refuse_network
from cubeauth_authnode.keystore.locking import OwnerLock
from cubeauth_authnode.keystore.sealing import Seals
from cubeauth_runtime.files import sync_folder

_STORE_FILES = ("", "-wal", "-shm")
"""The database and what SQLite keeps beside it; a log left beside another database would be taken for that one's."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a copy holds. authenticated: every row was opened with the root key; without it the file's word is all there is."""

    keystore_id: str
    sequence: int
    keys: int
    schema_version: int
    authenticated: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """kept: where the files that were there before are now."""

    facts: Facts
    kept: tuple[Path, ...]


def backup(path: Path, target: Path, *, root_key: SecretBytes | None = None) -> Facts:
    """Copy the store at `path`, in use or not, to the new file `target`, and check the copy before it has that name.

    Raises KeystoreUnusable, and InputError for a target that is there already or cannot be written.
    """
    _require_file(path)
    if target.exists():
        raise InputError("", "is there already", "name another file, or move that one away", source=str(target))
    with _new_file(target) as temporary:
        with translated(path), closing(connect(path, read_only=True)) as source:
            schema.identify(source, path)
            with translated(target), closing(connect(temporary)) as made:
                source.backup(made)
                made.execute("PRAGMA journal_mode = DELETE")
        return _check(temporary, path, root_key)


def check(file: Path, *, root_key: SecretBytes | None = None) -> Facts:
    """Look at a copy that no program uses. Raises KeystoreUnusable where it is damaged, or not of this root key."""
    _require_file(file)
    return _check(file, file, root_key)


def restore(copy: Path, path: Path, *, root_key: SecretBytes, replace: bool = False) -> Restored:
    """Put a checked copy at `path`. replace: where a store is there, keep its files under other names.

    Raises KeystoreUnusable where an owner runs or the copy is no good, and InputError where a store is there.
    """
    _require_file(copy)
    prepare_folder(path.parent)
    refuse_network(path)
    lock = OwnerLock.take(path)
    try:
        if path.exists() and not _is_empty(path) and not replace:
            raise InputError("", "is there already", "write --replace to put it aside", source=str(path))
        with _new_file(path) as temporary:
            shutil.copyfile(copy, temporary)
            facts = _check(temporary, copy, root_key)
            kept = _put_aside(path)
        return Restored(facts, kept)
    finally:
        lock.release()


def _check(file: Path, named: Path, root_key: SecretBytes | None) -> Facts:
    """named: the file that a person knows it by."""
    with translated(named), closing(connect(file, read_only=True)) as connection:
        version = schema.identify(connection, named)
        if version == 0:
            raise KeystoreUnusable(f"{named}: empty; name a keystore's database, or a copy of one")
        check_pages(connection, named)
        if root_key is not None:
            meta = contents.load(connection, Seals(root_key), named).meta
        else:
            meta, _ = contents.read_meta(connection, named)
        return Facts(meta.keystore_id, meta.sequence, _count_keys(connection), version, root_key is not None)


def _count_keys(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM keys WHERE state = ?", (contents.LIVE,)).fetchone()[0])


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise KeystoreUnusable(f"{path}: no such file; name a keystore's database, or a copy of one")


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _is_empty(path: Path) -> bool:
    """Whether `path` is what a start leaves that was refused for want of a store."""
    return not any(file.exists() and file.stat().st_size for file in (path, _beside(path, "-wal")))


def _put_aside(path: Path) -> tuple[Path, ...]:
    """Rename the files of a store so that the kept database and its log still find each other."""
    there = [end for end in _STORE_FILES if _beside(path, end).exists()]
    if _is_empty(path):
        for end in there:
            _beside(path, end).unlink()
        return ()
    number = next(n for n in count(1) if not any(_beside(path, f".replaced-{n}{end}").exists() for end in there))
    return tuple(_beside(path, end).rename(_beside(path, f".replaced-{number}{end}")) for end in there)


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """An empty private sibling of `target`, which is synced and gets that name at the end; nothing is left of it on an error."""
    try:
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as e:
        raise InputError("", f"cannot be written: {e.strerror}", source=str(target)) from None
    temporary = Path(name)
    try:
        yield temporary
        os.fsync(fd)
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as e:
        raise InputError("", f"cannot be written: {e.strerror}", source=str(target)) from None
    finally:
        os.close(fd)
        for end in ("", "-journal", "-wal", "-shm"):
            _beside(temporary, end).unlink(missing_ok=True)

"""Connections to SQLite, and its errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cubeauth_authnode.keystore.base import KeystoreUnusable

BUSY_SECONDS = 5.0
"""How long a lock of another program, a person's sqlite3 shell say, is waited for."""

RESTORE = "restore a backup (cubeauth authnode restore)"


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to an existing file, without SQLite's own transactions: BEGIN and COMMIT are ours.

    It may be handed from thread to thread; its user sees to it that one thread at a time uses it.
    """
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    # A damaged text must fail the row's authentication, by its name, and not SQLite's adapter.
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything inside, durable at the end; or nothing."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(source: Path) -> Iterator[None]:
    """SQLite's errors as KeystoreUnusable naming the file."""
    try:
        yield
    except sqlite3.Error as e:
        raise unusable(source, e) from None


def unusable(source: Path, error: sqlite3.Error) -> KeystoreUnusable:
    """One line: what SQLite says, and what to do."""
    match primary_code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            text = f"damaged: {error}; {RESTORE}"
        case sqlite3.SQLITE_FULL:
            text = "the disk is full; nothing was written: make room"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            text = "another program holds a lock on the database; end it"
        case _:
            text = f"cannot be read or written: {error}; look at the disk and the file's owner"
    return KeystoreUnusable(f"{source}: {text}")


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without the extension in its upper bytes (https://sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def check_pages(connection: sqlite3.Connection, source: Path) -> None:
    """SQLite's own check of the file's structure. Raises KeystoreUnusable."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise KeystoreUnusable(f"{source}: damaged: {' '.join(found.split())}; {RESTORE}")

"""The tables, and how an older file becomes a newer one.

`application_id` says that a file is ours, `user_version` is its schema
version: the number of migrations that were run on it. Both change in one
transaction with what they speak of.
"""

from __future__ import annotations

import sqlite3
from itertools import chain
from pathlib import Path

from cubeauth_authnode.keystore.base import KeystoreUnusable

APPLICATION_ID = int.from_bytes(b"CbKS", "big")

Migration = tuple[str, ...]

_V1: Migration = (
    """CREATE TABLE meta (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        keystore_id TEXT NOT NULL,
        root_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        kvno_floor INTEGER NOT NULL,
        create_ts_floor INTEGER NOT NULL,
        mac BLOB NOT NULL
    )""",
    # access_key is inside `sealed` with the other key material; the owner's ledger is the index.
    """CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        kvno INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('live', 'deleted')),
        role TEXT NOT NULL,
        create_ts INTEGER NOT NULL,
        caps TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) WITHOUT ROWID""",
)

MIGRATIONS: tuple[Migration, ...] = (_V1,)


def identify(connection: sqlite3.Connection, source: Path, *, known: int = len(MIGRATIONS)) -> int:
    """The schema version of a keystore's file; 0 where there is nothing in it yet.

    Raises KeystoreUnusable for a file that is not a keystore, or is of a version above `known`. Nothing is written.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID or version < 1:
        raise KeystoreUnusable(f"{source}: an SQLite database, but not a keystore; name another file")
    if version > known:
        raise KeystoreUnusable(
            f"{source}: has schema version {version}, and this program knows versions up to {known}; run a newer cubeauth"
        )
    return version


def migrate(connection: sqlite3.Connection, version: int, *, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring a file of schema `version` up to the last of `migrations`; inside the caller's transaction."""
    for statement in chain.from_iterable(migrations[version:]):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(migrations)}")

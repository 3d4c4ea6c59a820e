"""The keystore in one SQLite file: for a single Authnode, or a test.

The whole store is in memory as a ledger, checked row by row when it is
opened; the file is for durability. A batch is planned on the ledger, written
in one transaction (WAL, synchronous=FULL), witnessed, and only then merged:
readers never see what the disk does not have.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from cubeauth import entropy as chance
from cubeauth.entropy import Entropy
from cubeauth.errors import InputError
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore import contents, schema
from cubeauth_authnode.keystore.base import Change, KeystoreError, KeystoreStalled, KeystoreUnusable, Write
from cubeauth_authnode.keystore.connection import (
    RESTORE,
    check_pages,
    connect,
    primary_code,
    transaction,
    translated,
    unusable,
)
from cubeauth_authnode.keystore.contents import Contents, Meta, RowSum
from cubeauth_authnode.keystore.filesystem import prepare_file, prepare_folder, refuse_network
from cubeauth_authnode.keystore.ledger import Floors, Plan, plan
from cubeauth_authnode.keystore.locking import OwnerLock
from cubeauth_authnode.keystore.sealing import Seals
from cubeauth_authnode.keystore.witness import ACCEPT, Finding, Witness, WitnessFile, compare

log = logging.getLogger("cubeauth.keystore")

KEYSTORE_ID_BYTES = 16

ACCEPTED_JUMP = 2**32
"""Sequences that are passed over when an older copy is accepted: more than any lost history has, seen by the witness or not."""

UNSEEN_CREATE_TS_SECONDS = 86_400
"""How far above every known create_ts new ones begin when an older copy is accepted and the witness, which knew, is lost."""


class SqliteKeystore:
    """A Keystore (base.py). Made by `open`; one thread at a time."""

    def __init__(
        self,
        *,
        path: Path,
        connection: sqlite3.Connection,
        lock: OwnerLock,
        witness: WitnessFile,
        seals: Seals,
        found: Contents,
        entropy: Entropy,
    ) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._witness = witness
        self._seals = seals
        self._meta = found.meta
        self._ledger = found.ledger
        self._row_sum = found.row_sum
        self._entropy = entropy
        self._refusal = ""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        root_key: SecretBytes,
        witness: Path,
        now: int,
        accept_older: bool = False,
        entropy: Entropy = chance.system,
    ) -> SqliteKeystore:
        """Own the store at `path`, made where there is none, and check all of it.

        witness: a file in another folder than the store's. now: unix seconds. accept_older: go on with a store that is older than
        its witness, or whose witness is lost, above everything that the lost history may have given out.
        Raises KeystoreUnusable, and InputError for arguments that cannot be.
        """
        if witness.parent.resolve() == path.parent.resolve():
            raise InputError(
                "witness", f"{witness} is in the store's own folder", "a copy put back would bring it along: name another"
            )
        seals = Seals(root_key)
        prepare_folder(path.parent)
        refuse_network(path)
        with ExitStack() as undo:
            lock = OwnerLock.take(path)
            undo.callback(lock.release)
            prepare_file(path)
            with translated(path):
                connection = connect(path)
                undo.callback(connection.close)
                witness_file = WitnessFile(witness, seals)
                witness_file.prepare()
                found = _load_or_make(connection, path, seals, witness_file, entropy)
                store = cls(
                    path=path,
                    connection=connection,
                    lock=lock,
                    witness=witness_file,
                    seals=seals,
                    found=found,
                    entropy=entropy,
                )
                store._stand_by_witness(accept_older, now)
            undo.pop_all()
        return store

    @property
    def keystore_id(self) -> str:
        return self._meta.keystore_id

    @property
    def sequence(self) -> int:
        return self._meta.sequence

    def records(self) -> Iterator[KeyRecord]:
        return self._ledger.records()

    def get(self, principal: str) -> KeyRecord:
        return self._ledger.get(principal)

    def find_access_key(self, access_key: str) -> KeyRecord:
        return self._ledger.find_access_key(access_key)

    def apply(self, writes: Sequence[Write], *, now: int) -> list[Change | KeystoreError]:
        if self._refusal:
            raise KeystoreUnusable(f"{self._path}: {self._refusal}")
        meta = self._meta
        planned = plan(self._ledger, writes, sequence=meta.sequence, floors=meta.floors, now=now, entropy=self._entropy)
        if planned.changed:
            self._commit(planned)
        return planned.outcomes

    def close(self) -> None:
        """Leave one file, without a log of pages beside it, and let the next owner in."""
        self._refusal = "closed"
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as e:  # the log stays and is read again by the next owner: nothing is lost
            log.warning("%s", unusable(self._path, e))
        finally:
            self._connection.close()
            self._lock.release()

    def _commit(self, planned: Plan) -> None:
        meta = replace(self._meta, sequence=planned.sequence)
        rows = [
            contents.seal_row(self._seals, meta.keystore_id, entry, sequence, self._entropy)
            for entry, sequence in planned.changed.values()
        ]
        high = max(self._ledger.create_ts_high, *(entry.create_ts for entry, _ in planned.changed.values()))
        try:
            with transaction(self._connection):
                digests = contents.write(self._connection, self._seals, meta, self._row_sum, rows)
        except sqlite3.Error as e:
            # These are sure to have left nothing; what a failed sync left is known when the log is read again.
            if primary_code(e) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
                raise KeystoreStalled(str(unusable(self._path, e))) from None
            self._refusal = f"takes no writes since one failed ({e}); start again when the disk is well"
            raise unusable(self._path, e) from None
        try:
            self._witness.write(Witness(meta.keystore_id, meta.sequence, high))
        except KeystoreUnusable:
            self._refusal = "takes no writes since its witness could not be written; start again when it can"
            raise
        self._row_sum.merge(digests)
        self._ledger.merge([entry for entry, _ in planned.changed.values()])
        self._meta = meta

    def _stand_by_witness(self, accept_older: bool, now: int) -> None:
        """Judge the store by its witness, and bring the witness up to the store. Raises KeystoreUnusable."""
        seen = self._witness.read()
        finding = compare(seen, self.keystore_id, self.sequence)
        if finding is Finding.FOREIGN:
            raise KeystoreUnusable(
                f"{self._witness.path}: the witness of keystore {seen.keystore_id if seen else ''}, and {self._path} is keystore "
                f"{self.keystore_id}; name the file that belongs to the store"
            )
        if finding is not Finding.CURRENT:
            if not accept_older:
                raise KeystoreUnusable(self._why_older(seen))
            self._accept(seen, now)
        elif accept_older:
            log.warning("%s is not older than its witness: take %s away, it would hide the next time", self._path, ACCEPT)
        current = Witness(self.keystore_id, self.sequence, self._ledger.create_ts_high)
        if seen != current:
            self._witness.write(current)

    def _why_older(self, seen: Witness | None) -> str:
        if seen is None:
            return (
                f"{self._witness.path}: missing, so it cannot be told whether {self._path} is an older copy; "
                f"put the witness back, or if it is lost start once with {ACCEPT}"
            )
        return (
            f"{self._path}: an older copy was put back: it is at write {self.sequence}, its witness {self._witness.path} saw "
            f"{seen.sequence}; {RESTORE} that is newer, or start once with {ACCEPT} and lose the writes between"
        )

    def _accept(self, seen: Witness | None, now: int) -> None:
        """Go on above the lost history. A kvno is never above the sequence of its write, so a sequence clears all of them."""
        sequence = max(self.sequence, seen.sequence if seen else 0) + ACCEPTED_JUMP
        known = self._ledger.create_ts_high
        create_ts = max(known, seen.create_ts_high) if seen else max(known, now) + UNSEEN_CREATE_TS_SECONDS
        meta = replace(self._meta, sequence=sequence, floors=Floors(kvno=sequence, create_ts=create_ts))
        with transaction(self._connection):
            contents.write(self._connection, self._seals, meta, self._row_sum, [])
        log.warning("%s: an older copy is accepted at write %d; it goes on at %d", self._path, self.sequence, sequence)
        self._meta = meta
        self._ledger.create_ts_high = create_ts


def _load_or_make(connection: sqlite3.Connection, path: Path, seals: Seals, witness: WitnessFile, entropy: Entropy) -> Contents:
    version = schema.identify(connection, path)
    if version == 0 and witness.path.exists():
        raise KeystoreUnusable(
            f"{path}: there is no keystore, and its witness {witness.path} knows one; {RESTORE}, "
            "or move the witness away to begin anew"
        )
    _configure(connection, path)
    check_pages(connection, path)
    if version < len(schema.MIGRATIONS):
        with transaction(connection):
            schema.migrate(connection, version)
            if version == 0:
                meta = Meta(entropy(KEYSTORE_ID_BYTES).hex(), seals.root_id, 0, Floors())
                contents.write(connection, seals, meta, RowSum(), [])
    return contents.load(connection, seals, path)


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise KeystoreUnusable(
            f"{path}: its file system cannot have SQLite's WAL (it offers {mode}); use a folder on a local disk"
        )
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")

"""The keys in memory, as parent and workers see them: applied from the keystore's changes, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cubeauth.errors import LocalMisuse
from cubeauth.keys import KeyRecord
from cubeauth_authnode.keystore.base import Change, ChangeKind


class Directory:
    """Live records by id and by access key, as of write `sequence`."""

    def __init__(self, records: Iterable[KeyRecord], sequence: int) -> None:
        self._by_id = {record.id: record for record in records}
        self._id_of_access_key = {record.access_key: record.id for record in self._by_id.values()}
        self.sequence = sequence

    def get(self, principal: str) -> KeyRecord | None:
        return self._by_id.get(principal)

    def find_access_key(self, access_key: str) -> KeyRecord | None:
        return self._by_id.get(self._id_of_access_key.get(access_key, ""))

    def __len__(self) -> int:
        return len(self._by_id)

    def after(self, principal: str, limit: int) -> list[KeyRecord]:
        """Up to `limit` records whose id sorts after `principal`, in order: one page of a listing."""
        names = sorted(name for name in self._by_id if name > principal)
        return [self._by_id[name] for name in names[:limit]]

    def __iter__(self) -> Iterator[KeyRecord]:
        return iter(list(self._by_id.values()))

    def apply(self, change: Change) -> None:
        """Take one write in. Raises LocalMisuse for a gap: a change was lost, and going on would be a guess."""
        if change.sequence != self.sequence + 1:
            raise LocalMisuse(f"change {change.sequence} after {self.sequence}")
        old = self._by_id.pop(change.record.id, None)
        if old is not None:
            self._id_of_access_key.pop(old.access_key, None)
        if change.kind is ChangeKind.PUT:
            self._by_id[change.record.id] = change.record
            self._id_of_access_key[change.record.access_key] = change.record.id
        self.sequence = change.sequence

"""The journal under way: each change is on disk before its caller goes on.

The file is written whole, so changes that come while it is being written
share the next writing: a thousand keys cost some dozens of writings.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cubeauth.errors import InputError, LocalMisuse
from cubeauth_cli.apply.folder import KeyFolder
from cubeauth_resources.claims import Claim, Claims, ClaimState


class JournalUnwritable(InputError):
    """Without its journal a run must not go on, for any key."""


class Journal:
    """Of one run, which holds the folder's lock."""

    def __init__(self, folder: KeyFolder, claims: Claims) -> None:
        self._folder = folder
        self._keystore = claims.keystore
        self._entries = {claim.id: claim for claim in claims.entries}
        self._changes = 0
        self._written = 0
        self._writing = asyncio.Lock()

    @property
    def claims(self) -> Claims:
        return Claims(self._keystore, tuple(self._entries[principal] for principal in sorted(self._entries)))

    def claim(self, principal: str) -> Claim:
        """The claim that a decision relies on; that there is one is a matter of its order."""
        if principal not in self._entries:
            raise LocalMisuse(f"{principal} is not journalled")
        return self._entries[principal]

    def find(self, principal: str) -> Claim | None:
        return self._entries.get(principal)

    async def record_keystore(self, keystore: str) -> None:
        self._keystore = keystore
        await self._write()

    async def put(self, claim: Claim) -> None:
        self._entries[claim.id] = claim
        await self._write()

    async def record_made(self, principal: str, create_ts: int) -> None:
        await self.put(replace(self.claim(principal), state=ClaimState.MADE, create_ts=create_ts))

    async def drop(self, principal: str) -> None:
        self._entries.pop(principal, None)
        await self._write()

    async def _write(self) -> None:
        """Return when what is in memory now is on disk. Raises JournalUnwritable."""
        self._changes += 1
        change = self._changes
        async with self._writing:
            if self._written >= change:
                return
            writing, claims = self._changes, self.claims
            try:
                await asyncio.to_thread(self._folder.write_journal, claims)
            except InputError as e:
                raise JournalUnwritable(e.field, e.problem, e.remedy, source=e.source) from None
            self._written = writing

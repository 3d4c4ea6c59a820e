"""Replay tables for tests: proofs by number, tables made and opened anew, and whether a proof was seen."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path
from typing import Any

from cubeauth.errors import ReplayDetected
from cubeauth_authnode.replay import MIN_ENTRIES, Opening, ReplayCache, prepare

SKEW = 10
NOW = 1_800_000_000.0
FORK = multiprocessing.get_context("fork")
HEADER_BYTES, BUCKET_BYTES, SLOTS, KEY_BYTES = 4096, 256, 8, 24


def proof(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def open_table(path: Path, *, entries: int = MIN_ENTRIES, skew: int = SKEW, now: float = NOW, new: bool = True) -> ReplayCache:
    prepare(path, entries=entries, skew=skew, now=now, new_store=new)
    return ReplayCache(path, skew=skew)


def reopened(path: Path, **changes: Any) -> Opening:
    """What a start finds at `path`."""
    given: dict[str, Any] = {"entries": MIN_ENTRIES, "skew": SKEW, "now": NOW, "new_store": False} | changes
    return prepare(path, **given)


def seen(table: ReplayCache, key: bytes, *, now: float = NOW, time: float | None = None) -> bool:
    """Whether the table had the proof already; it has it now."""
    try:
        table.remember(key, proof_time=int(now if time is None else time), now=now)
    except ReplayDetected:
        return True
    return False

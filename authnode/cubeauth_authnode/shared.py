"""The board: a page of memory that parent and workers share, made of 64-bit counters.

Word 0 is the sequence of the last published write; the parent alone stores
it, workers read it before each reply. Each worker has a block of counters
that it alone stores and the parent reads for /metrics. An aligned 64-bit
store is one instruction here, so a worker killed at any instant leaves every
word whole, and there is no lock to hold.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum

PUBLISHED = 0
_FIRST_BLOCK = 8
BLOCK_WORDS = 64
MAX_WORKERS = 64
BOARD_BYTES = 8 * (_FIRST_BLOCK + BLOCK_WORDS * MAX_WORKERS)


class Counter(IntEnum):
    """A worker's counters, by their place in its block."""

    TICKETS_GRANTED = 0
    TICKETS_REFUSED = 1
    REPLAYS = 2
    REPLAY_TABLE_FULL = 3
    CONNECTIONS_ACCEPTED = 4
    CONNECTIONS_OPEN = 5
    CONNECTIONS_REFUSED = 6
    REQUESTS_MALFORMED = 7
    TIMEOUTS = 8
    ADMIN_FORWARDED = 9
    WAITED_FOR_WRITE = 10
    OVERLOADED = 11
    TLS_FAILED = 12


class Board:
    """The shared page, mapped. Close it when done."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, BOARD_BYTES)
        self._view = memoryview(self._map)
        self.words = self._view.cast("Q")

    @classmethod
    def create(cls) -> tuple[Board, int]:
        """A new board and its file descriptor, to be inherited by workers."""
        fd = os.memfd_create("cubeauth-board", os.MFD_CLOEXEC)
        os.ftruncate(fd, BOARD_BYTES)
        return cls(fd), fd

    @property
    def published(self) -> int:
        return self.words[PUBLISHED]

    def publish(self, sequence: int) -> None:
        """Parent only: after this no worker answers from what was before write `sequence`."""
        self.words[PUBLISHED] = sequence

    def block(self, worker: int) -> memoryview[int]:
        """The counters of one worker, counted from 0."""
        start = _FIRST_BLOCK + worker * BLOCK_WORDS
        return self.words[start : start + BLOCK_WORDS]

    def close(self) -> None:
        self.words.release()
        self._view.release()
        self._map.close()

"""The one home of the clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall clock and monotonic clock, both in seconds."""

    def now(self) -> float:
        """Unix time: what tickets and verifiers are about."""
        ...

    def monotonic(self) -> float:
        """For deadlines and intervals; never goes back."""
        ...


class SystemClock:
    """The operating system's."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class OffsetClock:
    """The system's wall clock plus `offset` seconds: for demonstrations and tests of expiry with real processes."""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def now(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic()

"""Where a process hangs its metrics: every method is called at most once per event and must not raise."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Of one try at one endpoint."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"


class ClientObserver:
    """Does nothing; a process overrides what it counts."""

    def tried(self, endpoint: str, outcome: Outcome) -> None:
        """One HTTP request to one endpoint ended."""

    def retried(self, delay: float) -> None:
        """Every endpoint failed; the next round starts in `delay` seconds."""

    def refreshed(self, service_id: str, good_until: float) -> None:
        """The cache holds a new ticket, good until `good_until` (unix seconds)."""

    def refresh_failed(self, service_id: str, delay: float) -> None:
        """The cache could not refresh a ticket; the next try comes in `delay` seconds."""

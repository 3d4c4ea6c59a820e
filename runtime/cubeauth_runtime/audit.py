"""Audit lines: who asked for what, and what became of it. JSON, one a line, never a secret.

Lines are gathered and written together, at the latest `FLUSH_SECONDS` after
they were made: a process killed in between loses those few; an admin write
is flushed before it is acknowledged. Writing waits for a full pipe: an audit
that drops lines under load is not one.
"""

from __future__ import annotations

import json
import os
import select
from pathlib import Path
from typing import Any

from cubeauth.errors import InputError

FLUSH_SECONDS = 0.1
FLUSH_BYTES = 4096
"""What a pipe takes in one piece, so that lines of several processes are not mixed."""

STDOUT = 1
_MAX_UNVERIFIED = 64
"""Letters of a text that a peer chose."""

_MAX_LISTED = 8
"""Such texts of one list."""


class Audit:
    """An open audit file (appended to, shared by processes) or standard output."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._fd = STDOUT
        self._lines: list[str] = []
        self._bytes = 0
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew, after it was rotated. Raises InputError."""
        self.flush()
        if self._path is None:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            problem = f"{self._path} cannot be opened: {e.strerror}"
            raise InputError("auditFile", problem, "name a file in a folder that can be written") from None
        if self._fd != STDOUT:
            os.close(self._fd)
        self._fd = fd

    def granted(self, client: str, service: str, jti: str, peer: str, now: float) -> None:
        """A ticket went out. The names are those of keys we hold: nothing in them needs escaping."""
        self._add(
            f'{{"time":{now:.3f},"event":"ticket","outcome":"granted","client":"{client}","service":"{service}",'
            f'"jti":"{jti}","from":"{peer}"}}\n'
        )

    def write(self, event: str, outcome: str, peer: str, now: float, **facts: Any) -> None:
        """Any other line. Texts that a peer chose are cut short and escaped."""
        cut = {name: _cut(value) for name, value in facts.items()}
        line = {"time": round(now, 3), "event": event, "outcome": outcome, **cut, "from": peer}
        self._add(json.dumps(line, separators=(",", ":")) + "\n")

    def _add(self, line: str) -> None:
        if self._bytes + len(line) > FLUSH_BYTES:
            self.flush()
        self._lines.append(line)
        self._bytes += len(line)

    def flush(self) -> None:
        """Write what was gathered. Raises OSError."""
        if not self._lines:
            return
        data = memoryview("".join(self._lines).encode("utf-8"))
        self._lines.clear()
        self._bytes = 0
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # whoever shares our standard output made it non-blocking
                select.select([], [self._fd], [])

    def close(self) -> None:
        self.flush()
        if self._fd != STDOUT:
            os.close(self._fd)
            self._fd = STDOUT


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_MAX_UNVERIFIED]
    return [_cut(item) for item in value[:_MAX_LISTED]] if isinstance(value, list) else value

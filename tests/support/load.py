"""Clients that ask an Authnode for tickets without a pause, and remember what became of each request."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.authnode import Authnode
from tests.support.workers import Kept, ticket_request

from cubeauth.keys import KeyFile

TURNED_AWAY = "too many connections\n"
"""What a connection gets that comes while a worker ends."""


@dataclass
class Outcomes:
    """granted: bodies whose proof was taken; lost: whose answer never came; wrong: answers that are neither whole nor ours."""

    granted: list[bytes] = field(default_factory=list)
    refused: int = 0
    lost: list[bytes] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Load:
    """`threads` clients, each on a connection of its own that it opens again when it breaks."""

    def __init__(self, authnode: Authnode, key_file: KeyFile, threads: int) -> None:
        self._authnode = authnode
        self._key_file = key_file
        self._stop = threading.Event()
        self.outcomes = [Outcomes() for _ in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(outcomes,)) for outcomes in self.outcomes]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, count: int = 1) -> Callable[[], bool]:
        """Whether `count` more tickets were granted since this was called."""
        before = len(self.granted)
        return lambda: len(self.granted) >= before + count

    @property
    def granted(self) -> list[bytes]:
        return [body for outcomes in self.outcomes for body in outcomes.granted]

    @property
    def lost(self) -> list[bytes]:
        return [body for outcomes in self.outcomes for body in outcomes.lost]

    @property
    def refused(self) -> int:
        return sum(outcomes.refused for outcomes in self.outcomes)

    @property
    def wrong(self) -> list[str]:
        return [text for outcomes in self.outcomes for text in outcomes.wrong]

    def _run(self, outcomes: Outcomes) -> None:
        kept: Kept | None = None
        while not self._stop.is_set():
            if kept is None:
                kept = self._connect()
                continue
            body = ticket_request(self._key_file).body
            try:
                code = kept.ask(body)["code"]
            except http.client.IncompleteRead as e:
                outcomes.wrong.append(f"half an answer: {e}")
            except json.JSONDecodeError as e:
                if e.doc != TURNED_AWAY:
                    outcomes.wrong.append(f"no answer of ours: {e.doc!r}")
                kept.close()
                kept = None
            except (OSError, http.client.HTTPException):
                outcomes.lost.append(body)
                kept.close()
                kept = None
            else:
                if code == 0:
                    outcomes.granted.append(body)
                else:
                    outcomes.refused += 1
        if kept is not None:
            kept.close()

    def _connect(self) -> Kept | None:
        try:
            return Kept(self._authnode)
        except OSError:
            self._stop.wait(0.01)
            return None


@contextlib.contextmanager
def under_load(authnode: Authnode, key_file: KeyFile, threads: int = 4) -> Iterator[Load]:
    load = Load(authnode, key_file, threads)
    load.start()
    try:
        yield load
    finally:
        load.stop()

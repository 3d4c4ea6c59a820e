"""Many requests to one Authnode, a bounded number of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from cubeauth.errors import CubeauthError

T = TypeVar("T")

REQUESTS = 8
"""At a time, of one command: enough to keep an Authnode's two workers busy while others still get their tickets."""


async def run_all(works: Iterable[Callable[[], Awaitable[T]]], *, limit: int, on_done: Callable[[T], None]) -> None:
    """Run all, started in order, at most `limit` at a time; `on_done` hears of each in that same order.

    The first CubeauthError ends the others and is raised.
    """
    gate = asyncio.Semaphore(limit)
    finished: dict[int, T] = {}
    told = 0

    async def one(place: int, work: Callable[[], Awaitable[T]]) -> None:
        nonlocal told
        async with gate:
            finished[place] = await work()
        while told in finished:
            on_done(finished.pop(told))
            told += 1

    failed: CubeauthError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for place, work in enumerate(works):
                group.create_task(one(place, work))
    except* CubeauthError as errors:
        failed = next(error for error in errors.exceptions if isinstance(error, CubeauthError))
    if failed is not None:
        raise failed

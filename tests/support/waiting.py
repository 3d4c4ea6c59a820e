"""Waiting for a condition, with a deadline and a name: never sleeping for luck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DEADLINE = 20.0
"""Seconds; far above what anything needs, the machine is shared."""


async def until(what: str, condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Return once `condition` holds; fail saying that `what` did not come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while not condition():
        assert loop.time() < end, f"waited {deadline} s for: {what}"
        await asyncio.sleep(0.005)

"""The one door through which chance comes in.

Everything in this package that needs random bytes takes an `Entropy`; only
`system` draws from the operating system. Vectors and simulations pass their
own, and nothing but a test does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

Entropy = Callable[[int], bytes]
"""Takes a count and returns that many random bytes."""


def system(count: int) -> bytes:
    """`count` bytes from the operating system's generator."""
    return secrets.token_bytes(count)


def pooled(source: Entropy, block: int = 4096) -> Entropy:
    """`source` asked for a block at a time: for who draws a few bytes many thousand times a second.

    No byte is given twice; what is left of a block that is too short is dropped. Not for a process that forks.
    """
    pool, at = b"", 0

    def draw(count: int) -> bytes:
        nonlocal pool, at
        if at + count > len(pool):
            pool, at = source(max(block, count)), 0
        at += count
        return pool[at - count : at]

    return draw


def scripted(*chunks: bytes) -> Entropy:
    """The private door for vectors: gives `chunks` one after the other; a draw of another length is an error."""
    left = list(chunks)

    def draw(count: int) -> bytes:
        chunk = left.pop(0)
        if len(chunk) != count:
            raise ValueError(f"scripted entropy: {count} bytes asked, {len(chunk)} given")
        return chunk

    return draw

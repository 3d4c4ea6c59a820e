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


def scripted(*chunks: bytes) -> Entropy:
    """The private door for vectors: gives `chunks` one after the other; a draw of another length is an error."""
    left = list(chunks)

    def draw(count: int) -> bytes:
        chunk = left.pop(0)
        if len(chunk) != count:
            raise ValueError(f"scripted entropy: {count} bytes asked, {len(chunk)} given")
        return chunk

    return draw

"""Bytes and texts that cannot be printed by accident.

A `SecretBytes` compares in constant time and shows nothing in repr, str and
format; who needs the bytes says `reveal()`, which reviewers can grep for.
"""

from __future__ import annotations

import hmac


class SecretBytes:
    """Key material. `reveal()` gives the bytes; nothing else does."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = b"" + value  # not bytes(value): of the number 32 that makes a key of 32 zeros

    def reveal(self) -> bytes:
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SecretBytes):
            return hmac.compare_digest(self._value, other._value)
        return NotImplemented

    def __hash__(self) -> int:
        raise TypeError("a secret is not a dictionary key")

    def __repr__(self) -> str:
        return f"SecretBytes(<{len(self._value)} bytes>)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")

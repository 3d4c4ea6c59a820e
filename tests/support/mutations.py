"""Hypothesis strategies that spoil good input: bytes cut, flipped, spliced; JSON with a member that is anything."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

# What has broken parsers: bounds of integers, halves of a surrogate pair, text that looks like JSON.
HOSTILE_SCALARS: Sequence[Any] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    -0.0,
    1e308,
    (1 << 31) - 1,
    (1 << 63) - 1,
    1 << 63,
    -(1 << 63) - 1,
    (1 << 64) - 1,
    1 << 64,
    10**400,
    "",
    "\x00",
    "\n",
    "\ud800",
    "\udc00\ud800",
    "é",
    '","exp":9999999999,"x":"',
    "\\",
    "A" * 64,
    "YQ==",
    "*:*:*",
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(HOSTILE_SCALARS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def spoiled_bytes(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of `seeds` after one to four changes: a bit flipped, bytes cut out, put in or doubled, the end cut or another's."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(1, 32)))
        change = draw(st.sampled_from(("flip", "cut", "insert", "double", "truncate", "splice", "replace")))
        if change == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[at:until]
        elif change == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif change == "double":
            data[at:at] = data[at:until]
        elif change == "truncate":
            del data[at:]
        elif change == "splice":
            other = draw(st.sampled_from(seeds))
            data[at:] = other[draw(st.integers(0, len(other))) :]
        elif change == "replace":
            data[at:until] = draw(st.binary(max_size=8))
    return bytes(data)


@st.composite
def spoiled_members(draw: st.DrawFn, seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One of `seeds` with one to three of its members, at any depth, gone or anything."""
    members: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        holder = members
        while holder and (inner := [value for value in holder.values() if isinstance(value, dict)]) and draw(st.booleans()):
            holder = draw(st.sampled_from(inner))
        name = draw(st.sampled_from(sorted(holder)) if holder else st.just("x"))
        if draw(st.integers(0, 4)) == 0:
            holder.pop(name, None)
        else:
            holder[name] = draw(json_values)
    return members

"""Grants that can match nothing, told from what the protocol is known to ask for; no guesses (a misspelling is asked about).

A capability that a listener of somebody's own may ask for cannot be judged,
so silence here is no promise that a grant is of use.
"""

from __future__ import annotations

import difflib

from cubeauth.caps import Capabilities, Kind
from cubeauth.messages import RESOURCE_OF_TYPE

_KNOWN = {
    node: sorted({known.partition(":")[2] for known in RESOURCE_OF_TYPE.values() if known.startswith(f"{node}:")})
    for node in ("auth", "master")
}
MISSPELT = 0.85
"""How alike (0..1) two names are where one is a slip of the other: adddatanode and adddatannode, not volread and volexpand."""

_FIELD = {Kind.API: "api", Kind.OWNER_VOL: "ownerVol", Kind.NONE_OWNER_VOL: "noneOwnerVol"}


def useless_grants(grants: Capabilities) -> tuple[str, ...]:
    """A note for each grant that does nothing or is misspelt, in the order of the grants; it names field and value."""
    notes: list[str] = []
    for kind in Kind:
        for position, capability in enumerate(grants.of(kind)):
            note = _stars(capability) or (_api(capability) if kind is Kind.API else _volume(capability))
            if note:
                notes.append(f"spec.{_FIELD[kind]}[{position}]: {capability!r}: {note}")
    return tuple(notes)


def _stars(capability: str) -> str:
    """Protocol-v1, section 5: a granted part covers when it is equal, or exactly `*`; nothing else is a pattern."""
    for part in capability.split(":"):
        if "*" in part and part != "*":
            return f"can match nothing, a * counts only as a whole part, {part!r} is compared letter by letter"
    return ""


def _volume(capability: str) -> str:
    """Protocol-v1, section 6: what is asked for a volume is always master:<volume>:*."""
    node, volume, action = capability.split(":")
    if node not in ("master", "*") or action != "*":
        return f"can match nothing, what is asked for a volume is master:{volume}:*"
    return ""


def _api(capability: str) -> str:
    """Only the Authnode asks for `auth`, and its routes are a closed list (section 4); of `master` we know stock's spelling."""
    node, name, action = capability.split(":")
    if node not in _KNOWN or name == "*":
        return ""
    if node == "auth" and action not in ("access", "*"):
        return "can match nothing, the action that the Authnode asks for is access"
    if name in _KNOWN[node]:
        return ""
    near = difflib.get_close_matches(name, _KNOWN[node], n=1, cutoff=MISSPELT)
    hint = f"; did you mean {node}:{near[0]}:access?" if near else ""
    if node == "auth":
        return f"can match nothing, the Authnode has no such request{hint}"
    return f"stock CubeFS asks for no such thing{hint}" if near else ""

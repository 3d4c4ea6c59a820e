"""Capabilities: who may do what (protocol-v1, section 5).

A capability is `node:object:action`. A list of them is the JSON
`{"API": [], "OwnerVOL": [], "NoneOwnerVOL": []}`. A granted part covers an
asked one when it is equal or exactly `*`; nothing else is a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cubeauth import strictjson
from cubeauth.errors import InputError, MalformedMessage, shown

MAX_CAPABILITIES = 1024
"""Of one principal, all three kinds together."""

MAX_TEXT_BYTES = 32 * 1024
"""Of a capability list's JSON: the ticket that carries it, in base64 twice, still fits F3's first frame of 64 KiB."""


class Kind(StrEnum):
    API = "API"
    OWNER_VOL = "OwnerVOL"
    NONE_OWNER_VOL = "NoneOwnerVOL"


_API = re.compile(r"[A-Za-z0-9*]{1,20}:[A-Za-z0-9*]{1,20}:[A-Za-z0-9*]{1,20}")
_VOLUME = re.compile(r"[A-Za-z0-9*]{1,20}:[a-zA-Z0-9_-]{3,256}:[A-Za-z0-9*]{1,20}")
_RULES = {
    Kind.API: (_API, "three parts of 1 to 20 letters, digits or *, with : between"),
    Kind.OWNER_VOL: (_VOLUME, "node:volume:action, the volume 3 to 256 letters, digits, _ or -"),
    Kind.NONE_OWNER_VOL: (_VOLUME, "node:volume:action, the volume 3 to 256 letters, digits, _ or -"),
}
_KIND_OF_FOLDED = {kind.value.lower(): kind for kind in Kind}


def valid(kind: Kind, capability: str) -> bool:
    """Whether `capability` is well formed for its kind."""
    return _RULES[kind][0].fullmatch(capability) is not None


def matches(granted: str, asked: str) -> bool:
    """Whether one granted capability covers one asked; both well formed."""
    return all(g in ("*", a) for g, a in zip(granted.split(":"), asked.split(":"), strict=True))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Three lists without repetition, in the order they were granted."""

    api: tuple[str, ...] = ()
    owner_vol: tuple[str, ...] = ()
    none_owner_vol: tuple[str, ...] = ()

    def of(self, kind: Kind) -> tuple[str, ...]:
        if kind is Kind.API:
            return self.api
        return self.owner_vol if kind is Kind.OWNER_VOL else self.none_owner_vol

    def allows(self, asked: str, kind: Kind = Kind.API) -> bool:
        """Whether some granted capability of this kind covers `asked`; one that has not three parts is never allowed."""
        parts = asked.split(":")
        return len(parts) == 3 and all(parts) and any(matches(granted, asked) for granted in self.of(kind))

    def union(self, other: Capabilities) -> Capabilities:
        return Capabilities(*(_unique((*self.of(kind), *other.of(kind))) for kind in Kind))

    def minus(self, other: Capabilities) -> Capabilities:
        """Without the exact strings of `other`: `*:*:*` does not take `master:a:b` away, nor the other way round."""
        return Capabilities(*(tuple(c for c in self.of(kind) if c not in other.of(kind)) for kind in Kind))

    def __len__(self) -> int:
        return len(self.api) + len(self.owner_vol) + len(self.none_owner_vol)

    def to_json(self) -> str:
        """The canonical text, all three members, as stock writes it."""
        return strictjson.dumps({kind.value: list(self.of(kind)) for kind in Kind})


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


@dataclass(frozen=True, slots=True)
class Parsed:
    """A capability list as read, and the members that mean nothing: stock drops them silently, we say so."""

    capabilities: Capabilities
    unknown: tuple[str, ...]


def parse(text: str | bytes) -> Parsed:
    """Read a capability list as a stock peer may send it: member names without regard to case, null for nothing.

    Raises InputError naming the member; two members of one name (in any case) are refused, where stock keeps the last.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise InputError("caps", f"{len(text)} bytes", f"a capability list has at most {MAX_TEXT_BYTES}; grant with * instead")
    try:
        value = strictjson.loads(text)
    except MalformedMessage as e:
        raise InputError("caps", e.detail, 'write {"API": ["node:object:action"]}') from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise InputError("caps", "not a JSON object", 'write {"API": ["node:object:action"]}')
    found: dict[Kind, tuple[str, ...]] = {}
    unknown: list[str] = []
    for name, items in value.items():
        kind = _KIND_OF_FOLDED.get(name.lower())
        if kind is None:
            unknown.append(name)
            continue
        if kind in found:
            raise InputError(f"caps.{kind.value}", "given twice", "merge the two lists")
        found[kind] = _strings(kind, items)
    capabilities = Capabilities(*(found.get(kind, ()) for kind in Kind))
    if len(capabilities) > MAX_CAPABILITIES:
        raise InputError("caps", f"{len(capabilities)} capabilities", f"at most {MAX_CAPABILITIES}")
    return Parsed(capabilities, tuple(unknown))


def _strings(kind: Kind, items: object) -> tuple[str, ...]:
    if items is None:
        return ()
    if not isinstance(items, list):
        raise InputError(f"caps.{kind.value}", "not a list", "write a list of node:object:action")
    for item in items:
        check(kind, item, f"caps.{kind.value}")
    return _unique(items)


def check(kind: Kind, item: object, field: str) -> str:
    """The capability itself if it is well formed. Raises InputError naming `field`."""
    if not isinstance(item, str) or not valid(kind, item):
        raise InputError(field, f"{shown(item)} is no capability", _RULES[kind][1])
    return item

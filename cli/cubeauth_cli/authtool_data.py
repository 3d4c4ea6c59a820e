"""The `-data` file of `authtool api`: what each request is about, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cubeauth import caps, ids, strictjson
from cubeauth.errors import InputError, MalformedMessage, shown

MEMBERS = {
    "createkey": ("id", "role", "caps"),
    "deletekey": ("id",),
    "getkey": ("id",),
    "addcaps": ("id", "caps"),
    "deletecaps": ("id", "caps"),
    "getcaps": ("id",),
    "addraftnode": ("node", "addr"),
    "removeraftnode": ("node", "addr"),
    "osaddcaps": ("access_key", "caps"),
    "osdeletecaps": ("access_key", "caps"),
    "osgetcaps": ("access_key",),
}
"""What each request takes from the file (`node` stands there as `id`); others may stand there too: a key file is good data."""

_CAPS_REMEDY = 'it is a text: "caps": "{\\"API\\":[\\"node:object:action\\"]}"'


@dataclass(frozen=True, slots=True)
class Data:
    """Only what the request takes is filled in. caps: JSON text; ignored: members of it that mean nothing to CubeFS."""

    id: str = ""
    role: str = ""
    caps: str = ""
    ignored: tuple[str, ...] = ()
    access_key: str = ""
    node: int = 0
    addr: str = ""


def parse_data(word: str, text: str) -> Data:
    """Raises InputError naming the member."""
    try:
        members = strictjson.load_object(text)
    except MalformedMessage as e:
        raise InputError("", e.detail, f"{word} takes a JSON object with {_listed(word)}") from None
    values: dict[str, Any] = {}
    for name in MEMBERS[word]:
        values |= _READERS[name](members, word)
    return Data(**values)


def _listed(word: str) -> str:
    return ", ".join("id" if name == "node" else name for name in MEMBERS[word])


def _text(members: dict[str, Any], name: str, word: str, remedy: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(
            name, "missing" if name not in members else "not a text, or empty", f"{word} takes {_listed(word)}; {remedy}"
        )
    return value


def _id(members: dict[str, Any], word: str) -> dict[str, Any]:
    principal = _text(members, "id", word, f"an id has {ids.ID_RULE}")
    if not ids.valid_id(principal):
        raise InputError("id", f"{shown(principal, ids.MAX_SHOWN_ID)} is not an id", f"an id has {ids.ID_RULE}")
    return {"id": principal}


def _role(members: dict[str, Any], word: str) -> dict[str, Any]:
    role = _text(members, "role", word, "a role is client or service")
    if not ids.valid_role(role):
        raise InputError("role", f"{shown(role)} is no role", "write client or service")
    return {"role": role}


def _caps(members: dict[str, Any], word: str) -> dict[str, Any]:
    text = _text(members, "caps", word, _CAPS_REMEDY)
    return {"caps": text, "ignored": caps.parse(text).unknown}


def _access_key(members: dict[str, Any], word: str) -> dict[str, Any]:
    access_key = _text(members, "access_key", word, "an access key has 16 letters and digits")
    if not ids.valid_access_key(access_key):
        raise InputError("access_key", "not 16 letters and digits", "copy the member access_key from a key file")
    return {"access_key": access_key}


def _node(members: dict[str, Any], word: str) -> dict[str, Any]:
    node = members.get("id")
    if type(node) is not int or not 0 <= node < 1 << 64:
        raise InputError(
            "id", f"{shown(node)} is no raft node's number", f"{word} takes a whole number, as in the Authnode's peers"
        )
    return {"node": node}


def _addr(members: dict[str, Any], word: str) -> dict[str, Any]:
    return {"addr": _text(members, "addr", word, "it is the node's HOST:PORT")}


_READERS = {"id": _id, "role": _role, "caps": _caps, "access_key": _access_key, "node": _node, "addr": _addr}

"""What an Authnode tells an administrator, read into values (protocol-v1, section 4 and section 11 rule 13).

Stock and ours answer with one shape: `auth_key` and `caps` are base64 and
null where they are not told; `kvno` is ours alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from cubeauth import caps as capability_lists
from cubeauth import strictjson
from cubeauth.caps import Capabilities
from cubeauth.errors import MalformedMessage
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A principal as an Authnode tells it.

    caps: the list's JSON text as stored, "" where it was not told. auth_key, secret_key: None where they were not told.
    create_ts: unix seconds, 0 where not told. kvno: 0 where not told, as stock never does.
    """

    id: str
    role: str
    caps: str
    create_ts: int
    kvno: int
    access_key: str
    auth_key: SecretBytes | None = field(repr=False)
    secret_key: SecretBytes | None = field(repr=False)

    def capabilities(self) -> Capabilities:
        """The list in `caps`. Raises InputError for what a stock Authnode stored and ours would not."""
        return capability_lists.parse(self.caps or "null").capabilities

    def key_file(self) -> KeyFile:
        """What cfs-authtool writes after createkey. Raises MalformedMessage where the reply held no key."""
        if self.auth_key is None:
            raise MalformedMessage("key_info: no auth_key")
        return KeyFile(
            self.id, self.auth_key, self.access_key, self.secret_key or SecretBytes(b""), self.create_ts, self.role, self.caps
        )


def parse_key_info(members: dict[str, Any], asked_id: str) -> KeyInfo:
    """The key_info of a reply about `asked_id`. Raises MalformedMessage."""
    info = strictjson.object_member(members, "key_info")
    principal = strictjson.text_member(info, "id")
    if principal != asked_id:
        raise MalformedMessage("key_info: of another id")
    auth_key = _bytes(info, "auth_key")
    return KeyInfo(
        id=principal,
        role=_text(info, "role"),
        caps=_caps(info),
        create_ts=_number(info, "create_ts"),
        kvno=_number(info, "kvno"),
        access_key=_text(info, "access_key"),
        auth_key=SecretBytes(auth_key) if auth_key else None,
        secret_key=_secret_key(info),
    )


@dataclass(frozen=True, slots=True)
class AccessKeyCaps:
    """Capabilities as found by access key. user_id, secret_key: "" and None in replies to osaddcaps and osdeletecaps."""

    access_key: str
    user_id: str
    caps: str
    secret_key: SecretBytes | None = field(repr=False)


def parse_access_key_caps(members: dict[str, Any], asked_key: str) -> AccessKeyCaps:
    """The access_key_caps of a reply. Raises MalformedMessage."""
    info = strictjson.object_member(members, "access_key_caps")
    if strictjson.text_member(info, "access_key") != asked_key:
        raise MalformedMessage("access_key_caps: of another access key")
    return AccessKeyCaps(asked_key, _text(info, "user_id"), _caps(info), _secret_key(info))


@dataclass(frozen=True, slots=True)
class State:
    """keystore_id: hexadecimal, made with the store; sequence: writes so far; keys: principals held; version: of the Authnode."""

    keystore_id: str
    sequence: int
    keys: int
    version: str


def parse_state(members: dict[str, Any]) -> State:
    state = strictjson.object_member(members, "state")
    return State(
        strictjson.text_member(state, "keystore_id"),
        strictjson.int_member(state, "sequence"),
        strictjson.int_member(state, "keys"),
        strictjson.text_member(state, "version"),
    )


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A part of the list, by id. next: where the following one begins after, "" at the end."""

    keys: tuple[KeyInfo, ...]
    next: str


def parse_key_page(members: dict[str, Any], after: str) -> KeyPage:
    """Raises MalformedMessage, also for a page that does not go on behind `after`: a list that never ends."""
    items = members.get("keys")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MalformedMessage("keys: not a list of objects")
    found = tuple(parse_key_info({"key_info": item}, strictjson.text_member(item, "id")) for item in items)
    order = [after, *(key.id for key in found)]
    if any(a >= b for a, b in itertools.pairwise(order)):
        raise MalformedMessage("keys: not in the order of their ids")
    following = strictjson.text_member(members, "next")
    if following and (not found or following != found[-1].id):
        raise MalformedMessage("next: not the last id")
    return KeyPage(found, following)


def _text(members: dict[str, Any], name: str) -> str:
    return "" if members.get(name) is None else strictjson.text_member(members, name)


def _number(members: dict[str, Any], name: str) -> int:
    return 0 if members.get(name) is None else strictjson.int_member(members, name)


def _bytes(members: dict[str, Any], name: str) -> bytes:
    return strictjson.b64decode(_text(members, name))


def _secret_key(members: dict[str, Any]) -> SecretBytes | None:
    secret = _text(members, "secret_key")
    if not secret.isascii():
        raise MalformedMessage("secret_key: not letters and digits")
    return SecretBytes(secret.encode("ascii")) if secret else None


def _caps(members: dict[str, Any]) -> str:
    try:
        return _bytes(members, "caps").decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedMessage("caps: not text") from None

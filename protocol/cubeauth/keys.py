"""A principal's key and the forms it travels in (protocol-v1, sections 4, 5 and 9)."""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from typing import Any

from cubeauth import ids, strictjson
from cubeauth.entropy import Entropy
from cubeauth.errors import InputError, MalformedMessage, shown
from cubeauth.secret import SecretBytes

KEY_BYTES = 32
"""Length of every key that we make."""

AES_KEY_LENGTHS = (16, 24, 32)
"""What the envelope can be sealed with, and so what a stock file may hold."""

SECRET_KEY_LETTERS = 32
ACCESS_KEY_LETTERS = 16


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One principal as the keystore holds it.

    kvno: key version number, rising with every key that the id ever had, so that a ticket of an earlier one is told apart.
    create_ts: unix seconds, strictly above that of any earlier key of this id. caps: the canonical JSON text (caps.Capabilities).
    """

    id: str
    kvno: int
    role: ids.Role
    auth_key: SecretBytes = field(repr=False)
    access_key: str
    secret_key: SecretBytes = field(repr=False)
    create_ts: int
    caps: str

    def __post_init__(self) -> None:
        if not ids.valid_id(self.id):
            raise InputError("id", f"{self.id!r} is not {ids.ID_RULE}")
        if len(self.auth_key) not in AES_KEY_LENGTHS:
            raise InputError("auth_key", f"{len(self.auth_key)} bytes", "a key has 16, 24 or 32")


def random_letters(count: int, entropy: Entropy) -> str:
    """`count` letters and digits, each equally likely (a draw that would favour the first ones is thrown away)."""
    letters = ids.ACCESS_KEY_LETTERS
    limit = 256 - 256 % len(letters)
    out: list[str] = []
    while len(out) < count:
        out.extend(letters[b % len(letters)] for b in entropy(count * 2) if b < limit)
    return "".join(out[:count])


def derive_stock_key(root_key: bytes, create_ts: int, principal: str) -> bytes:
    """The auth_key that stock derives: HMAC-SHA256(root, LE64 create_ts || id). For vectors and import, never for new keys."""
    return hmac.digest(root_key, struct.pack("<q", create_ts) + principal.encode("utf-8"), "sha256")


def auth_id_key(principal: str, auth_key: bytes) -> str:
    """What CubeFS configurations call clientIDKey and serviceIDKey: base64 of `{"id", "auth_key"}`."""
    text = strictjson.dumps({"id": principal, "auth_key": strictjson.b64encode(auth_key)})
    return strictjson.b64encode(text.encode("utf-8"))


def parse_auth_id_key(text: str) -> tuple[str, SecretBytes]:
    """The id and key in an auth_id_key. Raises MalformedMessage."""
    members = strictjson.load_object(strictjson.b64decode(text))
    principal = strictjson.text_member(members, "id")
    if not ids.valid_id(principal):
        raise MalformedMessage("id: not an id")
    key = strictjson.b64decode(strictjson.text_member(members, "auth_key"))
    if len(key) not in AES_KEY_LENGTHS:
        raise MalformedMessage("auth_key: not 16, 24 or 32 bytes")
    return principal, SecretBytes(key)


def key_info(record: KeyRecord) -> dict[str, Any]:
    """The `key_info` member of a reply, secrets included: for sealed replies and key files only."""
    return {
        "id": record.id,
        "auth_key": strictjson.b64encode(record.auth_key.reveal()),
        "access_key": record.access_key,
        "secret_key": record.secret_key.reveal().decode("ascii"),
        "create_ts": record.create_ts,
        "role": record.role.value,
        "caps": strictjson.b64encode(record.caps.encode("utf-8")),
    }


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as cfs-authtool writes and reads it (protocol-v1, section 9); only id and auth_key must be there."""

    id: str
    auth_key: SecretBytes = field(repr=False)
    access_key: str = ""
    secret_key: SecretBytes = field(default_factory=lambda: SecretBytes(b""), repr=False)
    create_ts: int = 0
    role: str = ""
    caps: str = ""

    def to_json(self) -> str:
        """The file's text, members as the stock tool orders and indents them."""
        members = {
            "id": self.id,
            "auth_key": strictjson.b64encode(self.auth_key.reveal()),
            "access_key": self.access_key,
            "secret_key": self.secret_key.reveal().decode("ascii"),
            "create_ts": self.create_ts,
            "role": self.role,
            "caps": self.caps,
            "auth_id_key": auth_id_key(self.id, self.auth_key.reveal()),
        }
        return strictjson.dumps_indented(members)


def key_file_of(record: KeyRecord) -> KeyFile:
    return KeyFile(
        id=record.id,
        auth_key=record.auth_key,
        access_key=record.access_key,
        secret_key=record.secret_key,
        create_ts=record.create_ts,
        role=record.role.value,
        caps=record.caps,
    )


_KEY_FILE_MEMBERS = ("access_key", "secret_key", "role", "caps", "auth_id_key")


def parse_key_file(text: str | bytes) -> KeyFile:
    """Read a key file; `key`, the older guides' name of `auth_key`, is taken too. Raises InputError naming the member."""
    try:
        members = strictjson.load_object(text)
    except MalformedMessage as e:
        raise InputError("", f"{e.detail}", "a key file is what createkey or `authtool authkey` wrote") from None
    principal = members.get("id")
    if not isinstance(principal, str) or not ids.valid_id(principal):
        problem = f"{shown(principal, ids.MAX_SHOWN_ID)} is not an id" if "id" in members else "missing"
        raise InputError("id", problem, f"an id has {ids.ID_RULE}")
    encoded = members.get("auth_key", members.get("key"))
    if not isinstance(encoded, str) or not encoded:
        raise InputError("auth_key", "missing or not a string", "it holds the key in base64")
    try:
        key = strictjson.b64decode(encoded)
    except MalformedMessage:
        raise InputError("auth_key", "not base64", "copy the member whole from the file that createkey wrote") from None
    if len(key) not in AES_KEY_LENGTHS:
        raise InputError("auth_key", f"{len(key)} bytes", "a key has 16, 24 or 32")
    for name in _KEY_FILE_MEMBERS:
        if not isinstance(members.get(name, ""), str):
            raise InputError(name, "not a string", "copy the member from the file that createkey wrote")
    create_ts = members.get("create_ts", 0)
    if type(create_ts) is not int or not 0 <= create_ts < 1 << 63:
        raise InputError("create_ts", "not a whole number of unix seconds", "copy the member from the file that createkey wrote")
    secret = str(members.get("secret_key", ""))
    if not secret.isascii():
        raise InputError("secret_key", "not letters and digits", "copy the member from the file that createkey wrote")
    return KeyFile(
        id=principal,
        auth_key=SecretBytes(key),
        access_key=str(members.get("access_key", "")),
        secret_key=SecretBytes(secret.encode("ascii")),
        create_ts=create_ts,
        role=str(members.get("role", "")),
        caps=str(members.get("caps", "")),
    )

"""What the root key is used for: one derived key for each use.

The 32 bytes of the root key go through HKDF-Expand (RFC 5869) with a label
that names the use, so that nothing made for one use is good for another.
What is authenticated is a list of fields, each with its type and length in
front, so that no two lists have one encoding.
"""

from __future__ import annotations

import hmac
import struct
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cubeauth.entropy import Entropy
from cubeauth.errors import InputError
from cubeauth.secret import SecretBytes

ROOT_KEY_BYTES = 32
NONCE_BYTES = 12
"""Drawn at random: NIST SP 800-38D allows 2**32 seals with one key; each write of a key is one."""

ROOT_ID_BYTES = 8
_WRAP_LABEL = b"cubeauth keystore wrap v1"
_ROOT_ID_LABEL = b"cubeauth keystore root id v1"

Field = str | int | bytes


class Use(Enum):
    """What a MAC is about; the value is the label of its key."""

    META = b"cubeauth keystore meta v1"
    ROWS = b"cubeauth keystore rows v1"
    WITNESS = b"cubeauth keystore witness v1"


class NotAuthentic(Exception):
    """Sealed bytes that do not open: edited, moved, or sealed with another key. The caller knows where they stood."""


def encode_fields(*fields: Field) -> bytes:
    """All fields, each as one type byte, a length of 4 bytes and its bytes; whole numbers are written in decimal."""
    return b"".join(_encode_field(field) for field in fields)


def _encode_field(field: Field) -> bytes:
    if isinstance(field, int):
        tag, value = b"i", str(field).encode("ascii")
    elif isinstance(field, str):
        tag, value = b"s", field.encode("utf-8", "surrogatepass")
    else:
        tag, value = b"b", field
    return tag + struct.pack(">I", len(value)) + value


class Seals:
    """The keys derived from one root key. root_id: 16 hexadecimal digits that name the root key and tell nothing of it."""

    def __init__(self, root_key: SecretBytes) -> None:
        """Raises InputError for a root key that is not 32 bytes."""
        if len(root_key) != ROOT_KEY_BYTES:
            raise InputError("root key", f"{len(root_key)} bytes", f"it must have {ROOT_KEY_BYTES}")
        self._wrap = AESGCM(_subkey(root_key, _WRAP_LABEL))
        self._macs = {use: _subkey(root_key, use.value) for use in Use}
        self.root_id = _subkey(root_key, _ROOT_ID_LABEL, ROOT_ID_BYTES).hex()

    def wrap(self, plaintext: bytes, associated: bytes, entropy: Entropy) -> bytes:
        """AES-256-GCM: nonce || ciphertext || tag."""
        nonce = entropy(NONCE_BYTES)
        return nonce + self._wrap.encrypt(nonce, plaintext, associated)

    def unwrap(self, sealed: bytes, associated: bytes) -> bytes:
        """Raises NotAuthentic."""
        try:
            return self._wrap.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise NotAuthentic from None

    def mac(self, use: Use, *fields: Field) -> bytes:
        """HMAC-SHA256 of the fields under this use's key."""
        return hmac.digest(self._macs[use], encode_fields(*fields), "sha256")


def _subkey(root_key: SecretBytes, label: bytes, length: int = 32) -> bytes:
    return HKDFExpand(SHA256(), length, label).derive(root_key.reveal())

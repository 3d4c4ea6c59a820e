"""The recorded exchanges sent again to a running Authnode: the same requests with its keys, its tickets and the time of now.

Every defect of a recorded request is kept: what did not open does not open, what was late is as late, what came twice is sent
twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from tests.support import vectors
from tests.support.authnode import Authnode
from tests.support.vectors import Exchange

AUTH_SERVICE = "AuthService"
ON_THE_EDGE = "verifier 9 s old"
"""Good for the rest of a second only: sent again when that second ended on the way."""


def seal(key: bytes, plaintext: bytes) -> str:
    """A stock envelope, made without the code under test."""
    r, iv = os.urandom(8), os.urandom(16)
    checksum = hashlib.md5(r + bytes(16) + plaintext).digest()
    padder = padding.PKCS7(128).padder()
    padded = padder.update(r + checksum + plaintext) + padder.finalize()
    return base64.b64encode(iv + Cipher(AES(key), CBC(iv)).encryptor().update(padded)).decode()


def try_open(key: bytes, text: str) -> bytes | None:
    """The plaintext of an envelope that opens."""
    try:
        opened = vectors.stock_open(key, text)
    except (ValueError, IndexError):
        return None
    good = hashlib.md5(opened.r + bytes(16) + opened.plaintext).digest() == opened.checksum
    return opened.plaintext if good else None


@dataclass(frozen=True)
class Held:
    """A ticket of ours that stands for a recorded one."""

    text: str = field(repr=False)
    session_key: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What ours answered. opened: what the reply's envelope holds, where it was granted; at: unix seconds of the request."""

    status: int
    body: bytes = field(repr=False)
    opened: dict[str, Any] | None = field(repr=False)
    at: int

    @property
    def reply(self) -> dict[str, Any]:
        members: dict[str, Any] = json.loads(self.body)
        return members


class Replayer:
    """Sends exchanges in the order of recording, and learns ours of everything recorded on the way."""

    def __init__(self, authnode: Authnode) -> None:
        self._authnode = authnode
        self._keys = {AUTH_SERVICE: authnode.service_key_file.auth_key.reveal()}
        self._tickets: dict[str, Held] = {}
        self._access_keys: dict[str, str] = {}
        self._verifiers: dict[str, str] = {}

    def send(self, recorded: Exchange) -> Answer:
        while True:
            now = int(time.time())
            form, key = self._rebuilt(recorded, now)
            if recorded.method == "GET":
                status, body = self._authnode.request(f"{recorded.path}?{form.decode()}", b"", method="GET")
            else:
                status, body = self._authnode.request(recorded.path, form)
            if recorded.name != ON_THE_EDGE or int(time.time()) == now:
                break
        granted = status == 200 and json.loads(body)["code"] == 0
        opened = vectors.stock_open_json(key, json.loads(body)["data"]) if granted else None
        if opened is not None:
            self._learn(recorded, opened)
        return Answer(status, body, opened, now)

    def _rebuilt(self, recorded: Exchange, now: int) -> tuple[bytes, bytes]:
        """The form, and the key that opens the reply to it."""
        try:
            members = recorded.request
            access = members.get("api_req", members)
        except (KeyError, ValueError, AttributeError):
            return recorded.form, b""  # no token, or not JSON of an object
        if "ticket" in access:
            held = self._ticket(recorded, access, now)
            access["ticket"], key = held.text, held.session_key
        else:
            key = self._keys.get(access["client_id"]) or os.urandom(32)
        if "verifier" in access:
            access["verifier"] = self._verifier(recorded, access["verifier"], key, now)
        payload = members.get("access_key_caps")
        if payload is not None:
            payload["access_key"] = self._access_keys.get(payload["access_key"], payload["access_key"])
        token = base64.b64encode(json.dumps(members).encode()).decode()
        return f"Token={quote(token, safe='')}".encode(), key

    def _verifier(self, recorded: Exchange, text: str, key: bytes, now: int) -> str:
        if text in self._verifiers and recorded.name != ON_THE_EDGE:
            return self._verifiers[text]
        if len(text) < 4 * 16:
            return text  # no envelope at all
        plain = try_open(recorded.key, text)
        if plain is None:
            made = seal(os.urandom(32), struct.pack("<q", now))
        elif len(plain) == 8:
            made = seal(key, struct.pack("<q", struct.unpack("<q", plain)[0] - recorded.at + now))
        else:
            made = seal(key, plain)
        self._verifiers[text] = made
        return made

    def _ticket(self, recorded: Exchange, access: dict[str, Any], now: int) -> Held:
        """Ours of a recorded ticket: one that we were given for it, or one made with the same defect."""
        text = access["ticket"]
        if text in self._tickets:
            return self._tickets[text]
        plain = try_open(vectors.auth_service_key(), text)
        session_key = recorded.session_key or os.urandom(32)
        if plain is None:
            return Held(seal(os.urandom(32), b'{"version":1}'), session_key)
        members = json.loads(plain)
        members["exp"] += now - recorded.at
        members["session_key"]["c_time"] += now - recorded.at
        members |= {"client_id": access["client_id"], "kvno": 1, "jti": "0" * 32}
        return Held(seal(self._keys[AUTH_SERVICE], json.dumps(members).encode()), base64.b64decode(members["session_key"]["key"]))

    def _learn(self, recorded: Exchange, opened: dict[str, Any]) -> None:
        if "ticket" in opened and recorded.stock_answer == "granted":
            session_key = base64.b64decode(opened["session_key"]["key"])
            self._tickets[recorded.granted["ticket"]] = Held(opened["ticket"], session_key)
        key_info = opened.get("key_info")
        if key_info and key_info["auth_key"]:
            self._keys[key_info["id"]] = base64.b64decode(key_info["auth_key"])
            self._access_keys[recorded.granted["key_info"]["access_key"]] = key_info["access_key"]

"""The line between parent and worker: messages over a Unix socket pair that both inherit.

    u32 length | u8 kind | payload          big-endian; length counts kind and payload

It carries key material, so it is a socket pair and nothing that has a name.
Both ends are ours and trusted; a frame that does not fit is a bug and ends it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, cast

from cubeauth import ids, keys, strictjson
from cubeauth.errors import LocalMisuse
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes

MAX_FRAME = 8 * 1024 * 1024
"""Bytes: an admin reply of a full page, with room."""

MAX_UNSENT = 64 * 1024 * 1024
"""Bytes that may wait for a worker; one that falls so far behind is replaced."""

SNAPSHOT_CHUNK = 500
"""Records in one frame of the first copy."""


class Kind(IntEnum):
    """P: parent to worker; W: worker to parent."""

    SETTINGS = 1  # P: JSON, the first message
    RECORDS = 2  # P: JSON, a chunk of the first copy
    SERVE = 3  # P: the copy is whole, as of the sequence in it: accept connections
    CHANGE = 4  # P: JSON, one write
    ADMIN_REPLY = 5  # P: u32 number | text
    RELOAD = 6  # P: read certificates anew, reopen the audit file
    STOP = 7  # P: finish what is under way and end
    READY = 8  # W: connections are accepted
    ADMIN = 9  # W: u32 number | u8 route | u8 length of peer | peer | form


_KINDS = frozenset(Kind)
_HEAD = struct.Struct(">IB")
NUMBER = struct.Struct(">I")

OnMessage = Callable[[Kind, bytes], None]
OnLost = Callable[[], None]


class Link(asyncio.Protocol):
    """One end. on_message gets whole messages in order; on_lost is called once when the other end is gone."""

    def __init__(self, on_message: OnMessage, on_lost: OnLost) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(buffer, start)
            if not 1 <= length <= MAX_FRAME:
                raise LocalMisuse(f"link frame of {length} bytes")
            end = start + 4 + length
            if len(buffer) < end:
                break
            if kind not in _KINDS:
                raise LocalMisuse(f"link frame of kind {kind}")
            self._on_message(Kind(kind), bytes(buffer[start + _HEAD.size : end]))
            start = end
        del buffer[:start]

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Queue a message; to an end that is gone it goes nowhere. Raises LocalMisuse for one that is too large."""
        if 1 + len(payload) > MAX_FRAME:
            raise LocalMisuse(f"link message of {len(payload)} bytes")
        if self._transport is not None:
            self._transport.write(_HEAD.pack(1 + len(payload), kind) + payload)

    @property
    def unsent(self) -> int:
        """Bytes that wait."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def record_to_json(record: KeyRecord) -> dict[str, Any]:
    return keys.key_info(record) | {"kvno": record.kvno, "caps": record.caps}


def record_from_json(members: dict[str, Any]) -> KeyRecord:
    return KeyRecord(
        id=members["id"],
        kvno=members["kvno"],
        role=ids.Role(members["role"]),
        auth_key=SecretBytes(strictjson.b64decode(members["auth_key"])),
        access_key=members["access_key"],
        secret_key=SecretBytes(members["secret_key"].encode("ascii")),
        create_ts=members["create_ts"],
        caps=members["caps"],
    )

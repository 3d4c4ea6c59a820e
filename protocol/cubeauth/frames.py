"""F3 frames: how the bytes of a connection are cut (protocol-v1, section 7).

    "ANF3" | u8 version 1 | u8 type | u16 flags | u32 length | payload        big-endian

A header is judged as soon as its 12 bytes are there, and a first byte that
cannot begin one at once; a payload only when it is whole. What a header
announces reserves nothing: memory grows with the bytes that came.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from cubeauth.errors import MalformedMessage, Reason

MAGIC = b"ANF3"
VERSION = 1

HEADER = struct.Struct(">4sBBHI")
HEADER_BYTES = HEADER.size

FLAG_SEALED = 1
"""Bit 0: the sender is configured for sealed records, not for clear bytes after the handshake."""

MAX_HANDSHAKE_PAYLOAD = 64 * 1024
"""Bytes that a peer which is not yet known may make us hold."""

MAX_RECORD_PAYLOAD = 1024 * 1024
"""Bytes of ciphertext and tag in one record."""

Buffer = bytes | bytearray | memoryview


class FrameType(IntEnum):
    TICKET = 1
    CHALLENGE = 2
    RESPONSE = 3
    CONFIRM = 4
    ERROR = 5
    DATA = 6
    RENEW = 7
    CLOSE = 8


ALLOWED_FLAGS = {FrameType.TICKET: FLAG_SEALED, FrameType.CHALLENGE: FLAG_SEALED}
"""By type; in every other type flags are 0."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame. payload: a view that is good until its reader is touched again."""

    type: FrameType
    flags: int
    header: bytes
    payload: memoryview = field(repr=False)

    def whole(self) -> bytes:
        """Header and payload, a copy."""
        return self.header + self.payload


def header(kind: FrameType, length: int, flags: int = 0) -> bytes:
    """The 12 bytes before a payload of `length` bytes."""
    return HEADER.pack(MAGIC, VERSION, kind, flags, length)


def encode(kind: FrameType, payload: bytes, flags: int = 0) -> bytes:
    """A whole frame."""
    return header(kind, len(payload), flags) + payload


class FrameReader:
    """Cuts a stream into frames. `limit`, the payload bytes accepted, is raised by the owner when the peer is known."""

    def __init__(self) -> None:
        self.limit = MAX_HANDSHAKE_PAYLOAD
        self._buffer = bytearray()
        self._start = 0
        self._view: memoryview | None = None

    def __len__(self) -> int:
        """Bytes held that no frame was cut from yet."""
        return len(self._buffer) - self._start

    def feed(self, data: Buffer) -> None:
        """Take what came from the peer."""
        self._release()
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> Frame | None:
        """The next whole frame, None while it is not all there.

        Raises MalformedMessage, with the reason TOO_LARGE for a payload above `limit`.
        """
        self._release()
        if self.is_foreign():
            raise MalformedMessage("not an ANF3 frame")
        start, held = self._start, len(self)
        if held < HEADER_BYTES:
            return None
        head = bytes(self._buffer[start : start + HEADER_BYTES])
        kind, flags, length = parse_header(head, self.limit)
        if held < HEADER_BYTES + length:
            return None
        self._start = start + HEADER_BYTES + length
        self._view = memoryview(self._buffer)[start + HEADER_BYTES : self._start]
        return Frame(kind, flags, head, self._view)

    def is_foreign(self) -> bool:
        """Whether what is held cannot begin a frame: whoever sent it speaks something else."""
        head = self._buffer[self._start : self._start + len(MAGIC)]
        return not MAGIC.startswith(head)

    def take_rest(self) -> bytes:
        """Everything that no frame was cut from; for a stream that is raw from here on."""
        self._release()
        rest = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = 0
        return rest

    def _release(self) -> None:
        if self._view is not None:
            self._view.release()
            self._view = None


def parse_header(head: bytes, limit: int) -> tuple[FrameType, int, int]:
    """Type, flags and payload length of 12 bytes that begin with MAGIC. Raises MalformedMessage."""
    _, version, kind, flags, length = HEADER.unpack(head)
    if version != VERSION:
        raise MalformedMessage(f"frame version {version}")
    try:
        known = FrameType(kind)
    except ValueError:
        raise MalformedMessage(f"frame type {kind}") from None
    if flags & ~ALLOWED_FLAGS.get(known, 0):
        raise MalformedMessage(f"flags {flags:#06x} in {known.name}")
    if length > limit:
        raise MalformedMessage(f"{known.name} of {length} bytes, at most {limit}", reason=Reason.TOO_LARGE)
    return known, flags, length

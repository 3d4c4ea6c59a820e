"""Sealed records: one AES-256-GCM frame each, its header the associated data (protocol-v1, section 7).

The nonce is the record's number in its direction, 12 bytes big-endian from 0;
only these two classes count, so no caller can use a number twice.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cubeauth.errors import Reason, RecordRefused
from cubeauth.frames import HEADER_BYTES, Buffer, Frame, FrameType, header
from cubeauth.secret import SecretBytes

TAG_BYTES = 16

MAX_RECORDS = 1 << 32
"""Of one direction; after that the connection ends."""


class _Counter:
    """Gives each nonce once."""

    def __init__(self) -> None:
        self.used = 0

    def next_nonce(self) -> bytes:
        if self.used >= MAX_RECORDS:
            raise RecordRefused("2^32 records in one direction", reason=Reason.RECORD_LIMIT)
        nonce = self.used.to_bytes(12, "big")
        self.used += 1
        return nonce


class Sealer:
    """Our direction."""

    def __init__(self, key: SecretBytes) -> None:
        self._cipher = AESGCM(key.reveal())
        self._counter = _Counter()

    @property
    def spent(self) -> bool:
        """Whether no record is left."""
        return self._counter.used >= MAX_RECORDS

    def seal(self, kind: FrameType, plaintext: Buffer) -> bytearray:
        """A whole frame in one buffer. Raises RecordRefused after 2^32 of them."""
        nonce = self._counter.next_nonce()
        length = len(plaintext) + TAG_BYTES
        out = bytearray(HEADER_BYTES + length)
        head = header(kind, length)
        out[:HEADER_BYTES] = head
        with memoryview(out) as view, view[HEADER_BYTES:] as body:
            self._cipher.encrypt_into(nonce, plaintext, head, body)
        return out


class Opener:
    """The peer's direction."""

    def __init__(self, key: SecretBytes) -> None:
        self._cipher = AESGCM(key.reveal())
        self._counter = _Counter()

    def open_(self, frame: Frame) -> bytes:
        """The plaintext of the next record. Raises RecordRefused for any other, and after 2^32 of them."""
        if len(frame.payload) < TAG_BYTES:
            raise RecordRefused(f"{frame.type.name} shorter than its tag")
        nonce = self._counter.next_nonce()
        try:
            return self._cipher.decrypt(nonce, frame.payload, frame.header)
        except InvalidTag:
            raise RecordRefused(f"{frame.type.name} does not open") from None

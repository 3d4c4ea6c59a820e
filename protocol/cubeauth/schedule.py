"""F3's key schedule: from a session key and a transcript to the keys of a channel (protocol-v1, section 7)."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cubeauth.secret import SecretBytes

KEY_BYTES = 32

_INFO_C2S = b"cubeauth f3 c2s"
_INFO_S2C = b"cubeauth f3 s2c"
_INFO_RENEW = b"cubeauth f3 renew"


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """One AES-256-GCM key a direction: client to server, server to client."""

    c2s: SecretBytes = field(repr=False)
    s2c: SecretBytes = field(repr=False)


def transcript_hash(frames: list[bytes]) -> bytes:
    """SHA-256 of the four handshake frames, whole, in order."""
    return hashlib.sha256(b"".join(frames)).digest()


def channel_keys(session_key: SecretBytes, s_n: int, s_c: int, transcript: bytes) -> ChannelKeys:
    """The keys of a channel. s_n, s_c: the two numbers of its handshake, unsigned 64 bit."""
    salt = struct.pack("<QQ", s_n, s_c)
    return ChannelKeys(*(_hkdf(session_key, salt, info + transcript) for info in (_INFO_C2S, _INFO_S2C)))


def renewal_proof(new_session_key: SecretBytes, transcript: bytes, ticket_text: str) -> bytes:
    """HMAC-SHA256 that ties a fresh ticket to the channel it renews, by a key that only that ticket's holder has."""
    key = _hkdf(new_session_key, b"", _INFO_RENEW)
    message = transcript + hashlib.sha256(ticket_text.encode("utf-8")).digest()
    return hmac.digest(key.reveal(), message, "sha256")


def _hkdf(ikm: SecretBytes, salt: bytes, info: bytes) -> SecretBytes:
    return SecretBytes(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(ikm.reveal()))

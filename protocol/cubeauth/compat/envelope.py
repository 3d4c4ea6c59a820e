"""The stock message envelope: AES-CBC over a plaintext with an unkeyed MD5 (protocol-v1, section 1).

    buf  = R(8) || MD5(R || 0^16 || P) || P
    text = base64(IV || AES-CBC(key, IV, buf || pad))

It is not authenticated encryption: who can flip bits of the ciphertext and
recompute an MD5 under a known plaintext can forge. It is here because stock
peers speak it, only `exchange`, `verifier` and `ticket` may use it, and what
they put inside is short-lived and checked again.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed, LocalMisuse, MalformedMessage, Reason

MAX_PLAINTEXT = 50 * 1024 * 1024
"""Stock's own limit, bytes."""

_BLOCK = 16
_RANDOM = 8
_HEADER = 24  # R and the MD5
_ZEROS = bytes(16)
RANDOM_BYTES = _RANDOM + _BLOCK
"""What one seal draws: R, then IV."""

_PADS = [bytes([n]) * n for n in range(17)]


class EnvelopeKey:
    """A key with its ciphers set up, for who opens and seals many envelopes: setting up is a third of a server's work.

    Both ciphers run on from message to message, which CBC allows. Opening: a block depends on the one before it alone, so
    what the IV decrypts to is thrown away. Sealing: every message begins with a fresh random block, and what that encrypts
    to, as unpredictable as the block, is the IV of the rest. One thread at a time.
    """

    __slots__ = ("_decrypt", "_encrypt")

    def __init__(self, key: bytes) -> None:
        cipher = _cipher(key, _ZEROS)
        self._encrypt = cipher.encryptor().update
        self._decrypt = cipher.decryptor().update

    def seal(self, random_block: bytes, padded: bytes) -> bytes:
        """IV and ciphertext; `random_block` is not the IV."""
        return self._encrypt(_whole_blocks(random_block + padded))

    def open(self, sealed: bytes) -> bytes:
        return self._decrypt(_whole_blocks(sealed))[_BLOCK:]


def _whole_blocks(data: bytes) -> bytes:
    if len(data) % _BLOCK:  # a cipher that runs on would keep the rest and spoil every message after this one
        raise LocalMisuse("no whole number of blocks")
    return data


Key = bytes | EnvelopeKey
"""16, 24 or 32 bytes, or such a key set up."""


def _cipher(key: bytes, iv: bytes) -> Cipher[CBC]:
    try:
        return Cipher(AES(key), CBC(iv))
    except ValueError:
        raise LocalMisuse("an envelope key has 16, 24 or 32 bytes") from None


def seal(key: Key, plaintext: bytes, entropy: Entropy) -> bytes:
    """The envelope's base64 text, ASCII bytes. plaintext: 1 byte to 50 MiB.

    Raises LocalMisuse for a plaintext or key that no envelope can hold.
    """
    if not 1 <= len(plaintext) <= MAX_PLAINTEXT:
        raise LocalMisuse("an envelope holds 1 byte to 50 MiB")
    chance = entropy(RANDOM_BYTES)
    r, block = chance[:_RANDOM], chance[_RANDOM:]
    digest = hashlib.md5(r + _ZEROS + plaintext, usedforsecurity=False).digest()
    padded = b"".join((r, digest, plaintext, _PADS[_BLOCK - (_HEADER + len(plaintext)) % _BLOCK]))
    if isinstance(key, EnvelopeKey):
        sealed = key.seal(block, padded)
    else:
        sealed = block + _cipher(key, block).encryptor().update(padded)
    return binascii.b2a_base64(sealed, newline=False)


def decode(text: str | bytes) -> bytes:
    """The bytes under the base64: IV and ciphertext. Only text that encodes back to itself is taken. Raises MalformedMessage."""
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        sealed = binascii.a2b_base64(raw)
    except ValueError:
        raise MalformedMessage("envelope: not base64", reason=Reason.BAD_ENVELOPE) from None
    if binascii.b2a_base64(sealed, newline=False) != raw:
        raise MalformedMessage("envelope: base64 does not encode back to itself", reason=Reason.BAD_ENVELOPE)
    if len(sealed) < 4 * _BLOCK - _BLOCK or len(sealed) % _BLOCK or len(sealed) > MAX_PLAINTEXT + 4 * _BLOCK:
        raise MalformedMessage("envelope: no whole number of blocks", reason=Reason.BAD_ENVELOPE)
    return sealed


def open_decoded(key: Key, sealed: bytes) -> bytes:
    """The plaintext of what `decode` gave. Raises AuthenticationFailed, the same for every cause and after the same work."""
    if isinstance(key, EnvelopeKey):
        buf = key.open(sealed)
    else:
        buf = _cipher(key, sealed[:_BLOCK]).decryptor().update(sealed[_BLOCK:])
    # A wrong pad does not end the work early: the digest is computed over
    # something of the same length and compared all the same, so that neither
    # the clock nor the answer tells padding from checksum (section 11 rule 5).
    pad = buf[-1]
    good_pad = 1 <= pad <= _BLOCK and len(buf) - pad > _HEADER and buf[-pad:] == _PADS[pad]
    end = len(buf) - pad if good_pad else len(buf) - 1
    plaintext = buf[_HEADER:end]
    digest = hashlib.md5(buf[:_RANDOM] + _ZEROS + plaintext, usedforsecurity=False).digest()
    if not (hmac.compare_digest(digest, buf[_RANDOM:_HEADER]) and good_pad):
        raise AuthenticationFailed("envelope does not open")
    return plaintext


def open_(key: Key, text: str | bytes) -> bytes:
    """Decode and open. Raises MalformedMessage, AuthenticationFailed."""
    return open_decoded(key, decode(text))

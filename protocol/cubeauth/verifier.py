"""Verifiers: proof that the sender holds a key, now, and for this request (protocol-v1, section 11 rules 3, 4 and 6).

A stock verifier is the envelope of LE64 unix seconds. Ours adds a hash of the
request it came with: stock servers read the first 8 bytes only, so the longer
one is good everywhere, and a body changed on the way shows at our server.
The numbers of the F3 handshake are sealed the same way.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cubeauth.compat import envelope
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed, Reason

SKEW = 10
"""Seconds that a verifier's time may be from ours, either way; stock's own bound for the past."""

_STOCK = struct.Struct("<q")
_BOUND = struct.Struct("<qB32s")
_BOUND_TAG = 1
MASK64 = (1 << 64) - 1


@dataclass(slots=True)  # not frozen: that costs a third of a microsecond a field, for every ticket
class Verifier:
    """An opened verifier. time: unix seconds as the sender said; body_hash: of the request it was made for, if it says."""

    time: int
    body_hash: bytes | None


def seal(key: bytes, time: int, entropy: Entropy, *, body: bytes | None = None) -> str:
    """A verifier's text for `time` (unix seconds), bound to `body`, the canonical request, unless that is None."""
    plain = _STOCK.pack(time) if body is None else _BOUND.pack(time, _BOUND_TAG, hashlib.sha256(body).digest())
    return envelope.seal(key, plain, entropy).decode("ascii")


def decode(text: str) -> bytes:
    """The envelope under the base64, which is what the replay cache is keyed by. Raises MalformedMessage."""
    return envelope.decode(text)


def open_(key: envelope.Key, decoded: bytes) -> Verifier:
    """What `decode` gave, opened: exactly 8 or 41 bytes. Raises AuthenticationFailed."""
    plain = envelope.open_decoded(key, decoded)
    if len(plain) == _STOCK.size:
        return Verifier(_STOCK.unpack(plain)[0], None)
    if len(plain) == _BOUND.size and plain[8] == _BOUND_TAG:
        time, _, body_hash = _BOUND.unpack(plain)
        return Verifier(time, body_hash)
    raise AuthenticationFailed("neither 8 nor 41 bytes", reason=Reason.BAD_VERIFIER)


def check(verifier: Verifier, *, now: float, skew: int = SKEW, require_bound: bool = False) -> None:
    """Refuse a time that is `skew` seconds or more away from `now`, and an unbound one where that is required.

    Raises AuthenticationFailed. Python's integers do not wrap: no value of int64 slips through the difference.
    """
    if not -skew < int(now) - verifier.time < skew:
        raise AuthenticationFailed(f"{int(now) - verifier.time} s away", reason=Reason.VERIFIER_SKEW)
    if require_bound and verifier.body_hash is None:
        raise AuthenticationFailed("not bound to the request", reason=Reason.VERIFIER_UNBOUND)


def check_binding(verifier: Verifier, body: bytes) -> None:
    """Refuse a verifier that was made for another request than `body`, the canonical form. Raises AuthenticationFailed."""
    if verifier.body_hash is not None and not hmac.compare_digest(verifier.body_hash, hashlib.sha256(body).digest()):
        raise AuthenticationFailed("made for another request", reason=Reason.BAD_VERIFIER)


def replay_key(client_id: str, decoded: bytes) -> bytes:
    """32 bytes that are the same for the same proof: of the id and the decoded envelope, so that no other base64 of it is new."""
    return hashlib.sha256(client_id.encode("ascii", "replace") + b"\0" + decoded).digest()


def seal_numbers(key: bytes, entropy: Entropy, *numbers: int) -> bytes:
    """Unsigned 64-bit numbers, little-endian, in one envelope (section 7's E). Arithmetic is mod 2^64."""
    return envelope.seal(key, b"".join(struct.pack("<Q", n & MASK64) for n in numbers), entropy)


def open_numbers(key: bytes, text: bytes, count: int) -> tuple[int, ...]:
    """Exactly `count` numbers. Raises MalformedMessage, AuthenticationFailed."""
    plain = envelope.open_(key, text)
    if len(plain) != 8 * count:
        raise AuthenticationFailed(f"{len(plain)} bytes where {8 * count} belong", reason=Reason.BAD_CHALLENGE)
    return struct.unpack(f"<{count}Q", plain)

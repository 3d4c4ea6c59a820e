"""JSON as a wire format: what is ambiguous is refused.

Python's parser takes duplicated members, NaN and numbers of any length. Two
ends that read one text differently are how checks are walked around, so here
a duplicated member, NaN, a number that overflows, an over-long or
over-nested text is malformed.
"""

from __future__ import annotations

import binascii
import json
import math
from typing import Any, NoReturn

from cubeauth.errors import MalformedMessage


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedMessage("duplicated JSON member")
    return members


def _constant(_text: str) -> NoReturn:
    raise MalformedMessage("NaN or Infinity in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # 1e999, which Go refuses and which could only be written back as Infinity, no JSON
        raise MalformedMessage("a number in JSON overflows")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_finite)
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode
_encode_sorted = json.JSONEncoder(
    separators=(",", ":"), sort_keys=True, ensure_ascii=True, check_circular=False, allow_nan=False
).encode

_MIN_INT, _MAX_INT = -(1 << 63), (1 << 64) - 1
"""What an int64 or uint64 of a Go peer holds."""


def loads(text: str | bytes) -> Any:
    """Parse one JSON value. Raises MalformedMessage for anything else, never another error."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        # Programs put nothing around a value: the decoder's search for white space is for who does.
        if text[:1] == "{":
            value, end = _decoder.raw_decode(text)
            if end == len(text):
                return value
        return _decoder.decode(text)
    except (ValueError, RecursionError):  # ValueError: bad JSON, bad UTF-8, an integer of thousands of digits
        raise MalformedMessage("not JSON") from None


def load_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises MalformedMessage."""
    value = loads(text)
    if not isinstance(value, dict):
        raise MalformedMessage("not a JSON object")
    return value


def dumps(value: Any) -> str:
    """Compact JSON, members in the order given."""
    return _encode(value)


def dumps_indented(members: dict[str, Any]) -> str:
    """An object indented by two spaces, which is the form of stock's key and ticket files."""
    return json.dumps(members, indent=2)


def canonical(value: Any) -> bytes:
    """The one form that verifier+ hashes (protocol-v1, section 11 rule 6)."""
    try:
        return _encode_sorted(value).encode("ascii")
    except (ValueError, RecursionError):
        raise MalformedMessage("cannot be written as JSON") from None


def b64decode(text: str | bytes) -> bytes:
    """Standard padded base64, accepted only if it encodes back to itself: one byte string has one text.

    Raises MalformedMessage.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        value = binascii.a2b_base64(raw)
        if binascii.b2a_base64(value, newline=False) != raw:
            raise MalformedMessage("base64 does not encode back to itself")
    except ValueError:  # binascii.Error, UnicodeEncodeError
        raise MalformedMessage("not base64") from None
    return value


def b64encode(value: bytes) -> str:
    """Standard padded base64."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def text_member(members: dict[str, Any], name: str) -> str:
    """A member that must be a string. Raises MalformedMessage naming it."""
    value = members.get(name)
    if not isinstance(value, str):
        raise MalformedMessage(f"{name}: not a string")
    return value


def int_member(members: dict[str, Any], name: str) -> int:
    """A member that must be a whole number of 64 bits (a bool is none). Raises MalformedMessage naming it.

    Bounded, because arithmetic of a longer one with `now`, a float, would overflow in whoever trusts it.
    """
    value = members.get(name)
    if type(value) is not int or not _MIN_INT <= value <= _MAX_INT:
        raise MalformedMessage(f"{name}: not a whole number")
    return value


def object_member(members: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that must be an object. Raises MalformedMessage naming it."""
    value = members.get(name)
    if not isinstance(value, dict):
        raise MalformedMessage(f"{name}: not an object")
    return value

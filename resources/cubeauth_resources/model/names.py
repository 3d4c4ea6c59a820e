"""Names as the Kubernetes API server takes them, so that a manifest that works on bare metal works there unchanged."""

from __future__ import annotations

import re

from cubeauth.errors import InputError
from cubeauth_resources.model.fields import shown, text_pairs

MAX_SUBDOMAIN = 253
"""Letters of an object's name (RFC 1123 subdomain)."""

MAX_LABEL = 63
"""Letters of a namespace (RFC 1123 label), of a label's name and of its value."""

_PART = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_PART)
_DNS_SUBDOMAIN = re.compile(rf"{_PART}(?:\.{_PART})*")
_LABEL_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")

Labels = frozenset[tuple[str, str]]
"""Labels as a set: a selector matches what holds all of its pairs."""


def object_name(text: str, field: str) -> str:
    """`text` if it can name an object. Raises InputError naming `field`."""
    if len(text) > MAX_SUBDOMAIN or not _DNS_SUBDOMAIN.fullmatch(text):
        raise InputError(field, f"{shown(text)} is no object's name", f"1 to {MAX_SUBDOMAIN} small letters, digits, - and .")
    return text


def namespace(text: str, field: str) -> str:
    """`text` if it can name a namespace. Raises InputError naming `field`."""
    if len(text) > MAX_LABEL or not _DNS_LABEL.fullmatch(text):
        raise InputError(field, f"{shown(text)} is no namespace", f"1 to {MAX_LABEL} small letters, digits and -")
    return text


def labels(value: object, path: str) -> Labels:
    """A mapping of labels. Raises InputError naming the label."""
    pairs = text_pairs(value, path)
    for name, word in pairs.items():
        prefix, slash, last = name.rpartition("/")
        good_prefix = not slash or (len(prefix) <= MAX_SUBDOMAIN and _DNS_SUBDOMAIN.fullmatch(prefix))
        if not good_prefix or not _is_label_word(last):
            raise InputError(
                f"{path}.{name}", "no label's name", f"1 to {MAX_LABEL} letters, digits, - _ . after an optional DNS prefix and /"
            )
        if word and not _is_label_word(word):
            raise InputError(
                f"{path}.{name}", f"{shown(word)} is no label's value", f"at most {MAX_LABEL} letters, digits, - _ ."
            )
    return frozenset(pairs.items())


def _is_label_word(text: str) -> bool:
    return len(text) <= MAX_LABEL and _LABEL_WORD.fullmatch(text) is not None

"""One derived key for each use of the root key, and fields that have one encoding."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeauth import entropy
from cubeauth.secret import SecretBytes
from cubeauth_authnode.keystore.sealing import Field, NotAuthentic, Seals, Use, encode_fields

ROOT = bytes(range(32))
SEALS = Seals(SecretBytes(ROOT))

fields = st.lists(st.one_of(st.text(max_size=8), st.binary(max_size=8), st.integers()), max_size=4)


@given(fields, fields)
def test_two_lists_of_fields_never_have_one_encoding(one: list[Field], other: list[Field]) -> None:
    same = [(type(field), field) for field in one] == [(type(field), field) for field in other]
    assert (encode_fields(*one) == encode_fields(*other)) == same


def test_each_use_has_the_key_that_rfc_5869_derives_for_its_label() -> None:
    for use in Use:
        # HKDF-Expand for one block: HMAC(root, info || 0x01), RFC 5869 section 2.3.
        key = hmac.digest(ROOT, use.value + b"\x01", hashlib.sha256)
        assert SEALS.mac(use, "a", 1) == hmac.digest(key, encode_fields("a", 1), hashlib.sha256)
    assert len({SEALS.mac(use) for use in Use}) == len(Use)


def test_the_root_id_names_the_key_and_is_no_part_of_it() -> None:
    assert SEALS.root_id == Seals(SecretBytes(ROOT)).root_id
    assert SEALS.root_id != Seals(SecretBytes(ROOT[::-1])).root_id
    assert len(SEALS.root_id) == 16
    assert SEALS.root_id not in ROOT.hex()


def test_what_is_wrapped_opens_only_whole_and_in_its_place() -> None:
    sealed = SEALS.wrap(b"material", b"place", entropy.system)
    assert SEALS.unwrap(sealed, b"place") == b"material"
    changed = [bytes(byte ^ (n == at) for n, byte in enumerate(sealed)) for at in range(len(sealed))]
    for other in (*changed, sealed[:-1], sealed[:12], sealed[:3], b"", sealed + b"\x00"):
        with pytest.raises(NotAuthentic):
            SEALS.unwrap(other, b"place")
    with pytest.raises(NotAuthentic):
        SEALS.unwrap(sealed, b"another place")
    with pytest.raises(NotAuthentic):
        Seals(SecretBytes(ROOT[::-1])).unwrap(sealed, b"place")


def test_the_same_is_never_wrapped_to_the_same() -> None:
    assert SEALS.wrap(b"material", b"", entropy.system) != SEALS.wrap(b"material", b"", entropy.system)

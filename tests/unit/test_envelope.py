"""The stock envelope: bounds, chance, and that opening fails in one way after the same work."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from cubeauth.compat import envelope
from cubeauth.entropy import scripted, system
from cubeauth.errors import AuthenticationFailed, LocalMisuse, MalformedMessage, Reason

KEY = bytes(range(32))


def _raw(padded: bytes, iv: bytes = bytes(16), key: bytes = KEY) -> str:
    """An envelope around any buffer and padding, right or wrong."""
    return base64.b64encode(iv + Cipher(AES(key), CBC(iv)).encryptor().update(padded)).decode()


def _buffer(plaintext: bytes, r: bytes = b"12345678") -> bytes:
    digest = hashlib.md5(r + bytes(16) + plaintext, usedforsecurity=False).digest()
    return r + digest + plaintext


@pytest.mark.parametrize("length", [*range(1, 50), 1000, 65536])
def test_both_ways_at_every_offset_of_a_block(length: int) -> None:
    plaintext = bytes(i % 251 for i in range(length))
    text = envelope.seal(KEY, plaintext, system)
    assert envelope.open_(KEY, text) == envelope.open_(KEY, text.decode()) == plaintext
    assert len(base64.b64decode(text)) == 16 + 16 * ((24 + length) // 16 + 1)


def test_chance_is_r_then_iv_and_fresh_each_time() -> None:
    text = envelope.seal(KEY, b"x", scripted(b"R" * 8 + b"I" * 16))
    assert base64.b64decode(text)[:16] == b"I" * 16
    assert text == _raw(_buffer(b"x", b"R" * 8) + bytes([7]) * 7, b"I" * 16).encode()
    assert envelope.seal(KEY, b"x", system) != envelope.seal(KEY, b"x", system)


@pytest.mark.parametrize("length", [0, 15, 17, 31, 33, 48, 64])
def test_key_of_no_length_of_aes_is_our_own_mistake(length: int) -> None:
    with pytest.raises(LocalMisuse):
        envelope.seal(bytes(length), b"x", system)
    with pytest.raises(LocalMisuse):
        envelope.open_decoded(bytes(length), bytes(48))
    with pytest.raises(LocalMisuse):
        envelope.EnvelopeKey(bytes(length))


def test_nothing_is_not_sealed_nor_more_than_the_limit() -> None:
    with pytest.raises(LocalMisuse):
        envelope.seal(KEY, b"", system)
    with pytest.raises(LocalMisuse):
        envelope.seal(KEY, bytes(envelope.MAX_PLAINTEXT + 1), system)


def test_the_longest_plaintext_opens_again() -> None:
    longest = bytes(envelope.MAX_PLAINTEXT)
    assert envelope.open_(KEY, envelope.seal(KEY, longest, system)) == longest
    with pytest.raises(MalformedMessage):
        envelope.decode(base64.b64encode(bytes(envelope.MAX_PLAINTEXT + 80)))


@pytest.mark.parametrize("length", [0, 1, 16, 32, 47, 49, 63])
def test_no_whole_number_of_blocks_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage) as caught:
        envelope.decode(base64.b64encode(bytes(length)))
    assert caught.value.reason is Reason.BAD_ENVELOPE


@pytest.mark.parametrize("text", ["é", "\ud800", "A" * 63, "A" * 64 + "\n", "A" * 63 + "-", " " + "A" * 64])
def test_other_text_of_the_same_bytes_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        envelope.decode(text)
    assert caught.value.reason is Reason.BAD_ENVELOPE


# Buffer of 30 bytes, so that a good pad is two bytes of value 2.
BAD_PADS = {
    "zero": b"\x02\x00",
    "one more than a block": b"\x02\x11",
    "255": b"\xff\xff",
    "first byte wrong": b"\x01\x02",
    "shorter, and so part of the plaintext": b"\x02\x01",
    "longer than what stands there": b"\x03\x03",
}


@pytest.mark.parametrize("pad", BAD_PADS.values(), ids=BAD_PADS)
def test_wrong_padding_under_a_right_checksum_does_not_open(pad: bytes) -> None:
    """Rule 5: padding is checked strictly."""
    good = _buffer(b"abcdef")
    assert envelope.open_(KEY, _raw(good + b"\x02\x02")) == b"abcdef"
    with pytest.raises(AuthenticationFailed):
        envelope.open_(KEY, _raw(good + pad))


def test_padding_that_leaves_no_plaintext_does_not_open() -> None:
    with pytest.raises(AuthenticationFailed):
        envelope.open_(KEY, _raw(_buffer(b"") + b"\x08" * 8))


def test_a_key_set_up_fails_as_the_bare_key_does_and_goes_on_afterwards() -> None:
    key, good = envelope.EnvelopeKey(KEY), _buffer(b"abcdef") + b"\x02\x02"
    assert envelope.open_(key, _raw(good)) == b"abcdef"
    for pad in BAD_PADS.values():
        with pytest.raises(AuthenticationFailed) as caught:
            envelope.open_(key, _raw(good[:-2] + pad))
        assert caught.value.detail == "envelope does not open"
        assert envelope.open_(key, _raw(good, b"I" * 16)) == b"abcdef"
    assert repr(KEY)[2:-1] not in repr(key)


@pytest.mark.parametrize("length", [1, 15, 50])
def test_a_part_of_a_block_does_not_spoil_what_a_key_set_up_does_next(length: int) -> None:
    key = envelope.EnvelopeKey(KEY)
    with pytest.raises(LocalMisuse):
        envelope.open_decoded(key, bytes(length))
    with pytest.raises(LocalMisuse):
        envelope.seal(key, b"x", lambda count: bytes(count + length))
    assert envelope.open_(key, envelope.seal(key, b"x", system)) == b"x"
    assert envelope.open_(KEY, envelope.seal(key, b"x", system)) == b"x"


def test_a_key_set_up_never_repeats_an_iv_nor_sends_the_random_block_as_one() -> None:
    key, block = envelope.EnvelopeKey(KEY), b"B" * 16
    texts = [envelope.seal(key, b"x", scripted(b"R" * 8 + block)) for _ in range(100)]
    ivs = [base64.b64decode(text)[:16] for text in texts]
    assert len(set(ivs)) == 100, "even when chance repeats itself"
    assert block not in ivs
    assert {envelope.open_(KEY, text) for text in texts} == {b"x"}


def test_every_single_bit_counts() -> None:
    sealed = bytearray(base64.b64decode(envelope.seal(KEY, b"attack at dawn, not at dusk", system)))
    for byte, bit in itertools.product(range(len(sealed)), range(8)):
        sealed[byte] ^= 1 << bit
        with pytest.raises(AuthenticationFailed):
            envelope.open_decoded(KEY, bytes(sealed))
        sealed[byte] ^= 1 << bit


def test_every_cause_of_not_opening_looks_alike() -> None:
    """Rule 5: the error does not tell padding from checksum from key."""
    good = _buffer(b"abcdef") + b"\x02\x02"
    causes = {
        "padding": _raw(good[:-1] + b"\x00"),
        "checksum": _raw(good[:8] + bytes([good[8] ^ 1]) + good[9:]),
        "both": _raw(bytes(32)),
        "key": _raw(good, key=bytes(32)),
    }
    seen = set()
    for text in causes.values():
        with pytest.raises(AuthenticationFailed) as caught:
            envelope.open_(KEY, text)
        seen.add((type(caught.value), caught.value.reason, caught.value.detail, caught.value.code, caught.value.wire_text))
    assert seen == {(AuthenticationFailed, Reason.BAD_ENVELOPE, "envelope does not open", 2, "authentication failed")}


def test_the_checksum_is_computed_and_compared_for_bad_padding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 5: the same work for every cause, so that a clock cannot tell them apart either."""
    good, pad = _buffer(b"x" * 100), bytes([4]) * 4
    digests: list[int] = []
    compared: list[int] = []
    real_md5, real_compare = hashlib.md5, hmac.compare_digest

    def md5(data: bytes, *, usedforsecurity: bool) -> object:
        digests.append(len(data))
        return real_md5(data, usedforsecurity=usedforsecurity)

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(b))
        return real_compare(a, b)

    monkeypatch.setattr(hashlib, "md5", md5)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for text in (_raw(good[:-1] + b"y" + pad), _raw(good + b"\x03\x03\x03\x00"), _raw(good + b"\x03\x03\x03\xff")):
        with pytest.raises(AuthenticationFailed):
            envelope.open_(KEY, text)
    assert digests == [124, 127, 127], "within a block of MD5 of each other"
    assert compared == [16, 16, 16]

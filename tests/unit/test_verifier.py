"""Verifiers: lengths, skew, binding, replay keys, and the numbers of F3 that are sealed the same way."""

from __future__ import annotations

import hashlib
import struct

import pytest

from cubeauth import verifier
from cubeauth.compat import envelope
from cubeauth.entropy import system
from cubeauth.errors import AuthenticationFailed, MalformedMessage, Reason

KEY, OTHER = bytes(range(32)), bytes(32)
NOW = 1_800_000_000
BODY = b'{"type":1114112}'


def _sealed(plaintext: bytes) -> bytes:
    return envelope.decode(envelope.seal(KEY, plaintext, system))


def test_both_forms_both_ways() -> None:
    stock = verifier.open_(KEY, verifier.decode(verifier.seal(KEY, NOW, system)))
    assert stock == verifier.Verifier(NOW, None)
    bound = verifier.open_(KEY, verifier.decode(verifier.seal(KEY, NOW, system, body=BODY)))
    assert bound == verifier.Verifier(NOW, hashlib.sha256(BODY).digest())


def test_stock_reads_the_time_from_the_first_8_bytes_of_ours() -> None:
    """Rule 6: the bound form is LE64 ts || 0x01 || SHA-256(body)."""
    plain = envelope.open_(KEY, verifier.seal(KEY, NOW, system, body=BODY))
    assert plain == struct.pack("<q", NOW) + b"\x01" + hashlib.sha256(BODY).digest()


@pytest.mark.parametrize("length", [n for n in range(1, 60) if n not in (8, 41)])
def test_rule_3_a_plaintext_of_another_length_is_refused(length: int) -> None:
    plain = (struct.pack("<q", NOW) + b"\x01" + bytes(60))[:length]
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.open_(KEY, _sealed(plain))
    assert caught.value.reason is Reason.BAD_VERIFIER


@pytest.mark.parametrize("tag", [0, 2, 0xFF])
def test_rule_3_41_bytes_with_another_tag_are_refused(tag: int) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.open_(KEY, _sealed(struct.pack("<qB", NOW, tag) + bytes(32)))
    assert caught.value.reason is Reason.BAD_VERIFIER


@pytest.mark.parametrize("away", [-9, -5, 0, 5, 9])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999_999])
def test_a_time_within_the_skew_is_taken(away: int, fraction: float) -> None:
    verifier.check(verifier.Verifier(NOW + away, None), now=NOW + fraction)


@pytest.mark.parametrize("away", [10, 11, 3600, -10, -11, -3600])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999_999])
def test_rule_3_a_time_outside_the_skew_is_refused_in_both_directions(away: int, fraction: float) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.check(verifier.Verifier(NOW + away, None), now=NOW + fraction)
    assert caught.value.reason is Reason.VERIFIER_SKEW


@pytest.mark.parametrize("time", [-(1 << 63), -(1 << 63) + NOW, -1, 0, (1 << 62), (1 << 63) - 1])
def test_rule_3_no_overflow_of_int64_slips_through(time: int) -> None:
    opened = verifier.open_(KEY, verifier.decode(verifier.seal(KEY, time, system)))
    assert opened.time == time
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.check(opened, now=float(NOW))
    assert caught.value.reason is Reason.VERIFIER_SKEW


def test_a_shorter_skew_holds() -> None:
    verifier.check(verifier.Verifier(NOW - 1, None), now=NOW, skew=2)
    with pytest.raises(AuthenticationFailed):
        verifier.check(verifier.Verifier(NOW - 2, None), now=NOW, skew=2)


def test_rule_6_an_unbound_verifier_is_refused_where_a_bound_one_is_required() -> None:
    verifier.check(verifier.Verifier(NOW, bytes(32)), now=NOW, require_bound=True)
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.check(verifier.Verifier(NOW, None), now=NOW, require_bound=True)
    assert caught.value.reason is Reason.VERIFIER_UNBOUND


def test_rule_6_a_bound_verifier_is_good_for_its_body_only() -> None:
    bound = verifier.Verifier(NOW, hashlib.sha256(BODY).digest())
    verifier.check_binding(bound, BODY)
    verifier.check_binding(verifier.Verifier(NOW, None), BODY)
    for other in (b"", BODY + b" ", BODY[:-1]):
        with pytest.raises(AuthenticationFailed) as caught:
            verifier.check_binding(bound, other)
        assert caught.value.reason is Reason.BAD_VERIFIER


def test_verifier_of_another_key_does_not_open() -> None:
    with pytest.raises(AuthenticationFailed):
        verifier.open_(OTHER, verifier.decode(verifier.seal(KEY, NOW, system)))


def test_replay_key_is_of_id_and_envelope() -> None:
    first, second = (verifier.decode(verifier.seal(KEY, NOW, system)) for _ in range(2))
    seen = {verifier.replay_key(client, decoded) for client in ("a", "b") for decoded in (first, second)}
    assert len(seen) == 4
    assert verifier.replay_key("a", first) in seen
    assert {len(key) for key in seen} == {32}


def test_replay_key_does_not_run_id_and_envelope_together() -> None:
    assert verifier.replay_key("a", b"b" + bytes(48)) != verifier.replay_key("ab", bytes(48))


def test_rule_4_no_other_text_of_a_verifier_is_a_new_one() -> None:
    text = verifier.seal(KEY, NOW, system)
    for other in (text + "\n", " " + text, text[:-1] + "\r\n" + text[-1], text.replace("=", ""), text + "===="):
        if other != text:
            with pytest.raises(MalformedMessage):
                verifier.decode(other)


@pytest.mark.parametrize("numbers", [(0,), (1, 2), ((1 << 64) - 1,), (5, 6, 7)])
def test_numbers_both_ways(numbers: tuple[int, ...]) -> None:
    assert verifier.open_numbers(KEY, verifier.seal_numbers(KEY, system, *numbers), len(numbers)) == numbers


def test_numbers_are_modulo_2_to_the_64() -> None:
    assert verifier.open_numbers(KEY, verifier.seal_numbers(KEY, system, 1 << 64, -1), 2) == (0, (1 << 64) - 1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_count_of_numbers_is_refused(count: int) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        verifier.open_numbers(KEY, verifier.seal_numbers(KEY, system, 1, 2), count)
    assert caught.value.reason is Reason.BAD_CHALLENGE

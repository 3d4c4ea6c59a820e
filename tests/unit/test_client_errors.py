"""What a person reads when an Authnode says no, or nothing."""

from __future__ import annotations

import pytest

from cubeauth.errors import AUTHENTICATION_FAILED
from cubeauth_client.errors import AuthnodeRefused, AuthnodeUnreachable, Failure, refusal_hint


def failure(endpoint: str, problem: str) -> Failure:
    return Failure(endpoint, problem, temporary=True, may_be_done=False)


def test_unreachable_names_every_endpoint_once_with_its_last_problem() -> None:
    error = AuthnodeUnreachable((failure("http://a:1", "x"), failure("http://b:1", "y"), failure("http://a:1", "z")))
    assert str(error) == "no Authnode gave an answer that can be used: http://a:1: z (2 tries); http://b:1: y"


def test_an_unknown_outcome_is_said() -> None:
    text = str(AuthnodeUnreachable((failure("http://a:1", "no reply in time"),), outcome_unknown=True))
    assert "may have been carried out" in text


@pytest.mark.parametrize(
    ("code", "text", "difference", "part"),
    [
        (2, AUTHENTICATION_FAILED, None, "this host's clock differs from the Authnode's by 10 s or more"),
        (2, AUTHENTICATION_FAILED, 0.4, "the key is wrong or was deleted"),
        (2, AUTHENTICATION_FAILED, 37.2, "(it is about 37 s behind)"),
        (2, AUTHENTICATION_FAILED, -3600.0, "(it is about 3600 s ahead)"),
        (2, "req verifier is timeout [3600] >= [10]", 3600.0, "likely this host's clock differs"),
        (41, "ticket of a deleted key", None, "the key was deleted or made anew"),
        (43, "expired ticket", None, "get a new one"),
    ],
)
def test_a_refusal_names_what_it_usually_means(code: int, text: str, difference: float | None, part: str) -> None:
    assert part in refusal_hint(code, text, difference)


def test_a_clock_that_is_right_is_not_blamed_with_a_number() -> None:
    assert "about" not in refusal_hint(2, AUTHENTICATION_FAILED, 1.0)


def test_a_refusal_that_says_it_all_gets_no_hint() -> None:
    assert refusal_hint(35, "key reader exists", 100.0) == ""
    assert str(AuthnodeRefused("http://a:1", 35, "key reader exists")) == "http://a:1 refused with code 35: key reader exists"

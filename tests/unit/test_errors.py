"""The tree of errors: what a person reads, what the wire says, what stays here."""

from __future__ import annotations

import pytest

from cubeauth import errors
from cubeauth.errors import CubeauthError, InputError, PeerError, Reason, ServerRefused, shown

TOLD = {"RequestInvalid", "CapabilityMissing", "KeyRequestRefused", "TicketInvalid", "TicketExpired", "_ToldPeerError"}
CODES = {"KeyRequestRefused": 35, "TicketInvalid": 41, "TicketExpired": 43}


def _leaves() -> list[type[PeerError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, PeerError) and value.__init__ is PeerError.__init__
    ]


@pytest.mark.parametrize("error", _leaves(), ids=lambda error: error.__name__)
def test_wire_code_and_text_of_every_error_of_a_peer(error: type[PeerError]) -> None:
    made = error("the detail")
    assert made.code == CODES.get(error.__name__, 2)
    assert made.wire_text == ("the detail" if error.__name__ in TOLD else "authentication failed")
    assert made.reason is error.default_reason
    assert error("x", reason=Reason.DEADLINE).reason is Reason.DEADLINE
    assert str(error()) == error.default_reason.value


def test_what_a_server_told_us_is_not_told_on() -> None:
    refused = ServerRefused(43, "expired ticket")
    assert (refused.wire_text, refused.code, str(refused)) == ("authentication failed", 2, "refused with code 43: expired ticket")


def test_every_error_is_in_the_tree_at_the_head() -> None:
    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, CubeauthError) and not name.startswith("_"):
            assert name in drawn


def test_input_error_is_one_line_of_file_field_problem_and_remedy() -> None:
    error = InputError("a.b", "not\na  list", "write\ta list")
    assert str(error) == "a.b: not a list; write a list"
    assert str(error.located("f.yaml")) == "f.yaml: a.b: not a list; write a list"
    assert str(error.located("inner.yaml").located("outer.yaml")) == "inner.yaml: a.b: not a list; write a list"
    assert str(InputError("", "missing")) == "missing"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a'b\n", '"a\'b\\n"'),
        ("\x1b[0m", r"'\x1b[0m'"),
        (7, "7"),
        (None, "None"),
        ({"auth_key": "hunter2"}, "an object"),
        (["hunter2"], "a list"),
        ("x" * 101, "a text of 101 characters"),
    ],
)
def test_value_in_an_error_is_printable_short_and_no_secret(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_shorter_limit_of_what_is_shown() -> None:
    assert shown("x" * 23, 23) == repr("x" * 23)
    assert shown("x" * 24, 23) == "a text of 24 characters"

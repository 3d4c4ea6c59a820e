"""Flags as Go's flag package reads them: what scripts around cfs-authtool write must mean the same here."""

from __future__ import annotations

import pytest

from cubeauth.errors import InputError
from cubeauth_cli.goflags import Flag, HelpAsked, parse

FLAGS = (Flag("host", "localhost:8080", "", "HOST:PORT"), Flag("https", False, ""), Flag("keylen", 32, "", "N"))


def values(*arguments: str) -> tuple[str, bool, int]:
    parsed = parse(FLAGS, arguments)
    keylen = parsed.values["keylen"]
    assert isinstance(keylen, int)
    return parsed.text("host"), parsed.flag("https"), keylen


@pytest.mark.parametrize(
    "arguments", [["-host=a:1"], ["--host=a:1"], ["-host", "a:1"], ["--host", "a:1"], ["-host=b", "-host=a:1"]]
)
def test_a_value_in_every_way_that_go_takes_it(arguments: list[str]) -> None:
    assert values(*arguments) == ("a:1", False, 32)


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_what_go_calls_true(text: str) -> None:
    assert values(f"-https={text}")[1]


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_what_go_calls_false(text: str) -> None:
    assert not values("-https", f"-https={text}")[1]


def test_a_boolean_alone_is_true_and_takes_no_word() -> None:
    parsed = parse(FLAGS, ["-https", "false"])
    assert parsed.flag("https")
    assert parsed.words == ("false",)


def test_a_value_may_hold_what_flags_are_made_of() -> None:
    assert values("-host=a=b")[0] == "a=b"
    assert values("-host=")[0] == ""
    assert values("-host", "-https")[0] == "-https"


def test_the_first_word_ends_the_flags() -> None:
    parsed = parse(FLAGS, ["-https", "getticket", "-host=a:1"])
    assert parsed.words == ("getticket", "-host=a:1")
    assert parsed.given == {"https"}


def test_two_dashes_end_the_flags_and_one_is_a_word() -> None:
    assert parse(FLAGS, ["--", "-https"]).words == ("-https",)
    assert parse(FLAGS, ["-", "-https"]).words == ("-", "-https")


def test_numbers() -> None:
    assert values("-keylen=16")[2] == 16
    assert values("-keylen", "-1")[2] == -1


@pytest.mark.parametrize("argument", ["-h", "-help", "--help"])
def test_help_is_answered_without_being_a_flag(argument: str) -> None:
    with pytest.raises(HelpAsked):
        parse(FLAGS, [argument])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-hosts=a:1"], "'-hosts': no such flag; there are -host, -https, -keylen"),
        (["-password=hunter2"], "'-password': no such flag; there are -host, -https, -keylen"),
        (["---host=a:1"], "'---host': no such flag; there are -host, -https, -keylen"),
        (["-=x"], "'-': no such flag; there are -host, -https, -keylen"),
        (["-host"], "-host: needs a value; write -host=HOST:PORT"),
        (["-https=maybe"], "-https: 'maybe' is neither true nor false; write -https=true or -https=false"),
        (["-https="], "-https: '' is neither true nor false; write -https=true or -https=false"),
        (["-keylen=long"], "-keylen: 'long' is not a whole number; write -keylen=N"),
        (["-keylen=9999999999999999999"], "-keylen: '9999999999999999999' is not a whole number; write -keylen=N"),
    ],
)
def test_what_is_no_flag_is_one_line(arguments: list[str], line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(FLAGS, arguments)
    assert str(caught.value) == line

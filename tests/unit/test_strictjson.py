"""strictjson: what is ambiguous is refused, and nothing but MalformedMessage comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cubeauth import strictjson
from cubeauth.errors import MalformedMessage

DEEP = 200_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        '{"a":1,}',
        "01",
        "'a'",
        '"\n"',
        "{} {}",
        "{}x",
        "\ufeff{}",
        "nul",
        "NaN",
        "Infinity",
        "-Infinity",
        "[NaN]",
        "1e999",
        '{"a":-1e999}',
        '{"a":1,"a":1}',
        '[[{"b":{"a":1,"\\u0061":2}}]]',
        "9" * 5000,
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP + "1" + "}" * DEEP,
        b"\xff",
        b'"\xed\xa0\x80"',
        b"\xfe\xff\x00{\x00}",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_text_that_is_no_json_or_two_things_at_once_is_malformed(text: str | bytes) -> None:
    with pytest.raises(MalformedMessage):
        strictjson.loads(text)


def test_json_is_read_as_it_stands() -> None:
    text = '{"a": [1, -2, 1.5, 1e3, true, false, null, "\\u00e9\\ud83d\\ude00"], "": {"a": {}}}'
    assert strictjson.loads(text) == json.loads(text)
    assert strictjson.loads(text.encode()) == json.loads(text)


def test_a_lone_surrogate_is_read_and_written_back_as_ascii() -> None:
    value = strictjson.loads('"\\ud800"')
    assert value == "\ud800"
    assert strictjson.dumps(value) == '"\\ud800"'
    assert strictjson.canonical(value) == b'"\\ud800"'


@pytest.mark.parametrize("text", ["[]", '"a"', "1", "null", "true"])
def test_an_object_is_asked_for(text: str) -> None:
    with pytest.raises(MalformedMessage):
        strictjson.load_object(text)


def test_canonical_sorts_at_every_depth_and_is_ascii_without_spaces() -> None:
    assert strictjson.canonical({"b": [{"d": 1, "c": "é"}], "a": None}) == b'{"a":null,"b":[{"c":"\\u00e9","d":1}]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_canonical_refuses_what_is_no_json(value: object) -> None:
    with pytest.raises(MalformedMessage):
        strictjson.canonical(value)


def test_canonical_of_something_too_deep_is_malformed() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(MalformedMessage):
        strictjson.canonical(deep)


def test_indented_form_is_that_of_stocks_files() -> None:
    assert strictjson.dumps_indented({"a": "x", "b": 1}) == '{\n  "a": "x",\n  "b": 1\n}'


@pytest.mark.parametrize(
    "text",
    ["YQ", "YQ=", "YQ==\n", " YQ==", "YR==", "Y-==", "YQ==YQ==", "YQ=a", "\u0661Q==", "é", "YQ==\ud800", "!!", "=", "===="],
    ids=ascii,
)
def test_base64_that_is_not_the_one_text_of_its_bytes_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        strictjson.b64decode(text)
    with pytest.raises(MalformedMessage):
        strictjson.b64decode(text.encode("utf-8", "surrogatepass"))


def test_base64_both_ways() -> None:
    assert strictjson.b64decode("") == b""
    assert strictjson.b64decode("+/8=") == strictjson.b64decode(b"+/8=") == b"\xfb\xff"
    assert strictjson.b64encode(b"\xfb\xff") == "+/8="


@pytest.mark.parametrize("value", [None, 1, [], {}, True])
def test_member_that_is_no_text_is_named(value: object) -> None:
    with pytest.raises(MalformedMessage, match=r"^name: "):
        strictjson.text_member({"name": value}, "name")
    with pytest.raises(MalformedMessage, match=r"^name: "):
        strictjson.text_member({}, "name")


@pytest.mark.parametrize("value", [None, "1", 1.0, True, False, [], 1 << 64, -(1 << 63) - 1, 10**400])
def test_member_that_is_no_whole_number_of_64_bits_is_named(value: object) -> None:
    with pytest.raises(MalformedMessage, match=r"^name: "):
        strictjson.int_member({"name": value}, "name")


@pytest.mark.parametrize("value", [0, -1, (1 << 64) - 1, -(1 << 63)])
def test_whole_number_of_64_bits(value: int) -> None:
    assert strictjson.int_member({"name": value}, "name") == value


@pytest.mark.parametrize("value", [None, "{}", [], 1])
def test_member_that_is_no_object_is_named(value: object) -> None:
    with pytest.raises(MalformedMessage, match=r"^name: "):
        strictjson.object_member({"name": value}, "name")

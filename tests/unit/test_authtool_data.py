"""The -data file: what is wrong in it is told by member, before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cubeauth.errors import InputError
from cubeauth.messages import STOCK_WORDS
from cubeauth_cli.authtool_data import MEMBERS, Data, parse_data
from cubeauth_cli.authtool_requests import ASK

KEY: dict[str, Any] = {"id": "reader", "role": "client", "caps": '{"API":["a:b:c"]}', "auth_key": "x", "create_ts": 5}


def test_there_is_data_and_an_answer_for_every_word_of_stock() -> None:
    assert set(MEMBERS) == set(STOCK_WORDS) == set(ASK)


@pytest.mark.parametrize(
    ("word", "members", "expected"),
    [
        ("createkey", KEY, Data(id="reader", role="client", caps='{"API":["a:b:c"]}')),
        ("getkey", KEY, Data(id="reader")),  # a key file is good data
        ("addcaps", KEY, Data(id="reader", caps='{"API":["a:b:c"]}')),
        ("addcaps", KEY | {"caps": '{"Vol":[]}'}, Data(id="reader", caps='{"Vol":[]}', ignored=("Vol",))),
        ("addraftnode", {"id": 2**64 - 1, "addr": "a:1"}, Data(node=2**64 - 1, addr="a:1")),
        ("osgetcaps", {"access_key": "0123456789abcdef"}, Data(access_key="0123456789abcdef")),
    ],
)
def test_what_a_request_takes(word: str, members: dict[str, Any], expected: Data) -> None:
    assert parse_data(word, json.dumps(members)) == expected


@pytest.mark.parametrize(
    ("word", "members", "field", "part"),
    [
        ("getkey", {}, "id", "missing; getkey takes id"),
        ("getkey", {"id": ""}, "id", "not a text, or empty"),
        ("getkey", {"id": 5}, "id", "not a text"),
        ("getkey", {"id": "1x"}, "id", "'1x' is not an id; an id has 1 to 21 letters"),
        ("getkey", {"id": "x" * 44}, "id", "a text of 44 characters is not an id"),
        ("createkey", KEY | {"role": "root"}, "role", "'root' is no role; write client or service"),
        ("createkey", {"id": "a", "caps": "{}"}, "role", "missing; createkey takes id, role, caps"),
        ("createkey", KEY | {"caps": '{"*"}'}, "caps", "not JSON"),
        ("createkey", KEY | {"caps": {"API": []}}, "caps", "it is a text"),
        ("addcaps", KEY | {"caps": '{"API":["a:b"]}'}, "caps.API", "'a:b' is no capability"),
        ("addraftnode", {"id": "1", "addr": "a:1"}, "id", "'1' is no raft node's number"),
        ("addraftnode", {"id": True, "addr": "a:1"}, "id", "True is no raft node's number"),
        ("removeraftnode", {"id": 2**64, "addr": "a:1"}, "id", "no raft node's number"),
        ("addraftnode", {"id": 1}, "addr", "missing; addraftnode takes id, addr"),
        ("osgetcaps", {"access_key": "short"}, "access_key", "not 16 letters and digits"),
    ],
)
def test_a_wrong_member_is_named(word: str, members: dict[str, Any], field: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_data(word, json.dumps(members))
    assert caught.value.field == field
    assert part in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id":"a","id":"b"}', "null"])
def test_a_file_that_holds_no_object_says_what_belongs_there(text: str) -> None:
    with pytest.raises(InputError, match="getkey takes a JSON object with id"):
        parse_data("getkey", text)

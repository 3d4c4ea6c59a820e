"""Keys in the forms they travel in: key files, auth_id_key, key_info; and what is said of a bad one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.support.ticketing import RECORD

from cubeauth import entropy, ids, keys, strictjson
from cubeauth.errors import InputError, MalformedMessage
from cubeauth.secret import SecretBytes

KEY_TEXT = base64.b64encode(RECORD.auth_key.reveal()).decode()
SECRET_TEXT = "s3cretS3cretS3cretS3cretS3cretS3"

GOOD: dict[str, Any] = {
    "id": "ltptest",
    "auth_key": KEY_TEXT,
    "access_key": "A" * 16,
    "secret_key": SECRET_TEXT,
    "create_ts": 1_800_000_000,
    "role": "client",
    "caps": '{"API":[]}',
    "auth_id_key": "x",
}


def test_key_file_both_ways_in_the_order_of_the_stock_tool() -> None:
    written = keys.key_file_of(RECORD).to_json()
    assert list(json.loads(written)) == list(GOOD)
    assert written.startswith('{\n  "id": "ltptest",\n  "auth_key": "')
    assert keys.parse_key_file(written) == keys.parse_key_file(written.encode()) == keys.key_file_of(RECORD)
    assert json.loads(written)["auth_id_key"] == keys.auth_id_key(RECORD.id, RECORD.auth_key.reveal())


def test_id_and_key_are_enough_and_key_is_the_older_name() -> None:
    short = keys.parse_key_file(json.dumps({"id": "a", "auth_key": KEY_TEXT}))
    assert short == keys.parse_key_file(json.dumps({"id": "a", "key": KEY_TEXT}))
    assert short == keys.KeyFile("a", RECORD.auth_key)


@pytest.mark.parametrize("length", keys.AES_KEY_LENGTHS)
def test_key_of_each_length_of_aes(length: int) -> None:
    text = json.dumps({"id": "a", "auth_key": base64.b64encode(bytes(length)).decode()})
    assert keys.parse_key_file(text).auth_key == SecretBytes(bytes(length))


BAD: dict[str, tuple[dict[str, Any] | str | bytes, str, str]] = {
    "empty file": ("", "", "not JSON"),
    "no JSON": ("id=admin", "", "not JSON"),
    "no text": (b"\x00\xff", "", "not JSON"),
    "a list": ("[]", "", "not a JSON object"),
    "a member twice": ('{"id":"a","id":"b"}', "", "duplicated JSON member"),
    "no id": ({"id": ...}, "id", "missing"),
    "id null": ({"id": None}, "id", "None is not an id"),
    "id a number": ({"id": 7}, "id", "7 is not an id"),
    "id empty": ({"id": ""}, "id", "'' is not an id"),
    "id with a dash": ({"id": "a-b"}, "id", "'a-b' is not an id"),
    "id with a newline": ({"id": "ab\n"}, "id", r"'ab\n' is not an id"),
    "id a lone surrogate": ({"id": "\ud800"}, "id", r"'\ud800' is not an id"),
    "id an object with secrets in it": ({"id": {"auth_key": KEY_TEXT}}, "id", "an object is not an id"),
    "id a list with secrets in it": ({"id": [SECRET_TEXT]}, "id", "a list is not an id"),
    "the key where the id belongs": ({"id": KEY_TEXT}, "id", "a text of 44 characters is not an id"),
    "no key": ({"auth_key": ...}, "auth_key", "missing or not a string"),
    "key empty": ({"auth_key": ""}, "auth_key", "missing or not a string"),
    "key null": ({"auth_key": None}, "auth_key", "missing or not a string"),
    "key a list": ({"auth_key": [KEY_TEXT]}, "auth_key", "missing or not a string"),
    "key in hexadecimal digits and a dash": ({"auth_key": "00-ff" + SECRET_TEXT}, "auth_key", "not base64"),
    "key with its end cut off": ({"auth_key": KEY_TEXT[:-2]}, "auth_key", "not base64"),
    "key with a newline": ({"auth_key": KEY_TEXT + "\n"}, "auth_key", "not base64"),
    "key of 31 bytes": ({"auth_key": base64.b64encode(bytes(31)).decode()}, "auth_key", "31 bytes"),
    "key of 33 bytes": ({"auth_key": base64.b64encode(bytes(33)).decode()}, "auth_key", "33 bytes"),
    "access_key a number": ({"access_key": 1}, "access_key", "not a string"),
    "secret_key a list": ({"secret_key": [SECRET_TEXT]}, "secret_key", "not a string"),
    "secret_key with an umlaut": ({"secret_key": SECRET_TEXT + "ü"}, "secret_key", "not letters and digits"),
    "secret_key a lone surrogate": ({"secret_key": "\ud800"}, "secret_key", "not letters and digits"),
    "role a number": ({"role": 1}, "role", "not a string"),
    "caps an object": ({"caps": {"API": []}}, "caps", "not a string"),
    "auth_id_key null": ({"auth_id_key": None}, "auth_id_key", "not a string"),
    "create_ts a text": ({"create_ts": "1"}, "create_ts", "not a whole number of unix seconds"),
    "create_ts true": ({"create_ts": True}, "create_ts", "not a whole number of unix seconds"),
    "create_ts a fraction": ({"create_ts": 1.5}, "create_ts", "not a whole number of unix seconds"),
    "create_ts below zero": ({"create_ts": -1}, "create_ts", "not a whole number of unix seconds"),
    "create_ts over 64 bits": ({"create_ts": 1 << 63}, "create_ts", "not a whole number of unix seconds"),
}


def _text(content: dict[str, Any] | str | bytes) -> str | bytes:
    if isinstance(content, dict):
        return json.dumps({name: value for name, value in (GOOD | content).items() if value is not ...})
    return content


@pytest.mark.parametrize(("content", "field", "problem"), BAD.values(), ids=BAD)
def test_bad_key_file_is_one_line_with_field_and_problem_and_no_secret(
    content: dict[str, Any] | str | bytes, field: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        keys.parse_key_file(_text(content))
    assert (caught.value.field, caught.value.problem) == (field, problem)
    assert caught.value.remedy
    line = str(caught.value.located("client.json"))
    assert line.startswith("client.json: ")
    assert "\n" not in line
    assert KEY_TEXT[:12] not in line
    assert SECRET_TEXT not in line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!!",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"hello").decode(),
        base64.b64encode(b'{"id":"a"}').decode(),
        base64.b64encode(b'{"auth_key":"AAAAAAAAAAAAAAAAAAAAAA=="}').decode(),
        base64.b64encode(b'{"id":"a-b","auth_key":"AAAAAAAAAAAAAAAAAAAAAA=="}').decode(),
        base64.b64encode(b'{"id":"a","auth_key":"AAAA"}').decode(),
        base64.b64encode(b'{"id":"a","auth_key":null}').decode(),
        "é",
        "\ud800",
    ],
    ids=ascii,
)
def test_bad_auth_id_key_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        keys.parse_auth_id_key(text)


def test_key_info_is_what_go_reads() -> None:
    info = json.loads(strictjson.dumps(keys.key_info(RECORD)))
    assert info == {
        "id": RECORD.id,
        "auth_key": KEY_TEXT,
        "access_key": RECORD.access_key,
        "secret_key": RECORD.secret_key.reveal().decode(),
        "create_ts": RECORD.create_ts,
        "role": "client",
        "caps": base64.b64encode(RECORD.caps.encode()).decode(),
    }


@pytest.mark.parametrize(("change", "field"), [({"id": "1a"}, "id"), ({"auth_key": SecretBytes(bytes(31))}, "auth_key")])
def test_record_that_no_keystore_holds(change: dict[str, Any], field: str) -> None:
    members = {name: getattr(RECORD, name) for name in RECORD.__slots__}
    with pytest.raises(InputError) as caught:
        keys.KeyRecord(**(members | change))
    assert caught.value.field == field


def test_random_letters_are_as_many_as_asked_and_favour_none() -> None:
    every_byte = entropy.scripted(bytes(range(256)))
    assert keys.random_letters(128, every_byte) == (ids.ACCESS_KEY_LETTERS * 4)[:128]
    # 248 to 255 would favour the first eight letters: thrown away, and drawn again.
    assert keys.random_letters(2, entropy.scripted(b"\xf8\xff\xfe\xfd", b"\x00\xf7\x01\x02")) == "A9"
    assert ids.valid_access_key(keys.random_letters(keys.ACCESS_KEY_LETTERS, entropy.system))


def test_scripted_chance_refuses_a_draw_of_another_length() -> None:
    draw = entropy.scripted(b"12", b"3")
    assert draw(2) == b"12"
    with pytest.raises(ValueError, match="2 bytes asked, 1 given"):
        draw(2)
    assert len(entropy.system(24)) == 24
    assert entropy.system(16) != entropy.system(16)

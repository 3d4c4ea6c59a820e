"""Replies to administrators: what stock was recorded to say, and what neither may say."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import vectors

from cubeauth.caps import Capabilities
from cubeauth.errors import CubeauthError, MalformedMessage
from cubeauth.keys import parse_key_file
from cubeauth_client import replies


def recorded(path: str) -> list[vectors.Exchange]:
    """Every granted exchange on `path`, its path and type agreeing."""
    found = [e for e in vectors.exchanges() if e.path == path and e.stock_answer == "granted"]
    return [e for e in found if e.name != "path and type differ"]


KEY_PATHS = ["/admin/createkey", "/admin/deletekey", "/admin/getkey", "/admin/addcaps", "/admin/deletecaps"]


@pytest.mark.parametrize("exchange", [e for path in KEY_PATHS for e in recorded(path)], ids=lambda e: e.name)
def test_a_recorded_key_reply_is_read_whole(exchange: vectors.Exchange) -> None:
    granted = exchange.granted
    info = replies.parse_key_info(granted, granted["key_info"]["id"])
    file = parse_key_file(info.key_file().to_json())
    assert (file.id, file.role, file.create_ts) == (info.id, info.role, granted["key_info"]["create_ts"])
    assert file.auth_key == info.auth_key
    assert f'"auth_id_key": "{granted["auth_id_key"]}"' in info.key_file().to_json()


def test_stocks_getcaps_reply_has_capabilities_and_no_key() -> None:
    (exchange,) = recorded("/admin/getcaps")
    info = replies.parse_key_info(exchange.granted, "MasterService")
    assert info.capabilities() == Capabilities(api=("*:*:*",))
    assert info.auth_key is None
    with pytest.raises(MalformedMessage):
        info.key_file()


def test_recorded_access_key_replies() -> None:
    (got,) = recorded("/os/getcaps")
    info = replies.parse_access_key_caps(got.granted, "mQzy5akkchrcOe8m")
    assert info.user_id == "reader5001"
    assert info.secret_key is not None
    (added,) = recorded("/os/addcaps")
    info = replies.parse_access_key_caps(added.granted, "mQzy5akkchrcOe8m")
    assert (info.user_id, info.secret_key) == ("", None)
    assert "master:vol1:*" in info.caps


def test_no_secret_is_in_a_repr() -> None:
    exchange = recorded("/admin/getkey")[0]
    granted = exchange.granted["key_info"]
    text = repr(replies.parse_key_info(exchange.granted, granted["id"]))
    assert granted["auth_key"] not in text
    assert granted["secret_key"] not in text


GOOD: dict[str, Any] = {"id": "reader", "auth_key": None, "role": "client", "caps": "e30=", "create_ts": 5, "kvno": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"id": None},
        {"auth_key": 5},
        {"auth_key": "!"},
        {"secret_key": "ü"},
        {"caps": "/w=="},
        {"caps": {}},
        {"create_ts": "5"},
        {"kvno": 1.5},
        {"role": ["client"]},
    ],
    ids=str,
)
def test_a_key_reply_with_a_wrong_member_is_refused(change: dict[str, Any]) -> None:
    assert replies.parse_key_info({"key_info": GOOD}, "reader").kvno == 2
    with pytest.raises(MalformedMessage):
        replies.parse_key_info({"key_info": GOOD | change}, "reader")


def page(*keys: str, following: str = "") -> dict[str, Any]:
    return {"keys": [GOOD | {"id": key} for key in keys], "next": following}


def test_a_page_of_keys() -> None:
    found = replies.parse_key_page(page("b", "c", following="c"), "a")
    assert [key.id for key in found.keys] == ["b", "c"]
    assert found.next == "c"
    assert replies.parse_key_page(page(), "a") == replies.KeyPage((), "")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        (page("a", "b"), "begins where the last ended: it never ends"),
        (page("c", "b"), "not in order"),
        (page("b", "b"), "twice the same"),
        (page("b", following="a"), "goes back"),
        (page(following="b"), "nothing, and more to come"),
        ({"keys": [1], "next": ""}, "no objects"),
        ({"keys": {}, "next": ""}, "no list"),
        ({"keys": []}, "no next"),
    ],
)
def test_a_page_that_could_go_on_for_ever_is_refused(members: dict[str, Any], why: str) -> None:
    with pytest.raises(CubeauthError):
        replies.parse_key_page(members, "a")


@pytest.mark.parametrize("missing", ["keystore_id", "sequence", "keys", "version"])
def test_a_state_without_a_member_is_refused(missing: str) -> None:
    state = {"keystore_id": "ab", "sequence": 1, "keys": 2, "version": "x"}
    assert replies.parse_state({"state": state}) == replies.State("ab", 1, 2, "x")
    with pytest.raises(MalformedMessage):
        replies.parse_state({"state": {k: v for k, v in state.items() if k != missing}})

"""Every exchange recorded from a stock Authnode, sent again to ours as it runs: both answers, and why they differ."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.support import vectors
from tests.support.authnode import running_authnode
from tests.support.replaying import Answer, Replayer
from tests.support.vectors import Exchange

AUTHTOOL_EXCHANGES, HAND_MADE_EXCHANGES = 29, 34
AUTHENTICATION_FAILED = {"code": 2, "msg": "authentication failed", "data": None}

ALIKE: Mapping[str, str] = {
    "a deleted key asks for a ticket": "stock says that the id does not exist",
    "unknown client": "stock says that the id does not exist",
    "client id with a bad character": "stock looks it up and says that it does not exist",
    "verifier 10 s old": "stock says by how much it is late",
    "verifier 1 h old": "stock says by how much it is late",
    "stale verifier": "stock says by how much it is late",
    "no token": "stock says in which line of its source it looked",
    "token empty": "stock says in which line of its source it looked",
    "GET without token": "stock says in which line of its source it looked",
    "token not base64": "stock says what does not parse, and where",
    "token not JSON": "stock says what does not parse, and where",
    "JSON is a list": "stock says which Go type it wanted",
    "type a string": "stock says which Go type it wanted",
    "verifier missing": "stock says how long a ciphertext must be",
    "verifier not base64": "stock says what does not parse, and where",
}
"""Refused by both before anybody is known; stock tells each apart (rule 5)."""

DROPPED: Mapping[str, str] = {
    "verifier of the wrong key": "stock panics on the padding and drops the connection: an oracle (rule 5)",
    "verifier of 4 bytes": "stock panics on a short plaintext and drops the connection (rules 3 and 5)",
    "ticket of another key": "stock panics on the padding and drops the connection (rule 5)",
}
"""Ours answers, as to anybody who is not known."""

TOLD: Mapping[str, tuple[int, str]] = {
    "create a key that exists": (35, "exists"),
    "get a key that is not there": (35, "key nosuchid does not exist"),
    "bad role": (2, "invalid Role: client or service"),
    "bad caps": (2, "caps: not JSON"),
    "bad id": (2, "invalid ID: "),
    "reserved id": (2, "AuthService is reserved"),
    "object node: bad access key": (2, "invalid AccessKey"),
    "object node: unknown access key": (35, "access key does not exist"),
    "reader without the capability creates a key": (2, "no capability auth:createkey:access"),
    "delete a key that is gone": (35, "does not exist"),
    "expired ticket": (43, "expired ticket"),
    "add raft node, bad id": (2, "node_info: id is a number"),
}
"""Refused by both with the same code: the caller is known, and told in ours' words. Code and a piece of the text."""

REFUSED_BY_OURS: Mapping[str, tuple[str, int, str]] = {
    **{name: (why, 2, "authentication failed") for name, why in vectors.REFUSED_BY_OURS.items()},
    "add raft node (same id)": ("ours keeps its keys in one process and says so", 2, "it has no raft nodes"),
}
"""Granted by stock, refused by ours: why, code, a piece of the text."""

NO_SECRETS: Mapping[str, str] = {
    "get caps": "rule 8: stock answers with access_key and secret_key too, and with neither role nor create_ts",
}
"""Granted by both, with something else in it."""


WARNED: Mapping[str, tuple[str, str]] = {
    "create key ltptest": ("Vol", "section 5: stock takes a list of a name that means nothing, and says nothing"),
}
"""Granted by both; ours leaves out a member of the capabilities, and says which."""


def _expected_to_be_granted(recorded: Exchange) -> bool:
    if recorded.name in REFUSED_BY_OURS:
        return False
    return recorded.stock_answer == "granted" or recorded.name in vectors.GRANTED_BY_OURS


ALL = vectors.exchanges()
GRANTED = [one for one in ALL if _expected_to_be_granted(one)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    """Ours to each exchange by its name, from one Authnode asked in the order of recording."""
    with running_authnode(tmp_path_factory.mktemp("exchanges"), ticket={"lifetime": "24h"}) as authnode:
        replayer = Replayer(authnode)
        yield {recorded.name: replayer.send(recorded) for recorded in ALL}
        assert authnode.stop() == 0


def each(names: Mapping[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names)


def test_none_is_left_out_and_each_has_one_place() -> None:
    assert len(ALL) == AUTHTOOL_EXCHANGES + HAND_MADE_EXCHANGES == len({one.name for one in ALL})
    places = [*ALIKE, *DROPPED, *TOLD, *REFUSED_BY_OURS, *(one.name for one in GRANTED), "unknown path"]
    assert sorted(places) == sorted(one.name for one in ALL)


@pytest.mark.parametrize("recorded", GRANTED, ids=lambda one: one.name)
def test_granted_with_what_stock_grants_in_it(recorded: Exchange, answers: dict[str, Answer]) -> None:
    answer = answers[recorded.name]
    assert (answer.status, answer.reply["code"], answer.reply["msg"]) == (200, 0, "success")
    assert answer.opened is not None
    if recorded.name in vectors.GRANTED_BY_OURS:
        assert recorded.stock_answer == "refused"
        assert answer.opened["service_id"] == recorded.access["service_id"], "an alias is echoed as asked"
        return
    ours, stock = _comparable(answer.opened, answer.at), _comparable(recorded.granted, recorded.at)
    if recorded.name in NO_SECRETS:
        assert ours.keys() == stock.keys()
        ours, stock = ours["key_info"], stock["key_info"]
        assert (ours["id"], ours["caps"]) == (stock["id"], stock["caps"])
    elif recorded.name in WARNED:
        member, _ = WARNED[recorded.name]
        assert ours.pop("warning") == f"members without meaning: {member}"
        del stock["key_info"]["caps"][member]
    assert ours == stock or recorded.name in NO_SECRETS


SECRET = {"auth_key", "access_key", "secret_key", "auth_id_key", "ticket", "key"}
TIMES = {"create_ts", "c_time"}
OURS_ONLY = {"exp"}


def _comparable(opened: dict[str, Any], at: int) -> dict[str, Any]:
    """The members that must agree: names and all values but secrets, which only must be there, and times, which must be near."""

    def member(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _comparable(value, at)
        if name in SECRET:
            return "a secret" if value else value
        if name == "caps":
            # Stock gives back the text that it was sent; to it a list that is left out is an empty one.
            return {"API": [], "OwnerVOL": [], "NoneOwnerVOL": []} | json.loads(base64.b64decode(value)) if value else value
        if name in TIMES:
            return "about now" if abs(value - at) <= 30 else value
        return value - at if name == "verifier" else value

    return {name: member(name, value) for name, value in opened.items() if name not in OURS_ONLY}


@each(NO_SECRETS)
def test_granted_without_secrets_where_stock_tells_them(name: str, answers: dict[str, Answer]) -> None:
    stock = vectors.exchange(name).granted["key_info"]
    assert stock["access_key"]
    assert stock["secret_key"]
    opened = answers[name].opened
    assert opened is not None
    ours = opened["key_info"]
    assert (ours["auth_key"], ours["access_key"], ours["secret_key"], opened["auth_id_key"]) == (None, "", "", "")
    assert (stock["role"], ours["role"]) == ("", "service")


@each(ALIKE)
def test_refused_alike_where_stock_tells_why(name: str, answers: dict[str, Answer]) -> None:
    stock = vectors.exchange(name).reply
    assert stock["code"] == 2
    assert stock["msg"] != AUTHENTICATION_FAILED["msg"]
    assert answers[name].status == 200
    assert answers[name].reply == AUTHENTICATION_FAILED


@each(DROPPED)
def test_refused_where_stock_drops_the_connection(name: str, answers: dict[str, Answer]) -> None:
    assert vectors.exchange(name).stock_answer == "dropped"
    assert answers[name].reply == AUTHENTICATION_FAILED


@each(TOLD)
def test_refused_with_stock_s_code(name: str, answers: dict[str, Answer]) -> None:
    code, text = TOLD[name]
    assert vectors.exchange(name).reply["code"] == answers[name].reply["code"] == code
    assert text in answers[name].reply["msg"]
    assert answers[name].reply["data"] is None


@each(REFUSED_BY_OURS)
def test_refused_where_stock_grants(name: str, answers: dict[str, Answer]) -> None:
    _, code, text = REFUSED_BY_OURS[name]
    assert vectors.exchange(name).stock_answer == "granted"
    assert answers[name].reply["code"] == code
    assert text in answers[name].reply["msg"]


def test_an_unknown_path_is_answered_as_stock_does(answers: dict[str, Answer]) -> None:
    recorded, answer = vectors.exchange("unknown path"), answers["unknown path"]
    assert (answer.status, answer.body) == (recorded.status, recorded.response) == (404, b"404 page not found\n")


def test_two_tickets_of_one_second_have_one_session_key_from_stock_and_two_from_ours(answers: dict[str, Answer]) -> None:
    """Rule 1: stock derives it from clock and service key."""
    names = ("client gets a ticket for MasterService", "good request", "verifier 5 s old", "replay, first")
    stock = {vectors.exchange(name).granted["session_key"]["key"] for name in names}
    assert len(stock) == 1
    opened = [answers[name].opened for name in names]
    assert len({each["session_key"]["key"] for each in opened if each is not None}) == len(names)


def test_the_replay_is_the_very_same_request(answers: dict[str, Answer]) -> None:
    assert vectors.exchange("replay, first").form == vectors.exchange("replay, second").form
    assert answers["replay, first"].opened is not None
    assert answers["replay, second"].opened is None

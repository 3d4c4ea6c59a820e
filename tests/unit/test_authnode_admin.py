"""Admin requests at the Authnode's desk: what each does, tells and refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from tests.support.authnode import encoded_caps
from tests.support.desks import NOW, SERVICE_KEY, World
from tests.support.mutations import spoiled_members

from cubeauth import caps, entropy, exchange, keys, messages, strictjson
from cubeauth.errors import (
    CODE_KEYSTORE,
    CODE_PARAMETER,
    PeerError,
    Reason,
)
from cubeauth.ids import AUTH_SERVICE, Role
from cubeauth.messages import ADMIN_ROUTES, ROUTE_OF_WORD
from cubeauth_authnode import admin
from cubeauth_authnode.admin import MAX_PAGE, Refused
from cubeauth_authnode.keystore.base import KeystoreBusy, KeystoreUnusable
from cubeauth_authnode.link import MAX_FRAME
from cubeauth_authnode.proof import auth_service_record

BUILT_IN = auth_service_record(SERVICE_KEY)


@pytest.fixture
def world() -> World:
    return World()


# Admin requests.


async def refused(world: World, word: str, payload: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
    """Code and text that the administrator is told, and what the audit says of who and for whom."""
    with pytest.raises(Refused) as caught:
        await world.ask(world.grant(BUILT_IN), word, payload)
    return caught.value.error.code, caught.value.error.wire_text, caught.value.facts


async def test_a_key_s_life(world: World) -> None:
    grant = world.grant(BUILT_IN)
    made = await world.ask(grant, "createkey", {"id": "ltptest", "role": "client", "caps": encoded_caps("master:getvol:access")})
    key_file = keys.parse_key_file(strictjson.dumps(made["key_info"]))
    assert keys.parse_auth_id_key(made["auth_id_key"]) == ("ltptest", key_file.auth_key)
    assert (await world.ask(grant, "getkey", {"id": "ltptest"}))["key_info"] == made["key_info"]
    await world.ask(grant, "addcaps", {"id": "ltptest", "caps": encoded_caps("master:createvol:access")})
    told = await world.ask(grant, "deletecaps", {"id": "ltptest", "caps": encoded_caps("master:getvol:access")})
    assert told["key_info"]["auth_key"] == made["key_info"]["auth_key"], "to who may read it anyway"
    held = strictjson.loads(strictjson.b64decode(told["key_info"]["caps"]))
    assert held == {"API": ["master:createvol:access"], "OwnerVOL": [], "NoneOwnerVOL": []}
    gone = await world.ask(grant, "deletekey", {"id": "ltptest"})
    assert gone["key_info"]["id"] == "ltptest"
    assert (await refused(world, "getkey", {"id": "ltptest"}))[:2] == (CODE_KEYSTORE, "key ltptest does not exist")


async def test_getcaps_tells_no_secret_and_neither_does_a_change_to_who_may_not_read_keys(world: World) -> None:
    record = world.create("ltptest", Role.CLIENT, "a:b:c")
    limited = world.grant(world.create("adm", Role.CLIENT, "auth:addcaps:access", "auth:deletekey:access"))
    secrets = (strictjson.b64encode(record.auth_key.reveal()), record.secret_key.reveal().decode(), record.access_key)
    replies = [
        await world.ask(world.grant(BUILT_IN), "getcaps", {"id": "ltptest"}),
        await world.ask(limited, "addcaps", {"id": "ltptest", "caps": encoded_caps("d:e:f")}),
        await world.ask(limited, "deletekey", {"id": "ltptest"}),
    ]
    for reply in replies:
        assert (reply["key_info"]["auth_key"], reply["auth_id_key"]) == (None, "")
        assert not any(secret in strictjson.dumps(reply) for secret in secrets)


async def test_capabilities_by_access_key(world: World) -> None:
    record = world.create("ltptest", Role.CLIENT, "a:b:c")
    grant = world.grant(BUILT_IN)
    payload = {"access_key": record.access_key}
    told = (await world.ask(grant, "osgetcaps", payload))["access_key_caps"]
    assert told["access_key"] == record.access_key
    added = await world.ask(grant, "osaddcaps", payload | {"caps": encoded_caps("d:e:f")})
    assert strictjson.loads(strictjson.b64decode(added["access_key_caps"]["caps"]))["API"] == ["a:b:c", "d:e:f"]
    assert added["access_key_caps"]["secret_key"] == ""
    taken = await world.ask(grant, "osdeletecaps", payload | {"caps": encoded_caps("a:b:c")})
    assert strictjson.loads(strictjson.b64decode(taken["access_key_caps"]["caps"]))["API"] == ["d:e:f"]


@pytest.mark.parametrize(
    ("word", "payload", "code", "text", "target"),
    [
        ("createkey", {}, 2, "invalid ID", ""),
        ("createkey", {"id": "1x", "role": "client", "caps": encoded_caps()}, 2, "invalid ID", "1x"),
        ("createkey", {"id": 7}, 2, "id: not a string", ""),
        (
            "createkey",
            {"id": "AuthService", "role": "service", "caps": encoded_caps()},
            2,
            "AuthService is reserved",
            "AuthService",
        ),
        ("createkey", {"id": "x", "role": "root", "caps": encoded_caps()}, 2, "invalid Role: client or service", "x"),
        ("createkey", {"id": "x", "caps": encoded_caps()}, 2, "invalid Role", "x"),
        ("createkey", {"id": "x", "role": "client"}, 2, "caps: not a string", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": "!"}, 2, "not base64", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": "e30"}, 2, "not base64", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": "W10="}, 2, "caps: not a JSON object", "x"),
        ("createkey", {"id": "x", "role": "client", "caps": encoded_caps("a:b")}, 2, "caps.API: 'a:b' is no capability", "x"),
        ("createkey", {"id": "ltptest", "role": "client", "caps": encoded_caps()}, 35, "key ltptest exists", "ltptest"),
        ("deletekey", {"id": "nosuch"}, 35, "key nosuch does not exist", "nosuch"),
        ("deletekey", {"id": "AuthService"}, 2, "AuthService is reserved", "AuthService"),
        ("getkey", {"id": "AuthService"}, 2, "AuthService is reserved", "AuthService"),
        ("getcaps", {"id": "AuthService"}, 2, "AuthService is reserved", "AuthService"),
        ("addcaps", {"id": "AuthService", "caps": encoded_caps("a:b:c")}, 2, "AuthService is reserved", "AuthService"),
        ("getkey", {"id": "nosuch"}, 35, "key nosuch does not exist", "nosuch"),
        ("addcaps", {"id": "nosuch", "caps": encoded_caps("a:b:c")}, 35, "key nosuch does not exist", "nosuch"),
        ("osgetcaps", {"access_key": "short"}, 2, "invalid AccessKey", ""),
        ("osgetcaps", {"access_key": ["a"]}, 2, "invalid AccessKey", ""),
        ("osaddcaps", {"access_key": "A" * 16, "caps": encoded_caps("a:b:c")}, 35, "access key does not exist", ""),
        ("addraftnode", {"id": 1, "addr": "127.0.0.1:8480"}, 2, "it has no raft nodes", ""),
        ("addraftnode", {"id": "x", "addr": ""}, 2, "node_info: id is a number", ""),
        ("removeraftnode", {"id": -1, "addr": "x"}, 2, "node_info: id is a number", ""),
        ("listkeys", {"after": 1}, 2, "page: after is an id or empty", ""),
        ("listkeys", {"limit": 0}, 2, "page: after is an id or empty", ""),
        ("listkeys", {"limit": MAX_PAGE + 1}, 2, f"limit 1 to {MAX_PAGE}", ""),
        ("listkeys", {"limit": True}, 2, "page", ""),
    ],
)
async def test_a_wrong_request_of_a_known_caller_says_what_is_wrong(
    world: World, word: str, payload: dict[str, Any], code: int, text: str, target: str
) -> None:
    world.create("ltptest")
    before = world.directory.sequence
    told_code, told_text, facts = await refused(world, word, payload)
    assert (told_code, facts) == (code, {"client": AUTH_SERVICE, "target": target})
    assert text in told_text
    assert world.directory.sequence == before


async def test_members_without_meaning_are_named_in_reply_and_audit(world: World) -> None:
    wrong = strictjson.b64encode(b'{"api": ["a:b:c"], "Api2": [], "x": 1}')
    reply = await world.ask(world.grant(BUILT_IN), "createkey", {"id": "x", "role": "client", "caps": wrong})
    assert reply["warning"] == "members without meaning: Api2, x"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (KeystoreBusy("1024 writes are waiting"), "keystore: 1024 writes are waiting"),
        (KeystoreUnusable("/var/x: full"), "cannot be written"),
    ],
)
async def test_a_keystore_that_fails_says_no_file_names(world: World, failure: Any, text: str) -> None:
    world.failure = failure
    code, told, _ = await refused(world, "createkey", {"id": "x", "role": "client", "caps": encoded_caps()})
    assert code == CODE_KEYSTORE
    assert text in told
    assert "/var" not in told


async def test_the_state_and_the_list(world: World) -> None:
    for number in range(7):
        world.create(f"c{number}", Role.CLIENT, "a:b:c")
    world.delete("c3")
    grant = world.grant(BUILT_IN)
    assert await world.ask(grant, "state", {}) | {"api_resp": 0} == {
        "api_resp": 0,
        "state": {"keystore_id": "k" * 32, "sequence": 8, "keys": 6, "version": "1.2.3"},
    }
    listed: list[str] = []
    after = ""
    while True:
        page = await world.ask(grant, "listkeys", {"after": after, "limit": 2})
        listed += [each["id"] for each in page["keys"]]
        assert not any(set(each) & {"auth_key", "secret_key", "access_key", "auth_id_key"} for each in page["keys"])
        after = page["next"]
        if not after:
            break
    assert listed == ["c0", "c1", "c2", "c4", "c5", "c6"]


async def test_a_page_of_long_lists_ends_early_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "MAX_PAGE_CAPS", 3000)
    for number in range(6):
        world.create(f"c{number}", Role.CLIENT, *(f"a:b:c{n}" for n in range(100)))
    grant = world.grant(BUILT_IN)
    first = await world.ask(grant, "listkeys", {})
    assert 1 <= len(first["keys"]) < 6
    assert first["next"] == first["keys"][-1]["id"]
    monkeypatch.setattr(admin, "MAX_PAGE_CAPS", 1)
    assert len((await world.ask(grant, "listkeys", {"after": "c4"}))["keys"]) == 1, "one at least, or nobody gets on"


def test_the_longest_page_goes_through_the_link() -> None:
    longest = admin.MAX_PAGE_CAPS + caps.MAX_TEXT_BYTES + 300 * MAX_PAGE
    assert longest * 4 / 3 * 4 / 3 < MAX_FRAME


async def test_a_replayed_admin_request_is_refused_and_its_caller_only_claimed(world: World) -> None:
    route = ROUTE_OF_WORD["state"]
    sent = exchange.ask_access(world.grant(BUILT_IN), route.type, {"page": {}}, now=NOW, entropy=entropy.system)
    await world.admin.answer(route, sent.body, NOW)
    with pytest.raises(Refused) as caught:
        await world.admin.answer(route, sent.body, NOW)
    assert caught.value.error.reason is Reason.VERIFIER_REPLAYED
    assert caught.value.facts == {"claimed": AUTH_SERVICE}
    with pytest.raises(Refused) as caught:
        await world.admin.answer(route, b"Token=!", NOW)
    assert caught.value.facts == {}


_PAYLOADS = (
    {"id": "ltptest", "role": "client", "caps": encoded_caps("a:b:c")},
    {"access_key": "A" * 16, "caps": encoded_caps("a:b:c")},
    {"id": 1, "addr": "127.0.0.1:1"},
    {"after": "a", "limit": 3},
)


@given(payload=spoiled_members(_PAYLOADS))
def test_no_payload_whatever_does_anything_but_get_an_answer_or_a_refusal(payload: dict[str, Any]) -> None:
    refusals: list[PeerError] = []

    async def ask_all() -> None:
        world = World()
        world.create("ltptest")
        for route in ADMIN_ROUTES:
            try:
                await world.ask(world.grant(BUILT_IN), route.word, payload)
            except Refused as e:
                refusals.append(e.error)

    asyncio.run(ask_all())
    for error in refusals:
        assert error.code in (CODE_PARAMETER, CODE_KEYSTORE)
        assert strictjson.loads(messages.refusal(error))["msg"]

"""Capability lists: limits, what is said of a bad one, and what is never allowed."""

from __future__ import annotations

import dataclasses

import pytest
from tests.support.ticketing import SERVICE_KEY, TICKET

from cubeauth import caps, strictjson, ticket
from cubeauth.caps import Capabilities, Kind
from cubeauth.entropy import system
from cubeauth.errors import InputError

F3_FIRST_FRAME = 64 * 1024


def _distinct(count: int, pad: int = 0) -> list[str]:
    return [f"master:{'x' * pad}{i}:access" for i in range(count)]


BAD = {
    '{"API": ["a:b"]}': "caps.API: 'a:b' is no capability; three parts of 1 to 20 letters, digits or *, with : between",
    '{"api": [{"auth_key": "hunter2"}]}': "caps.API: an object is no capability; three parts of 1 to 20 letters",
    '{"API": [["hunter2"]]}': "caps.API: a list is no capability; three parts",
    '{"OwnerVOL": ["master:*:x"]}': "caps.OwnerVOL: 'master:*:x' is no capability; node:volume:action, the volume 3 to",
    '{"NoneOwnerVOL": [null]}': "caps.NoneOwnerVOL: None is no capability",
    '{"API": {}}': "caps.API: not a list; write a list of node:object:action",
    '{"API": [], "api": []}': "caps.API: given twice; merge the two lists",
    '{"API": ["' + "a" * 300 + '"]}': "caps.API: a text of 300 characters is no capability",
    "[]": "caps: not a JSON object",
    "{": "caps: not JSON",
    '{"API": NaN}': "caps: NaN or Infinity in JSON",
    '{"API": ["*:*:*"], "API": ["a:b:c"]}': "caps: duplicated JSON member",
}


@pytest.mark.parametrize(("text", "line"), BAD.items(), ids=[ascii(text[:30]) for text in BAD])
def test_bad_list_is_one_line_with_member_value_and_remedy(text: str, line: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(InputError) as caught:
            caps.parse(form)
        assert str(caught.value).startswith(line)
        assert caught.value.remedy
        assert "hunter2" not in str(caught.value)


def test_more_capabilities_than_one_principal_may_have() -> None:
    most = strictjson.dumps({"API": _distinct(caps.MAX_CAPABILITIES)})
    assert len(caps.parse(most).capabilities) == caps.MAX_CAPABILITIES
    with pytest.raises(InputError, match="1025 capabilities"):
        caps.parse(strictjson.dumps({"API": _distinct(caps.MAX_CAPABILITIES), "OwnerVOL": ["a:vol:b"]}))


def test_list_over_the_limit_is_refused_and_one_at_it_fits_the_first_frame_of_f3() -> None:
    room = caps.MAX_TEXT_BYTES - len(Capabilities().to_json())
    volumes = tuple(f"a:{i:0250}:b" for i in range(room // (250 + 4 + 3)))
    longest = Capabilities(owner_vol=volumes).to_json()
    assert caps.MAX_TEXT_BYTES - 300 < len(longest) <= caps.MAX_TEXT_BYTES
    assert caps.parse(longest).capabilities.owner_vol == volumes
    text = ticket.seal(SERVICE_KEY.reveal(), dataclasses.replace(TICKET, caps=longest), system)
    assert len(text) <= ticket.MAX_TICKET_TEXT <= F3_FIRST_FRAME - 1024
    with pytest.raises(InputError, match=f"at most {caps.MAX_TEXT_BYTES}"):
        caps.parse(longest + " " * 600)


@pytest.mark.parametrize("asked", ["", ":", "::", "a:b", "a:b:c:d", "a::c", ":b:c", "a:b:", "*"])
def test_what_has_not_three_parts_is_never_allowed(asked: str) -> None:
    everything = Capabilities(api=("*:*:*",), owner_vol=("*:vol:*",), none_owner_vol=("*:vol:*",))
    assert not [kind for kind in Kind if everything.allows(asked, kind)]


def test_a_star_asked_is_no_pattern() -> None:
    assert not Capabilities(api=("master:getvol:access",)).allows("*:*:*")
    assert not Capabilities(owner_vol=("master:vol1:read",)).allows("master:vol1:*", Kind.OWNER_VOL)
    assert Capabilities(owner_vol=("master:vol1:*",)).allows("master:vol1:*", Kind.OWNER_VOL)


def test_each_kind_stands_for_itself() -> None:
    held = caps.parse('{"API":["a:b:c"],"OwnerVOL":["a:vol:c"],"NoneOwnerVOL":["a:low:c"]}').capabilities
    assert [held.of(kind) for kind in Kind] == [("a:b:c",), ("a:vol:c",), ("a:low:c",)]
    assert len(held) == 3
    assert held.allows("a:vol:c", Kind.OWNER_VOL)
    assert not held.allows("a:vol:c", Kind.NONE_OWNER_VOL)
    assert not held.allows("a:vol:c")


def test_check_names_the_field_it_is_given() -> None:
    assert caps.check(Kind.API, "a:b:c", "spec.api[0]") == "a:b:c"
    with pytest.raises(InputError) as caught:
        caps.check(Kind.API, "a:b", "spec.api[0]")
    assert caught.value.field == "spec.api[0]"

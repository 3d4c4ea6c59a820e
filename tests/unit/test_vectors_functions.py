"""Every case of authnode-v1-functions.json, printed by CubeFS's own Go code, against ours.

Where ours answers differently, a table names the case and the reason, and the test asserts both answers.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import vectors

from cubeauth import caps, ids, keys, messages
from cubeauth.caps import Kind
from cubeauth.compat import envelope
from cubeauth.entropy import scripted
from cubeauth.errors import AuthenticationFailed, CubeauthError, InputError, LocalMisuse, MalformedMessage

Test = Callable[..., None]

CASES_IN_FILE = {
    "auth_id_key": 3,
    "auth_key_derivation": 25,
    "caps_change": 5,
    "caps_contain": 110,
    "caps_parse": 29,
    "envelope_invalid": 19,
    "envelope_valid": 36,
    "message_type_resource": 65,
    "valid_access_key": 5,
    "valid_id": 17,
    "valid_role": 6,
    "valid_service_id": 9,
}
_run: dict[str, int] = {}


def each_case(section: str) -> Callable[[Test], Test]:
    """Run the test once for every case of a section that is a list."""
    found = vectors.cases(section)
    _run[section] = len(found)
    return pytest.mark.parametrize("case", found, ids=[str(case.get("name", i)) for i, case in enumerate(found)])


def each_answer(section: str) -> Callable[[Test], Test]:
    """Run the test once for every (input, stock's answer) of a section that is a table."""
    found = vectors.table(section)
    _run[section] = len(found)
    return pytest.mark.parametrize(("given", "stock"), found, ids=[ascii(given) for given, _ in found])


@each_case("envelope_valid")
def test_stock_envelope_opens(case: dict[str, Any]) -> None:
    assert envelope.open_(bytes.fromhex(case["key"]), case["message"]).hex() == case["plaintext"]


@each_case("envelope_valid")
def test_seal_with_the_same_chance_gives_stocks_text(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["key"])
    stock = vectors.stock_open(key, case["message"])
    assert envelope.seal(key, bytes.fromhex(case["plaintext"]), scripted(stock.r + stock.iv)).decode() == case["message"]


ENVELOPE_ERRORS: dict[str, type[CubeauthError]] = {
    "bit flipped at byte 0": AuthenticationFailed,
    "bit flipped at byte 8": AuthenticationFailed,
    "bit flipped at byte 15": AuthenticationFailed,
    "bit flipped at byte 16": AuthenticationFailed,
    "bit flipped at byte 20": AuthenticationFailed,
    "bit flipped at byte 31": AuthenticationFailed,
    "bit flipped at byte 32": AuthenticationFailed,
    "bit flipped at byte 40": AuthenticationFailed,
    "bit flipped at byte 79": AuthenticationFailed,
    "wrong key": AuthenticationFailed,
    "key of 31 bytes": LocalMisuse,
    "empty": MalformedMessage,
    "not base64": MalformedMessage,
    "15 bytes": MalformedMessage,
    "iv only": MalformedMessage,
    "one block": MalformedMessage,
    "not a multiple of 16": MalformedMessage,
    "last block cut": AuthenticationFailed,
    "unpadded base64": MalformedMessage,
}
STOCK_PANICS = {"wrong key", "iv only", "one block", "not a multiple of 16", "last block cut"}
STOCK_HANDS_OUT_PLAINTEXT = {name for name in ENVELOPE_ERRORS if name.startswith("bit flipped")} - {"bit flipped at byte 79"}


@each_case("envelope_invalid")
def test_bad_envelope_is_a_declared_error_where_stock_panics_or_hands_out_plaintext(case: dict[str, Any]) -> None:
    reference = case["reference"]
    assert ("panic" in reference) == (case["name"] in STOCK_PANICS)
    assert bool(reference.get("plaintext")) == (case["name"] in STOCK_HANDS_OUT_PLAINTEXT)
    with pytest.raises(ENVELOPE_ERRORS[case["name"]]) as caught:
        envelope.open_(bytes.fromhex(case["key"]), case["message"])
    assert type(caught.value) is ENVELOPE_ERRORS[case["name"]]
    if reference.get("plaintext"):
        assert reference["plaintext"] not in repr(caught.value)


@each_case("auth_key_derivation")
def test_stock_derivation_of_a_key(case: dict[str, Any]) -> None:
    assert keys.derive_stock_key(bytes.fromhex(case["root_key"]), case["ts"], case["id"]).hex() == case["auth_key"]


@each_case("auth_id_key")
def test_auth_id_key_both_ways(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["auth_key"])
    assert keys.auth_id_key(case["id"], key) == case["auth_id_key"]
    principal, parsed = keys.parse_auth_id_key(case["auth_id_key"])
    assert principal == case["extracted_id"]
    assert base64.b64encode(parsed.reveal()).decode() == case["extracted_key_base64"]
    assert case["error"] == "<nil>"


@each_answer("valid_id")
def test_id(given: str, stock: bool) -> None:
    assert ids.valid_id(given) is stock


@each_answer("valid_role")
def test_role(given: str, stock: bool) -> None:
    assert ids.valid_role(given) is stock


@each_answer("valid_access_key")
def test_access_key(given: str, stock: bool) -> None:
    assert ids.valid_access_key(given) is stock


SERVICE_ID_DEVIATIONS = {
    "MetaService": ("MetanodeService", "the user guide's name; stock refuses it, ours takes it for the code's"),
    "DataService": ("DatanodeService", "the user guide's name; stock refuses it, ours takes it for the code's"),
}


@each_answer("valid_service_id")
def test_service_id(given: str, stock: bool) -> None:
    assert (given in ids.STOCK_SERVICES) is stock
    if given in SERVICE_ID_DEVIATIONS:
        assert not stock
        assert ids.canonical_service(given) == SERVICE_ID_DEVIATIONS[given][0]
        assert ids.canonical_service(given) in ids.STOCK_SERVICES
    else:
        assert ids.canonical_service(given) == given


def test_every_service_id_deviation_is_in_the_vectors() -> None:
    assert SERVICE_ID_DEVIATIONS.keys() <= vectors.functions()["valid_service_id"].keys()


CAPS_REFUSED_BY_OURS = {
    '{"API":["*:*:*"],"API":["master:x:y"]}': "a member given twice is two answers; stock keeps the last silently",
}
CAPS_TOLD_BY_OURS = {
    '{"API":["*:*:*"],"Vol":["*:*:*"]}': (("Vol",), "an unknown member; stock drops it silently, ours says so"),
}


def _as_members(granted: caps.Capabilities) -> dict[str, list[str]]:
    return {kind.value: list(granted.of(kind)) for kind in Kind}


@each_case("caps_parse")
def test_parse_of_a_capability_list(case: dict[str, Any]) -> None:
    text, reference = case["input"], case["reference"]
    if "error" in reference or text in CAPS_REFUSED_BY_OURS:
        assert ("error" in reference) is (text not in CAPS_REFUSED_BY_OURS)
        with pytest.raises(InputError) as caught:
            caps.parse(text)
        assert caught.value.field.startswith("caps")
        return
    parsed = caps.parse(text)
    assert _as_members(parsed.capabilities) == reference
    assert parsed.unknown == (CAPS_TOLD_BY_OURS[text][0] if text in CAPS_TOLD_BY_OURS else ())


def test_every_deviation_of_parsing_is_in_the_vectors() -> None:
    inputs = {case["input"] for case in vectors.cases("caps_parse")}
    assert CAPS_REFUSED_BY_OURS.keys() | CAPS_TOLD_BY_OURS.keys() <= inputs


@each_case("caps_change")
def test_adding_and_deleting_capabilities(case: dict[str, Any]) -> None:
    have, change = caps.parse(case["have"]).capabilities, caps.parse(case["change"]).capabilities
    assert _as_members(have.union(change)) == case["after_add"]
    after = _as_members(have.minus(change))
    assert {name: set(items) for name, items in after.items()} == {
        name: set(items) for name, items in case["after_delete_as_sets"].items()
    }


STOCK_KIND_THAT_IS_NONE = "VOL"
"""Stock's function takes any word for a kind and answers no; ours has no value for it."""


@each_case("caps_contain")
def test_whether_a_capability_is_granted(case: dict[str, Any]) -> None:
    granted = caps.parse(case["granted"]).capabilities
    if case["kind"] == STOCK_KIND_THAT_IS_NONE:
        assert case["allowed"] is False
        assert case["kind"] not in {kind.value for kind in Kind}
    else:
        assert granted.allows(case["asked"], Kind(case["kind"])) is case["allowed"]


@each_answer("message_type_resource")
def test_what_a_request_type_asks_for(given: str, stock: str) -> None:
    assert messages.RESOURCE_OF_TYPE[int(given, 16)] == stock


def test_only_our_own_routes_are_beyond_stocks_types() -> None:
    stock = {int(given, 16) for given, _ in vectors.table("message_type_resource")}
    ours = {int(route.type) for route in messages.ADMIN_ROUTES if route.path.startswith("/cubeauth/")}
    assert messages.RESOURCE_OF_TYPE.keys() - stock == ours


def test_no_case_is_skipped() -> None:
    assert {section: len(found) for section, found in vectors.functions().items()} == CASES_IN_FILE
    assert _run == CASES_IN_FILE
    assert ENVELOPE_ERRORS.keys() == {case["name"] for case in vectors.cases("envelope_invalid")}

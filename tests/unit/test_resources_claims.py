"""The journal: it reads back what it wrote, and a damaged one is refused, since from it nothing could be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeauth.errors import InputError
from cubeauth_resources.claims import Claim, Claims, ClaimState, parse_claims
from cubeauth_resources.model import DeletionPolicy, ObjectRef

Names = st.from_regex(r"[a-z0-9]{0,10}", fullmatch=True)
Entries = st.lists(
    st.builds(
        Claim,
        id=st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True),
        owner=st.builds(ObjectRef, st.just("AuthKey"), Names, Names.filter(bool)),
        file=st.text(min_size=1).filter(lambda text: "/" not in text and text[0] != "."),
        policy=st.sampled_from(DeletionPolicy),
        adopted=st.booleans(),
        state=st.sampled_from(ClaimState),
        create_ts=st.integers(0, 2**62),
    ),
    max_size=5,
    unique_by=lambda claim: claim.id,
)


@given(st.text(max_size=20), Entries)
def test_it_reads_back_what_it_wrote(keystore: str, entries: list[Claim]) -> None:
    claims = Claims(keystore)
    for claim in entries:
        claims = claims.with_claim(claim)
    assert parse_claims(claims.to_json()) == claims


def test_a_claim_is_replaced_recorded_and_dropped() -> None:
    claim = Claim("a", ObjectRef("AuthKey", "", "a"), "a.json", DeletionPolicy.DELETE, False, ClaimState.CLAIMED, 0)
    claims = Claims().with_claim(claim).with_claim(claim).with_made("a", 7)
    assert [(entry.state, entry.create_ts) for entry in claims.entries] == [(ClaimState.MADE, 7)]
    assert claims.without("a") == Claims()
    assert Claims().with_made("a", 7) == Claims(), "what was never claimed is not made"


ROW: dict[str, Any] = {
    "id": "a",
    "namespace": "",
    "name": "a",
    "file": "a.json",
    "policy": "Delete",
    "adopted": False,
    "state": "made",
    "create_ts": 1,
}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "1"}, "claims[0].id"),
        ({"id": None}, "claims[0].id"),
        ({"name": ""}, "claims[0].name"),
        ({"namespace": 3}, "claims[0].namespace"),
        ({"file": "../a.json"}, "claims[0].file"),
        ({"file": ".journal"}, "claims[0].file"),
        ({"policy": "delete"}, "claims[0].policy"),
        ({"adopted": 1}, "claims[0].adopted"),
        ({"state": "?"}, "claims[0].state"),
        ({"create_ts": -1}, "claims[0].create_ts"),
        ({"create_ts": True}, "claims[0].create_ts"),
        ({"more": 1}, "claims[0].more"),
    ],
)
def test_a_damaged_claim_is_named(change: dict[str, Any], field: str) -> None:
    text = json.dumps({"version": 1, "keystore": "", "claims": [ROW | change]})
    with pytest.raises(InputError) as error:
        parse_claims(text)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", ""),
        ("[]", ""),
        ("{}", "version"),
        ('{"version": 2, "keystore": "", "claims": []}', "version"),
        ('{"version": 1, "claims": []}', "keystore"),
        (json.dumps({"version": 1, "keystore": "", "claims": [ROW, ROW]}), "claims[1].id"),
    ],
)
def test_a_damaged_journal_is_refused(text: str, field: str) -> None:
    with pytest.raises(InputError) as error:
        parse_claims(text)
    assert error.value.field == field

"""The journal of what was made here: a key is journalled before it is used.

A claim is written before the key is made, and says so ("claimed"); once the
key is there its create_ts is added ("made"). Whatever has no claim with the
same create_ts was made by somebody else and is neither read into a file nor
changed nor deleted. The caller keeps the text where it survives a kill (a
file beside the key files, synced), and writes it whole after each change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from cubeauth import ids, strictjson
from cubeauth.errors import InputError, MalformedMessage
from cubeauth_resources.model import DeletionPolicy, ObjectRef
from cubeauth_resources.model.fields import Section, section, shown

VERSION = 1
_TOP = ("version", "keystore", "claims")
_CLAIM = ("id", "namespace", "name", "file", "policy", "adopted", "state", "create_ts")
_REMEDY = "the journal is written by cubeauth only; put the file back as it was"


class ClaimState(StrEnum):
    CLAIMED = "claimed"
    MADE = "made"


@dataclass(frozen=True, slots=True)
class Claim:
    """One id that is ours. owner: the AuthKey; file: where its key is handed out; create_ts: unix seconds, 0 until made.

    adopted: it was there before; such a key is treated as Retain whatever its policy.
    """

    id: str
    owner: ObjectRef
    file: str
    policy: DeletionPolicy
    adopted: bool
    state: ClaimState
    create_ts: int

    @property
    def retains(self) -> bool:
        """Whether the key outlives its AuthKey."""
        return self.adopted or self.policy is DeletionPolicy.RETAIN


@dataclass(frozen=True, slots=True)
class Claims:
    """The journal. keystore: id of the keystore that the keys are in, "" while none was told (a stock Authnode has none);
    entries: in the order of their ids."""

    keystore: str = ""
    entries: tuple[Claim, ...] = ()

    def of(self, principal: str) -> Claim | None:
        """The claim of an id."""
        return next((claim for claim in self.entries if claim.id == principal), None)

    def with_keystore(self, keystore: str) -> Claims:
        return Claims(keystore, self.entries)

    def with_claim(self, claim: Claim) -> Claims:
        """The claim in place of any earlier one of its id."""
        others = self.without(claim.id).entries
        return Claims(self.keystore, tuple(sorted((*others, claim), key=lambda entry: entry.id)))

    def with_made(self, principal: str, create_ts: int) -> Claims:
        """The id's claim with the key that was made for it."""
        claim = self.of(principal)
        return self if claim is None else self.with_claim(replace(claim, state=ClaimState.MADE, create_ts=create_ts))

    def without(self, principal: str) -> Claims:
        return Claims(self.keystore, tuple(claim for claim in self.entries if claim.id != principal))

    def to_json(self) -> str:
        """The journal's text; it holds no secret."""
        rows = [strictjson.dumps(_row(claim)) for claim in self.entries]
        body = "".join(f"\n  {row}," for row in rows)[:-1]
        return f'{{"version":{VERSION},"keystore":{strictjson.dumps(self.keystore)},"claims":[{body}\n]}}\n'


def _row(claim: Claim) -> dict[str, object]:
    return {
        "id": claim.id,
        "namespace": claim.owner.namespace,
        "name": claim.owner.name,
        "file": claim.file,
        "policy": claim.policy.value,
        "adopted": claim.adopted,
        "state": claim.state.value,
        "create_ts": claim.create_ts,
    }


def parse_claims(text: str | bytes) -> Claims:
    """Read a journal. Raises InputError naming the member: from a damaged one nothing can be told, so nothing may be done."""
    try:
        top = section(strictjson.loads(text), "", _TOP)
    except MalformedMessage as e:
        raise InputError("", e.detail, _REMEDY) from None
    if top.number("version") != VERSION:
        raise InputError("version", f"{top.members['version']} is not known", "a newer cubeauth wrote this journal: use that one")
    keystore, found = _plain(top, "keystore"), dict[str, Claim]()
    for position, item in enumerate(top.items("claims")):
        claim = _claim(section(item, f"claims[{position}]", _CLAIM))
        if claim.id in found:
            raise InputError(f"claims[{position}].id", f"{claim.id!r} is there twice", _REMEDY)
        found[claim.id] = claim
    return Claims(keystore, tuple(found[principal] for principal in sorted(found)))


def _claim(row: Section) -> Claim:
    principal, file = row.text("id", _REMEDY), row.text("file", _REMEDY)
    if not ids.valid_id(principal):
        raise InputError(row.at("id"), f"{shown(principal)} is no id", _REMEDY)
    if "/" in file or file.startswith("."):
        raise InputError(row.at("file"), f"{shown(file)} is no key file's name", _REMEDY)
    return Claim(
        id=principal,
        owner=ObjectRef("AuthKey", _plain(row, "namespace"), row.text("name", _REMEDY)),
        file=file,
        policy=row.choice("policy", DeletionPolicy),
        adopted=row.flag("adopted"),
        state=row.choice("state", ClaimState),
        create_ts=row.number("create_ts"),
    )


def _plain(row: Section, name: str) -> str:
    """A string that may be empty."""
    value = row.required(name, _REMEDY)
    if not isinstance(value, str):
        raise InputError(row.at(name), f"{shown(value)} is not a string", _REMEDY)
    return value

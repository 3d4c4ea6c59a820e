"""What is known of one id, told in small facts, and what each fact makes necessary.

A wanted key goes through two chains. The first, `BLOCKERS`, looks for what
forbids to touch it: the first problem found ends it. The second, `STEPS`,
adds actions fact by fact; together they are in the order claim, create,
record, change, file. An id whose AuthKey is gone goes through
`cannot_release` and `release`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cubeauth_resources.actions import (
    Action,
    ClaimKey,
    CreateKey,
    DeleteKey,
    RecordMade,
    RemoveKeyFile,
    SetCapabilities,
    Unclaim,
    WriteKeyFile,
)
from cubeauth_resources.claims import Claim, ClaimState
from cubeauth_resources.manifests import WantedKey
from cubeauth_resources.model import AuthKey
from cubeauth_resources.observed import FileState, KeyState, NotSeen
from cubeauth_resources.reports import Problem, ProblemReason

_ANEW = "to change it, take the AuthKey out, prune, and make it anew"
_TRY_AGAIN = "try again; the admin key needs auth:getkey:access"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of one wanted key.

    claim: the id's; owned: the AuthKey's, the same one unless its id was changed; adopt: somebody allowed to take over an id
    that exists.
    """

    wanted: WantedKey
    sight: KeyState | NotSeen
    claim: Claim | None
    owned: Claim | None
    file: FileState
    adopt: bool

    @property
    def key(self) -> AuthKey:
        return self.wanted.key

    @property
    def present(self) -> KeyState | None:
        return self.sight if isinstance(self.sight, KeyState) else None

    @property
    def missing(self) -> bool:
        return self.sight is NotSeen.ABSENT

    @property
    def ours(self) -> bool:
        """The key at the Authnode is the one that the claim is about."""
        return self.present is not None and self.claim is not None and is_claimed(self.present, self.claim)

    @property
    def capabilities_differ(self) -> bool:
        """In what they allow; their order means nothing."""
        return self.present is not None and not same_rights(self.present, self.wanted)


def is_claimed(key: KeyState, claim: Claim) -> bool:
    """Whether the key is the claim's: made and the same create_ts, or claimed when there was none of that id."""
    return claim.state is ClaimState.CLAIMED or claim.create_ts == key.create_ts


def same_rights(key: KeyState, wanted: WantedKey) -> bool:
    return not len(key.capabilities.minus(wanted.capabilities)) and not len(wanted.capabilities.minus(key.capabilities))


def _problem(s: Situation, reason: ProblemReason, field: str, text: str, remedy: str) -> Problem:
    return Problem(reason, s.key.id, field, text, remedy, s.key.source)


def claimed_by_another(s: Situation) -> Problem | None:
    if s.claim is None or s.claim.owner == s.key.ref:
        return None
    text = f"{s.key.id!r} was made for {s.claim.owner}, not for {s.key.ref}"
    return _problem(s, ProblemReason.CONFLICT, "spec.id", text, f"name it as before; {_ANEW}")


def id_changed(s: Situation) -> Problem | None:
    if s.owned is None or s.owned.id == s.key.id:
        return None
    text = f"{s.key.id!r}, but {s.key.ref} was made with id {s.owned.id!r}, which cannot change"
    return _problem(s, ProblemReason.IMMUTABLE, "spec.id", text, f"write it back; {_ANEW}")


def file_renamed(s: Situation) -> Problem | None:
    if s.claim is None or s.claim.file == s.key.key_file:
        return None
    text = f"the key file would be {s.key.key_file!r}, but was made as {s.claim.file!r}, which cannot change"
    return _problem(s, ProblemReason.IMMUTABLE, "spec.secretName", text, f"write it back; {_ANEW}")


def authnode_unknown(s: Situation) -> Problem | None:
    if s.sight is not NotSeen.UNKNOWN:
        return None
    return _problem(s, ProblemReason.UNKNOWN, "", _untold(s.key.id), _TRY_AGAIN)


def _untold(principal: str) -> str:
    return f"the Authnode did not tell whether it has {principal!r}"


def exists_without_claim(s: Situation) -> Problem | None:
    if s.present is None or s.ours or s.adopt:
        return None
    text = f"{s.key.id!r} exists at the Authnode and was not made here"
    if s.claim is not None:
        text = f"{s.key.id!r} was deleted at the Authnode and made anew by somebody else"
    return _problem(s, ProblemReason.EXISTS, "spec.id", text, f"choose another id, or adopt {s.key.id} to take it over")


def role_differs(s: Situation) -> Problem | None:
    if s.present is None or s.present.role is s.key.role:
        return None
    text = f"{s.key.role.value!r}, but the key {s.key.id!r} at the Authnode has role {s.present.role.value}, which cannot change"
    return _problem(s, ProblemReason.ROLE_DIFFERS, "spec.role", text, f"write it back; {_ANEW}")


def file_in_the_way(s: Situation) -> Problem | None:
    """No key is made or adopted that could not be handed out."""
    return None if s.ours else file_not_ours(s)


def file_not_ours(s: Situation) -> Problem | None:
    """What was not written here is not overwritten: it may be the only copy of a key. The key itself is cared for."""
    unclaimed = s.file is FileState.DIFFERS and s.claim is None
    if s.file is not FileState.FOREIGN and not unclaimed:
        return None
    text = f"the file {s.key.key_file!r} is there and does not hold the key of {s.key.id!r} that the Authnode has"
    return _problem(
        s, ProblemReason.CONFLICT, "spec.secretName", text, "it is not overwritten: move it away, or choose another secretName"
    )


BLOCKERS: tuple[Callable[[Situation], Problem | None], ...] = (
    claimed_by_another,
    id_changed,
    file_renamed,
    authnode_unknown,
    exists_without_claim,
    role_differs,
    file_in_the_way,
)


def _claim(s: Situation, state: ClaimState, create_ts: int, *, adopted: bool) -> Claim:
    return Claim(s.key.id, s.key.ref, s.key.key_file, s.key.deletion_policy, adopted, state, create_ts)


def key_is_adopted(s: Situation) -> list[Action]:
    if s.present is None or s.ours:
        return []
    reason = "the id exists at the Authnode and is to be adopted; the key will outlive its AuthKey"
    return [ClaimKey(_claim(s, ClaimState.MADE, s.present.create_ts, adopted=True), reason)]


def key_is_missing(s: Situation) -> list[Action]:
    if not s.missing:
        return []
    claim = _claim(s, ClaimState.CLAIMED, 0, adopted=False)  # also where the lost one was adopted: this one is made here
    if s.claim is None:
        reason = "the Authnode has no such key"
    elif s.claim.state is ClaimState.CLAIMED:
        reason = "it was claimed by a run that ended before the key was made"
    else:
        reason = "it was deleted at the Authnode by somebody else and is still wanted; who holds the old key needs the new file"
    journal: list[Action] = [] if s.claim == claim else [ClaimKey(claim, reason)]
    return [
        *journal,
        CreateKey(s.key.id, s.key.role, s.wanted.capabilities, reason),
        RecordMade(s.key.id, None, "a key is told from a later one of its id by its create_ts"),
    ]


def key_was_not_recorded(s: Situation) -> list[Action]:
    if s.present is None or s.claim is None or s.claim.state is ClaimState.MADE:
        return []
    return [RecordMade(s.key.id, s.present.create_ts, "it was made by a run that ended before it was journalled")]


def policy_differs(s: Situation) -> list[Action]:
    if not s.ours or s.claim is None or s.present is None or s.claim.policy is s.key.deletion_policy:
        return []
    claim = replace(s.claim, policy=s.key.deletion_policy, state=ClaimState.MADE, create_ts=s.present.create_ts)
    return [ClaimKey(claim, f"deletionPolicy is {s.key.deletion_policy.value} now")]


def capabilities_differ(s: Situation) -> list[Action]:
    if s.present is None or not s.capabilities_differ:
        return []
    by = ", ".join(ref.name for ref in s.wanted.granted_by)
    reason = f"it holds what Capability {by} grants, nothing else" if by else "no Capability binds it, so it holds none"
    return [SetCapabilities(s.key.id, s.present.capabilities, s.wanted.capabilities, reason)]


def file_is_not_right(s: Situation) -> list[Action]:
    if s.file is FileState.FOREIGN:
        return []
    if s.file is FileState.ABSENT:
        reason = "there is no key file"
    elif s.missing or s.file is FileState.DIFFERS:
        reason = "the key file does not hold the Authnode's key"
    elif s.file is FileState.STALE or s.capabilities_differ:
        reason = "the key file does not show the key's present capabilities"
    else:
        return []
    return [WriteKeyFile(s.key.id, s.key.key_file, reason)]


STEPS: tuple[Callable[[Situation], list[Action]], ...] = (
    key_is_adopted,
    key_is_missing,
    key_was_not_recorded,
    policy_differs,
    capabilities_differ,
    file_is_not_right,
)


def release(claim: Claim, sight: KeyState | NotSeen, file: FileState) -> list[Action]:
    """What pruning does about a claim whose AuthKey is gone: deletes only the very key that the claim is about.

    Retain (and adopted) keeps key and key file, as Kubernetes keeps a Secret without an owner reference; only the claim goes.
    """
    gone = f"{claim.owner} is gone"
    if claim.retains:
        kept = "an adopted key" if claim.adopted else "deletionPolicy Retain"
        return [Unclaim(claim.id, f"{gone}; {kept}: key and key file stay")]
    actions: list[Action] = []
    deletable = isinstance(sight, KeyState) and claim.create_ts == sight.create_ts
    if deletable:
        actions.append(DeleteKey(claim.id, claim.create_ts, f"{gone}; deletionPolicy Delete"))
    # A file that holds the present key of an id that somebody else made anew is somebody else's.
    holds_ours = (FileState.RIGHT, FileState.STALE, FileState.DIFFERS) if deletable else (FileState.DIFFERS,)
    if file in holds_ours:
        actions.append(RemoveKeyFile(claim.id, claim.file, f"{gone}, and so is its key"))
    actions.append(Unclaim(claim.id, f"{gone}, nothing of it is left here"))
    return actions


def cannot_release(claim: Claim, sight: KeyState | NotSeen) -> Problem | None:
    """A key that may not be ours is not deleted, and its claim is kept until that is known."""
    if claim.retains:
        return None
    if sight is NotSeen.UNKNOWN:
        return Problem(ProblemReason.UNKNOWN, claim.id, "", _untold(claim.id), _TRY_AGAIN)
    if isinstance(sight, KeyState) and claim.state is ClaimState.CLAIMED:
        text = f"{claim.id!r} exists, but the run that claimed it ended before it was journalled as made, so it is not deleted"
        return Problem(
            ProblemReason.EXISTS, claim.id, "", text, f"put {claim.owner} back and apply once, then take it out and prune"
        )
    return None

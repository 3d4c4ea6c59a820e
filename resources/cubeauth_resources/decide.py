"""Decide what has to be done: a pure function of what is wanted, what was seen and what was made here before.

Level-triggered: it knows no history but the journal, so a timer, an event and
a restart after a kill all get the same answer from the same facts, and once
everything is as it should be the answer is nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cubeauth_resources.actions import Action, CreateKey, RecordKeystore, WriteKeyFile
from cubeauth_resources.claims import Claim, Claims
from cubeauth_resources.facts import BLOCKERS, STEPS, Situation, cannot_release, file_not_ours, is_claimed, release
from cubeauth_resources.manifests import Desired
from cubeauth_resources.observed import FileState, KeyState, Observed
from cubeauth_resources.reports import Notice, Problem, ProblemReason


@dataclass(frozen=True, slots=True)
class Decision:
    """actions: in the order to run them; problems: what is left undone and why; notices: what stops nothing."""

    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]
    notices: tuple[Notice, ...]


def decide(
    desired: Desired, observed: Observed, claims: Claims, *, prune: bool = False, adopt: frozenset[str] = frozenset()
) -> Decision:
    """What has to be done.

    prune: delete what was made here and is wanted no more; without it such keys are only told. adopt: ids that exist at the
    Authnode and may be taken over. A problem stops its own key only; the others are done.
    """
    changed = _keystore_changed(observed, claims)
    if changed:
        return Decision((), (changed,), desired.notices)
    orphans = _orphans(desired, claims)
    problems, released = _release_all(orphans if prune else (), observed)
    more_problems, wanted = _want_all(desired, observed, claims, adopt)
    notices = [*desired.notices, *_told(orphans, observed, prune), *_needless_adopt(desired, adopt)]
    actions = (*_keystore_told(desired, observed, claims), *released, *wanted)
    return Decision(actions, (*problems, *more_problems), tuple(notices))


def _keystore_changed(observed: Observed, claims: Claims) -> Problem | None:
    """Another keystore has none of our keys; making all of them anew there would overwrite every key file with a key that is
    good at the wrong place."""
    if claims.keystore in ("", observed.keystore):
        return None
    here = f"keystore {observed.keystore}" if observed.keystore else "no keystore id to tell"
    return Problem(
        ProblemReason.CLUSTER_CHANGED,
        "",
        "",
        f"the keys here were made in keystore {claims.keystore}, and this Authnode has {here}",
        "each Authnode needs a key folder of its own; name the right Authnode, or another folder",
    )


def _keystore_told(desired: Desired, observed: Observed, claims: Claims) -> list[Action]:
    if claims.keystore or not observed.keystore or not (desired.keys or claims.entries):
        return []
    return [RecordKeystore(observed.keystore, "keys of another keystore must be told from these")]


def _orphans(desired: Desired, claims: Claims) -> tuple[Claim, ...]:
    """Claims whose AuthKey is gone. One whose id another AuthKey wants is none: its key is in use, and that is a conflict."""
    owners = {wanted.key.ref for wanted in desired.keys}
    ids = {wanted.key.id for wanted in desired.keys}
    return tuple(claim for claim in claims.entries if claim.owner not in owners and claim.id not in ids)


def _release_all(orphans: Iterable[Claim], observed: Observed) -> tuple[list[Problem], list[Action]]:
    problems: list[Problem] = []
    actions: list[Action] = []
    for claim in orphans:
        sight = observed.sight(claim.id)
        problem = cannot_release(claim, sight)
        if problem:
            problems.append(problem)
        else:
            actions.extend(release(claim, sight, observed.file(claim.id, claim.file)))
    return problems, actions


def _want_all(desired: Desired, observed: Observed, claims: Claims, adopt: frozenset[str]) -> tuple[list[Problem], list[Action]]:
    problems: list[Problem] = []
    groups: list[list[Action]] = []
    by_id = {claim.id: claim for claim in claims.entries}
    by_owner = {claim.owner: claim for claim in claims.entries}
    for wanted in desired.keys:
        key = wanted.key
        situation = Situation(
            wanted=wanted,
            sight=observed.sight(key.id),
            claim=by_id.get(key.id),
            owned=by_owner.get(key.ref),
            file=observed.file(key.id, key.key_file),
            adopt=key.id in adopt,
        )
        problem = next((found for fact in BLOCKERS if (found := fact(situation))), None)
        if problem:
            problems.append(problem)
            continue
        groups.append([action for fact in STEPS for action in fact(situation)])
        problems.extend(found for found in [file_not_ours(situation)] if found)
    return problems, [action for group in sorted(groups, key=_urgency) for action in group]


def _urgency(actions: list[Action]) -> int:
    """Create before change before resync; deletions came before all of them. The actions of one key stay together."""
    if any(isinstance(action, CreateKey) for action in actions):
        return 0
    return 2 if all(isinstance(action, WriteKeyFile) for action in actions) else 1


def _told(orphans: Iterable[Claim], observed: Observed, prune: bool) -> list[Notice]:
    """What is left behind on purpose."""
    if prune:
        return [notice for claim in orphans if not claim.retains for notice in _left(claim, observed)]
    would = {True: "only forget it", False: "delete it"}
    return [Notice("", f"key {claim.id}", f"{claim.owner} is gone; prune would {would[claim.retains]}") for claim in orphans]


def _left(claim: Claim, observed: Observed) -> list[Notice]:
    """What pruning does not take away, since it was not made here."""
    notices: list[Notice] = []
    sight = observed.sight(claim.id)
    if isinstance(sight, KeyState) and not is_claimed(sight, claim):
        notices.append(Notice("", f"key {claim.id}", "made anew by somebody else, so it stays at the Authnode"))
    if observed.file(claim.id, claim.file) is FileState.FOREIGN:
        notices.append(Notice("", f"file {claim.file}", "does not hold the key that was written there, so it stays"))
    return notices


def _needless_adopt(desired: Desired, adopt: frozenset[str]) -> list[Notice]:
    wanted = {key.key.id for key in desired.keys}
    return [Notice("", f"adopt {principal}", "no AuthKey has this id") for principal in sorted(adopt - wanted)]

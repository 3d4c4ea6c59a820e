"""What a caller saw: keys at the Authnode and the files beside the journal. No secret gets in here, only how files compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cubeauth.caps import Capabilities
from cubeauth.errors import InputError
from cubeauth.ids import Role
from cubeauth.keys import KeyFile, parse_key_file
from cubeauth_resources.claims import Claims
from cubeauth_resources.manifests import Desired


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key that the Authnode holds. create_ts: unix seconds; with the id it tells a key from any other of that id."""

    role: Role
    capabilities: Capabilities
    create_ts: int


class NotSeen(StrEnum):
    """Why there is no KeyState of an id."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


class FileState(StrEnum):
    """How a key file (in Kubernetes, a Secret) compares with what the Authnode holds.

    right: it says all that would be written; stale: the same key, but other members are not up to date; differs: a key file of
    this id with another key; foreign: anything else, unreadable files too.
    """

    ABSENT = "absent"
    RIGHT = "right"
    STALE = "stale"
    DIFFERS = "differs"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Observed:
    """The answers to `watched`.

    keys: by id, what the Authnode holds; listed: whether it gave its list of ids (a stock one cannot), so that every id that is
    not in `keys` is known to be absent; absent: without a list, the ids that it was asked for and does not have; what is in
    neither is unknown. files: by the pairs of `watched` (one file may be compared with two ids), what is not in it is absent.
    keystore: the keystore's id, "" where it has none to tell.
    """

    keys: Mapping[str, KeyState]
    listed: bool
    absent: frozenset[str] = frozenset()
    files: Mapping[tuple[str, str], FileState] = field(default_factory=dict)
    keystore: str = ""

    def sight(self, principal: str) -> KeyState | NotSeen:
        """What is known of an id."""
        known_absent = NotSeen.ABSENT if self.listed or principal in self.absent else NotSeen.UNKNOWN
        return self.keys.get(principal, known_absent)

    def file(self, principal: str, name: str) -> FileState:
        """How a file compares with the key of an id."""
        return self.files.get((principal, name), FileState.ABSENT)


def watched(desired: Desired, claims: Claims) -> tuple[tuple[str, str], ...]:
    """The (id, file name) pairs that a caller has to look at before it decides."""
    pairs = {(wanted.key.id, wanted.key.key_file) for wanted in desired.keys}
    return tuple(sorted(pairs | {(claim.id, claim.file) for claim in claims.entries}))


def judge_file(text: bytes, principal: str, held: KeyFile | None) -> FileState:
    """How the text of an existing key file compares. held: what the Authnode holds under the id, None if it is absent."""
    try:
        found = parse_key_file(text)
    except InputError:
        return FileState.FOREIGN
    if found.id != principal:
        return FileState.FOREIGN
    if held is None or found.auth_key != held.auth_key:
        return FileState.DIFFERS
    return FileState.RIGHT if found == held else FileState.STALE

"""What can be done about a key. Each action is one write, so that a kill falls between two of them; each says why.

A caller runs them in the given order and stops at the first that fails; the
next run decides again from what it then sees. `summary` is the line that
people read, `reason` the fact that made it necessary.
"""

from __future__ import annotations

from dataclasses import dataclass

from cubeauth.caps import Capabilities, Kind
from cubeauth.ids import Role
from cubeauth_resources.claims import Claim


@dataclass(frozen=True, slots=True)
class RecordKeystore:
    """Journal which keystore the claims are about."""

    keystore: str
    reason: str

    @property
    def summary(self) -> str:
        return f"journal keystore {self.keystore}"


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """Journal the claim in place of any earlier one of its id; safely on disk before the next action."""

    claim: Claim
    reason: str

    @property
    def id(self) -> str:
        return self.claim.id

    @property
    def summary(self) -> str:
        return f"journal {self.claim.id} as {'adopted' if self.claim.adopted else self.claim.state.value} for {self.claim.owner}"


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Make the key at the Authnode. Refused because the id exists: somebody was faster; drop the claim at once and stop."""

    id: str
    role: Role
    capabilities: Capabilities
    reason: str

    @property
    def summary(self) -> str:
        return f"create key {self.id}, role {self.role.value}, {_count(self.capabilities)}"


@dataclass(frozen=True, slots=True)
class RecordMade:
    """Journal the claim's key. create_ts: unix seconds; None: that of the reply to the CreateKey before."""

    id: str
    create_ts: int | None
    reason: str

    @property
    def summary(self) -> str:
        return f"journal {self.id} as made"


@dataclass(frozen=True, slots=True)
class SetCapabilities:
    """Replace the key's capabilities: one write at our Authnode, delete `removed` and add `added` at a stock one."""

    id: str
    before: Capabilities
    after: Capabilities
    reason: str

    @property
    def added(self) -> Capabilities:
        return self.after.minus(self.before)

    @property
    def removed(self) -> Capabilities:
        return self.before.minus(self.after)

    @property
    def summary(self) -> str:
        changes = [f"+{text}" for text in _texts(self.added)] + [f"-{text}" for text in _texts(self.removed)]
        return f"set capabilities of {self.id}: {' '.join(changes)}"


@dataclass(frozen=True, slots=True)
class WriteKeyFile:
    """Write what the Authnode now holds of the key, atomically, mode 0600."""

    id: str
    file: str
    reason: str

    @property
    def summary(self) -> str:
        return f"write key file {self.file}"


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Delete the key at the Authnode; create_ts: of the key that was decided about. Already gone is as good as deleted."""

    id: str
    create_ts: int
    reason: str

    @property
    def summary(self) -> str:
        return f"delete key {self.id}"


@dataclass(frozen=True, slots=True)
class RemoveKeyFile:
    id: str
    file: str
    reason: str

    @property
    def summary(self) -> str:
        return f"remove key file {self.file}"


@dataclass(frozen=True, slots=True)
class Unclaim:
    """Take the id out of the journal."""

    id: str
    reason: str

    @property
    def summary(self) -> str:
        return f"drop {self.id} from the journal"


Action = RecordKeystore | ClaimKey | CreateKey | RecordMade | SetCapabilities | WriteKeyFile | DeleteKey | RemoveKeyFile | Unclaim


def _count(capabilities: Capabilities) -> str:
    return "1 capability" if len(capabilities) == 1 else f"{len(capabilities)} capabilities"


def _texts(capabilities: Capabilities) -> list[str]:
    """All of them; a volume's are marked, since an API capability may read the same."""
    return [text if kind is Kind.API else f"{kind.value}={text}" for kind in Kind for text in capabilities.of(kind)]

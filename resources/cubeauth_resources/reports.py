"""What is said to people beside actions: problems stop something, notices do not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cubeauth.errors import InputError


class ProblemReason(StrEnum):
    """Why nothing is done for a key; the operator shows it as the reason of the condition Ready."""

    CONFLICT = "Conflict"
    IMMUTABLE = "Immutable"
    EXISTS = "Exists"
    ROLE_DIFFERS = "RoleDiffers"
    UNKNOWN = "AuthnodeUnknown"
    CLUSTER_CHANGED = "ClusterChanged"


@dataclass(frozen=True, slots=True, order=True)
class Notice:
    """Something that people should know and that stops nothing. subject: the object or key it is about."""

    source: str
    subject: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.subject, self.text) if part)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing is done about one key (or, with id "", at all). source: the manifest, "" where there is none any more."""

    reason: ProblemReason
    id: str
    field: str
    text: str
    remedy: str
    source: str = ""

    def __str__(self) -> str:
        return str(InputError(self.field, self.text, self.remedy, source=self.source))

"""AuthKey and Capability as values.

An AuthKey is one principal and the place its key is handed out at: a Secret
in Kubernetes, a key file on bare metal. A Capability says what the AuthKeys
that it binds may do; a key's rights are the union of all that bind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cubeauth.caps import Capabilities
from cubeauth.ids import Role
from cubeauth_resources.model.names import Labels

API_VERSION = "auth.cubefs.io/v1alpha1"


class DeletionPolicy(StrEnum):
    """What becomes of the key when its AuthKey is gone. Retain: key and key file (Secret) stay, only the claim is dropped."""

    DELETE = "Delete"
    RETAIN = "Retain"


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """Which object: what a person calls it in messages, and what a claim belongs to. namespace: "" where none is given."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ClusterRef:
    """Which Authnode an object is for: an AuthCluster by name. On bare metal the command line gives its address."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class AuthKey:
    """One principal. id, role and secret_name never change; source: where the manifest was read, for messages."""

    ref: ObjectRef
    labels: Labels
    cluster: ClusterRef
    id: str
    role: Role
    secret_name: str
    deletion_policy: DeletionPolicy
    source: str = field(compare=False)

    @property
    def key_file(self) -> str:
        """Name of the key file on bare metal: the Secret's name, so that one word in the manifest means one place in both.

        An underscore is in no Kubernetes name, so two namespaces never share a file.
        """
        return f"{self.ref.namespace}_{self.secret_name}.json" if self.ref.namespace else f"{self.secret_name}.json"


@dataclass(frozen=True, slots=True)
class Capability:
    """Grants, and the AuthKeys of the same namespace that get them: by name, or by labels (then `subjects` is empty)."""

    ref: ObjectRef
    cluster: ClusterRef
    subjects: tuple[str, ...]
    selector: Labels | None
    grants: Capabilities
    source: str = field(compare=False)

    def binds(self, key: AuthKey) -> bool:
        """Whether `key` gets these grants."""
        if key.ref.namespace != self.ref.namespace:
            return False
        if self.selector is not None:
            return self.selector <= key.labels
        return key.ref.name in self.subjects

"""All manifests of one Authnode together: what people asked for, checked across documents.

Everything that is wrong is reported at once, in an order that does not depend
on the order of the documents; a later stage is judged only when the earlier
one found nothing (a key that did not parse must not be reported as missing).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from cubeauth import caps
from cubeauth.caps import Capabilities
from cubeauth.errors import InputError
from cubeauth_resources.grants import useless_grants
from cubeauth_resources.model import AuthKey, Capability, ClusterRef, ObjectRef, parse_manifest
from cubeauth_resources.model.fields import did_you_mean
from cubeauth_resources.reports import Notice

Manifest = AuthKey | Capability
AnyManifest = TypeVar("AnyManifest", bound=Manifest)


class Document(NamedTuple):
    """One parsed YAML document and where it was read, as messages name it. An empty document (None) is nothing."""

    content: object
    source: str


@dataclass(frozen=True, slots=True)
class WantedKey:
    """An AuthKey with what it may do: the union of the Capabilities that bind it, in the order of their names."""

    key: AuthKey
    capabilities: Capabilities
    granted_by: tuple[ObjectRef, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """What people asked for. keys: in the order of namespace and name; cluster: None where there is no manifest."""

    keys: tuple[WantedKey, ...]
    cluster: ClusterRef | None
    notices: tuple[Notice, ...]


class ManifestErrors(InputError):
    """Everything that is wrong with a set of manifests; `errors` has one line each, and this one shows the first."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(sorted(errors, key=str))
        first = self.errors[0]
        super().__init__(first.field, first.problem, first.remedy, source=first.source)

    def __str__(self) -> str:
        more = len(self.errors) - 1
        return super().__str__() + (f" (and {more} more)" if more else "")


def collect(documents: Iterable[Document]) -> Desired:
    """Read and check manifests of one Authnode.

    Nothing at all gives an empty Desired, for which a pruning decide would take every key away: a caller that reads a folder
    refuses one without manifests. Raises ManifestErrors.
    """
    manifests = _parse_all(documents)
    _refuse(_duplicates(manifests))
    keys = _of(AuthKey, manifests)
    capabilities = _of(Capability, manifests)
    _refuse([*_two_clusters(manifests), *_conflicts(keys), *_missing_subjects(keys, capabilities)])
    wanted = tuple(_wanted(key, capabilities) for key in keys)
    _refuse([error for key in wanted for error in _too_many(key)])
    notices = tuple(sorted(notice for capability in capabilities for notice in _notices(capability, keys)))
    return Desired(wanted, manifests[0].cluster if manifests else None, notices)


def _parse_all(documents: Iterable[Document]) -> list[Manifest]:
    manifests: list[Manifest] = []
    errors: list[InputError] = []
    for document in documents:
        if document.content is None:
            continue
        try:
            manifests.append(parse_manifest(document.content, document.source))
        except InputError as e:
            errors.append(e)
    _refuse(errors)
    return sorted(manifests, key=lambda manifest: (manifest.ref, manifest.source))


def _refuse(errors: Sequence[InputError]) -> None:
    if errors:
        raise ManifestErrors(errors)


def _of(kind: type[AnyManifest], manifests: Iterable[Manifest]) -> list[AnyManifest]:
    return [manifest for manifest in manifests if isinstance(manifest, kind)]


def _sharing(
    manifests: Iterable[AnyManifest], what: Callable[[AnyManifest], Hashable]
) -> Iterable[tuple[AnyManifest, AnyManifest]]:
    """Each manifest that has something in common with an earlier one, after that one."""
    groups: defaultdict[Hashable, list[AnyManifest]] = defaultdict(list)
    for manifest in manifests:
        groups[what(manifest)].append(manifest)
    return [(group[0], later) for group in groups.values() for later in group[1:]]


def _duplicates(manifests: Iterable[Manifest]) -> list[InputError]:
    return [
        InputError(
            "metadata.name", f"{later.ref} is there already in {first.source}", "take one of them out", source=later.source
        )
        for first, later in _sharing(manifests, lambda manifest: manifest.ref)
    ]


def _two_clusters(manifests: Sequence[Manifest]) -> list[InputError]:
    others = [manifest for manifest in manifests if manifest.cluster != manifests[0].cluster]
    remedy = "manifests of two Authnodes are applied one Authnode at a time"
    return [
        InputError(
            "spec.clusterRef",
            f"{other.cluster}, but {manifests[0].source} is for {manifests[0].cluster}",
            remedy,
            source=other.source,
        )
        for other in others[:1]
    ]


def _conflicts(keys: Iterable[AuthKey]) -> list[InputError]:
    """One id or one place for two keys: neither can be preferred, so neither is made."""
    keys = list(keys)
    same_id = [
        InputError(
            "spec.id", f"{later.id!r} is the id of {first.ref} in {first.source} too", "one id, one AuthKey", source=later.source
        )
        for first, later in _sharing(keys, lambda key: key.id)
    ]
    same_place = [
        InputError(
            "spec.secretName",
            f"{later.secret_name!r} is the place of {first.ref} in {first.source} too",
            "give one of them another secretName",
            source=later.source,
        )
        for first, later in _sharing(keys, lambda key: key.key_file)
    ]
    return same_id + same_place


def _missing_subjects(keys: Sequence[AuthKey], capabilities: Iterable[Capability]) -> list[InputError]:
    there = {key.ref for key in keys}
    return [
        InputError(
            f"spec.subjects[{position}].name", *_missing_subject(capability.ref.namespace, name, keys), source=capability.source
        )
        for capability in capabilities
        for position, name in enumerate(capability.subjects)
        if ObjectRef("AuthKey", capability.ref.namespace, name) not in there
    ]


def _missing_subject(namespace: str, name: str, keys: Sequence[AuthKey]) -> tuple[str, str]:
    """Problem and remedy: the commonest slips are another namespace, and the id in place of the name."""
    problem = f"there is no {ObjectRef('AuthKey', namespace, name)}"
    for key in keys:
        if key.ref.name == name:
            return problem, f"a Capability binds AuthKeys of its own namespace, and that one is {key.ref}"
        if key.id == name:
            return problem, f"a subject is named by metadata.name: write {key.ref.name}"
    return problem, did_you_mean(name, (key.ref.name for key in keys), "add its manifest, or take the subject out")


def _wanted(key: AuthKey, capabilities: Iterable[Capability]) -> WantedKey:
    binding = [capability for capability in capabilities if capability.binds(key)]
    union = functools.reduce(Capabilities.union, (capability.grants for capability in binding), Capabilities())
    return WantedKey(key, union, tuple(capability.ref for capability in binding))


def _too_many(wanted: WantedKey) -> list[InputError]:
    if len(wanted.capabilities) <= caps.MAX_CAPABILITIES:
        return []
    names = ", ".join(ref.name for ref in wanted.granted_by)
    problem = f"{wanted.key.ref} would hold {len(wanted.capabilities)} capabilities, from {names}"
    return [InputError("spec", problem, f"a principal holds at most {caps.MAX_CAPABILITIES}", source=wanted.key.source)]


def _notices(capability: Capability, keys: Iterable[AuthKey]) -> Iterable[Notice]:
    texts = list(useless_grants(capability.grants))
    if not len(capability.grants):
        texts.append("grants nothing")
    if capability.selector is not None and not any(capability.binds(key) for key in keys):
        labels = ", ".join(f"{name}={value}" for name, value in sorted(capability.selector))
        texts.append(f"spec.selector.matchLabels: no AuthKey in its namespace has {labels}, so it binds nobody")
    return [Notice(capability.source, str(capability.ref), text) for text in texts]

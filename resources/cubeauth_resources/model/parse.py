"""A parsed manifest as a frozen value, or an InputError that names source, field, value and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cubeauth import caps, ids
from cubeauth.errors import InputError
from cubeauth_resources.model import names
from cubeauth_resources.model.fields import Section, did_you_mean, section, shown
from cubeauth_resources.model.names import Labels
from cubeauth_resources.model.objects import API_VERSION, AuthKey, Capability, ClusterRef, DeletionPolicy, ObjectRef

_TOP = ("apiVersion", "kind", "metadata", "spec")
_METADATA = ("name", "namespace", "labels")
_CLUSTER_REF = ("name", "namespace")
_AUTH_KEY = ("clusterRef", "id", "role", "secretName", "deletionPolicy")
_CAPABILITY = ("clusterRef", "subjects", "selector", "api", "ownerVol", "noneOwnerVol")
_GRANTS = {"api": caps.Kind.API, "ownerVol": caps.Kind.OWNER_VOL, "noneOwnerVol": caps.Kind.NONE_OWNER_VOL}
_CLUSTER_REMEDY = "name the AuthCluster, as in clusterRef: {name: authnode}"
_SUBJECT_REMEDY = "write subjects: [{kind: AuthKey, name: NAME}], or selector: {matchLabels: {...}}"


@dataclass(frozen=True, slots=True)
class _Head:
    """What every object has."""

    ref: ObjectRef
    labels: Labels
    cluster: ClusterRef
    source: str


def parse_manifest(document: object, source: str) -> AuthKey | Capability:
    """Read one manifest. document: what the YAML parser gave; source: file (and place in it), for messages.

    Strict: an unknown field is refused, since it would silently do nothing. Raises InputError.
    """
    try:
        return _parse(document, source)
    except InputError as e:
        raise e.located(source) from None


def _parse(document: object, source: str) -> AuthKey | Capability:
    if not isinstance(document, Mapping):
        raise InputError("", f"{shown(document)} is not a mapping", "a manifest has apiVersion, kind, metadata, spec")
    kind = _kind(document)
    top = section(document, "", _TOP)
    spec_fields, build = KINDS[kind]
    metadata = top.section("metadata", _METADATA, "an object has metadata.name")
    spec = top.section("spec", spec_fields, f"it takes {', '.join(spec_fields)}")
    return build(_head(kind, metadata, spec, source), spec)


def _kind(document: Mapping[str, object]) -> str:
    """The kind, judged before anything else: what belongs to another program has other fields too."""
    version, kind = document.get("apiVersion"), document.get("kind")
    if version != API_VERSION:
        problem = "missing" if version is None else f"{shown(version)} is not served"
        raise InputError("apiVersion", problem, f"write {API_VERSION}")
    if not isinstance(kind, str) or kind not in KINDS:
        problem = "missing" if kind is None else f"{shown(kind)} is not known"
        raise InputError("kind", problem, did_you_mean(kind, KINDS, f"known are {', '.join(KINDS)}"))
    return kind


def _head(kind: str, metadata: Section, spec: Section, source: str) -> _Head:
    name = names.object_name(metadata.text("name", "give the object a name"), "metadata.name")
    namespace = ""
    if metadata.has("namespace"):
        namespace = names.namespace(metadata.text("namespace", "leave it out for none"), "metadata.namespace")
    labels = names.labels(metadata.members["labels"], "metadata.labels") if metadata.has("labels") else frozenset()
    return _Head(ObjectRef(kind, namespace, name), labels, _cluster(spec, namespace), source)


def _cluster(spec: Section, own_namespace: str) -> ClusterRef:
    # Required although bare metal has its Authnode's address from the command line: the operator cannot do without, and a
    # manifest that is taken here must work there unchanged. manifests.collect uses it to refuse a mix of two clusters.
    ref = spec.section("clusterRef", _CLUSTER_REF, _CLUSTER_REMEDY)
    name = names.object_name(ref.text("name", _CLUSTER_REMEDY), ref.at("name"))
    if ref.members.get("namespace") in (None, ""):
        return ClusterRef(own_namespace, name)
    return ClusterRef(names.namespace(ref.text("namespace", "leave it out for the object's own"), ref.at("namespace")), name)


def _auth_key(head: _Head, spec: Section) -> AuthKey:
    secret_name = f"{head.ref.name}-authkey"
    if spec.has("secretName"):
        secret_name = spec.text("secretName", "leave it out for <name>-authkey")
    return AuthKey(
        ref=head.ref,
        labels=head.labels,
        cluster=head.cluster,
        id=_principal(head.ref.name, spec),
        role=spec.choice("role", ids.Role),
        secret_name=names.object_name(secret_name, "spec.secretName"),
        deletion_policy=spec.choice("deletionPolicy", DeletionPolicy, DeletionPolicy.DELETE),
        source=head.source,
    )


def _principal(name: str, spec: Section) -> str:
    """The id: spec.id, or the object's name where that is one."""
    if not spec.has("id") and not ids.valid_id(name):
        raise InputError("spec.id", f"missing, and the name {shown(name)} is no id", f"an id has {ids.ID_RULE}")
    principal = spec.text("id", f"an id has {ids.ID_RULE}") if spec.has("id") else name
    if not ids.valid_id(principal):
        raise InputError("spec.id", f"{shown(principal)} is no id", f"an id has {ids.ID_RULE}")
    if principal == ids.AUTH_SERVICE:
        raise InputError(
            "spec.id", f"{principal!r} is the Authnode itself", "its key comes from the Authnode's configuration; take another id"
        )
    if ids.canonical_service(principal) != principal:
        raise InputError(
            "spec.id",
            f"{principal!r} is a name that the user guide has for another id",
            f"write {ids.canonical_service(principal)}",
        )
    return principal


def _capability(head: _Head, spec: Section) -> Capability:
    subjects, selector = _bound(spec)
    grants = caps.Capabilities(*(_grants(spec, name, kind) for name, kind in _GRANTS.items()))
    if len(grants) > caps.MAX_CAPABILITIES:
        raise InputError("spec", f"{len(grants)} capabilities", f"a principal holds at most {caps.MAX_CAPABILITIES}")
    return Capability(head.ref, head.cluster, subjects, selector, grants, head.source)


def _bound(spec: Section) -> tuple[tuple[str, ...], Labels | None]:
    """Whom it binds: names of AuthKeys, or labels; exactly one of the two, and not nobody."""
    if spec.has("selector"):
        if spec.has("subjects"):
            raise InputError("spec.selector", "given beside spec.subjects", "a Capability has one of the two; make two of it")
        chosen = spec.section("selector", ("matchLabels",), _SUBJECT_REMEDY)
        selector = names.labels(chosen.required("matchLabels", _SUBJECT_REMEDY), chosen.at("matchLabels"))
        if not selector:
            raise InputError(chosen.at("matchLabels"), "empty: it would bind every AuthKey", "name at least one label")
        return (), selector
    items = spec.items("subjects")
    if not items:
        raise InputError("spec.subjects", "binds nobody", _SUBJECT_REMEDY)
    return _without_repetition(
        ((f"spec.subjects[{i}]", _subject(item, f"spec.subjects[{i}]")) for i, item in enumerate(items))
    ), None


def _subject(item: object, path: str) -> str:
    subject = section(item, path, ("kind", "name"))
    kind = subject.text("kind", "write AuthKey")
    if kind != "AuthKey":
        raise InputError(
            subject.at("kind"), f"{shown(kind)} cannot be bound", did_you_mean(kind, ("AuthKey",), "only an AuthKey can")
        )
    return names.object_name(subject.text("name", "name an AuthKey"), subject.at("name"))


def _grants(spec: Section, name: str, kind: caps.Kind) -> tuple[str, ...]:
    paths = ((f"spec.{name}[{i}]", item) for i, item in enumerate(spec.items(name)))
    return _without_repetition((path, caps.check(kind, item, path)) for path, item in paths)


def _without_repetition(items: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    # The API server holds these lists as sets and refuses a repetition; so it is refused here.
    seen: dict[str, str] = {}
    for path, item in items:
        if item in seen:
            raise InputError(path, f"{item!r} is there already as {seen[item]}", "take one of them out")
        seen[item] = path
    return tuple(seen)


KINDS: dict[str, tuple[tuple[str, ...], Callable[[_Head, Section], AuthKey | Capability]]] = {
    "AuthKey": (_AUTH_KEY, _auth_key),
    "Capability": (_CAPABILITY, _capability),
}
"""What manifests there are: the fields of their spec, and who reads them."""

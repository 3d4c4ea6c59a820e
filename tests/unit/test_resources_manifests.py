"""Manifests: what is right becomes a value, what is wrong becomes one line with source, field, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.resource_world import auth_key, capability, desired

from cubeauth.caps import Capabilities
from cubeauth.errors import InputError
from cubeauth.ids import Role
from cubeauth_resources.manifests import Document, ManifestErrors, collect
from cubeauth_resources.model import AuthKey, Capability, ClusterRef, DeletionPolicy, ObjectRef, parse_manifest


def key_of(manifest: dict[str, Any]) -> AuthKey:
    value = parse_manifest(manifest, "a.yaml")
    assert isinstance(value, AuthKey)
    return value


def capability_of(manifest: dict[str, Any]) -> Capability:
    value = parse_manifest(manifest, "c.yaml")
    assert isinstance(value, Capability)
    return value


def test_an_authkey_with_nothing_but_what_it_must_have() -> None:
    assert key_of(auth_key("ltptest")) == AuthKey(
        ref=ObjectRef("AuthKey", "", "ltptest"),
        labels=frozenset(),
        cluster=ClusterRef("", "authnode"),
        id="ltptest",
        role=Role.CLIENT,
        secret_name="ltptest-authkey",
        deletion_policy=DeletionPolicy.DELETE,
        source="a.yaml",
    )


def test_an_authkey_with_everything() -> None:
    spec = {"id": "MasterService", "role": "service", "secretName": "master.key", "deletionPolicy": "Retain"}
    cluster = {"name": "authnode", "namespace": "storage"}
    key = key_of(auth_key("master", namespace="apps", labels={"a.b/team": "x", "empty": ""}, clusterRef=cluster, **spec))
    assert (key.id, key.role, key.secret_name, key.deletion_policy) == ("MasterService", "service", "master.key", "Retain")
    assert key.cluster == ClusterRef("storage", "authnode")
    assert key.labels == {("a.b/team", "x"), ("empty", "")}
    assert str(key.ref) == "AuthKey apps/master"
    assert key.source == "a.yaml"


def test_an_empty_namespace_of_the_cluster_means_the_objects_own() -> None:
    key = key_of(auth_key("a", namespace="apps", clusterRef={"name": "authnode", "namespace": ""}))
    assert key.cluster == ClusterRef("apps", "authnode")


def test_the_key_file_is_named_as_the_secret_and_two_namespaces_never_share_one() -> None:
    assert key_of(auth_key("ltptest")).key_file == "ltptest-authkey.json"
    assert key_of(auth_key("ltptest", namespace="apps")).key_file == "apps_ltptest-authkey.json"


def test_a_capability_by_name_and_one_by_label() -> None:
    grants = {"api": ["data:read:access"], "ownerVol": ["master:ltptest:*"], "noneOwnerVol": ["master:other:*"]}
    by_name = capability_of(capability("c", "ltptest", "reader", **grants))
    assert by_name.subjects == ("ltptest", "reader")
    assert by_name.grants == Capabilities(("data:read:access",), ("master:ltptest:*",), ("master:other:*",))
    by_label = capability_of(capability("c", selector={"matchLabels": {"team": "x"}}))
    assert by_label.selector == frozenset({("team", "x")})
    assert by_label.binds(key_of(auth_key("a", labels={"team": "x", "more": "y"})))
    assert not by_label.binds(key_of(auth_key("a", labels={"team": "y"})))
    both = capability_of(capability("c", selector={"matchLabels": {"team": "x", "more": "y"}}))
    assert not both.binds(key_of(auth_key("a", labels={"team": "x"})))
    assert not by_label.binds(key_of(auth_key("a", namespace="apps", labels={"team": "x"})))


def without(manifest: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = manifest
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return manifest


A_SUBJECT = {"kind": "AuthKey", "name": "a"}

WRONG: list[tuple[Any, str, str, str]] = [
    # manifest, field, what the problem says, what the remedy says
    ("text", "", "'text' is not a mapping", "a manifest has apiVersion"),
    ([], "", "[] is not a mapping", ""),
    ({}, "apiVersion", "missing", "write auth.cubefs.io/v1alpha1"),
    (auth_key("a") | {"apiVersion": "v1"}, "apiVersion", "'v1' is not served", "write auth.cubefs.io/v1alpha1"),
    (auth_key("a") | {"kind": "Authkey"}, "kind", "'Authkey' is not known", "did you mean AuthKey?"),
    (auth_key("a") | {"kind": "Capabilities"}, "kind", "'Capabilities' is not known", "did you mean Capability?"),
    (auth_key("a") | {"kind": "Secret"}, "kind", "'Secret' is not known", "known are AuthKey, Capability"),
    (auth_key("a") | {"kind": ["AuthKey"]}, "kind", "is not known", ""),
    (without(auth_key("a"), "kind"), "kind", "missing", "known are AuthKey, Capability"),
    (auth_key("a") | {"specs": {}}, "specs", "unknown field", "did you mean spec?"),
    (auth_key("a") | {"status": {}}, "status", "unknown field", "known are apiVersion, kind, metadata, spec"),
    (auth_key("a") | {True: 1}, "True", "unknown field", ""),
    (without(auth_key("a"), "metadata"), "metadata", "missing", "metadata.name"),
    (without(auth_key("a"), "spec"), "spec", "missing", "clusterRef"),
    (auth_key("a") | {"spec": None}, "spec", "missing", ""),
    (auth_key("a") | {"spec": []}, "spec", "[] is not a mapping", ""),
    (auth_key("a") | {"metadata": {"name": "a", "lables": {}}}, "metadata.lables", "unknown field", "did you mean labels?"),
    (auth_key("a") | {"metadata": {}}, "metadata.name", "missing", "give the object a name"),
    (auth_key(""), "metadata.name", "empty", ""),
    (auth_key("LtpTest"), "metadata.name", "'LtpTest' is no object's name", "small letters"),
    (auth_key("a" * 254), "metadata.name", "no object's name", "1 to 253"),
    (auth_key("a..b"), "metadata.name", "no object's name", ""),
    (auth_key("a\n"), "metadata.name", "no object's name", ""),
    (auth_key("a") | {"metadata": {"name": 123}}, "metadata.name", "123 is not a string", "write it in quotes"),
    (auth_key("a", namespace="a.b"), "metadata.namespace", "'a.b' is no namespace", "1 to 63"),
    (auth_key("a", labels=["x"]), "metadata.labels", "is not a mapping", "name: value"),
    (auth_key("a", labels={"team": True}), "metadata.labels.team", "True is not a string", "in quotes"),
    (auth_key("a", labels={1: "x"}), "metadata.labels", "the name 1 is not a string", "in quotes"),
    (auth_key("a", labels={"-x": "y"}), "metadata.labels.-x", "no label's name", "1 to 63"),
    (auth_key("a", labels={"A/x": "y"}), "metadata.labels.A/x", "no label's name", ""),
    (auth_key("a", labels={"/x": "y"}), "metadata.labels./x", "no label's name", ""),
    (auth_key("a", labels={"x": "y z"}), "metadata.labels.x", "'y z' is no label's value", "at most 63"),
    (without(auth_key("a"), "spec", "clusterRef"), "spec.clusterRef", "missing", "clusterRef: {name: authnode}"),
    (auth_key("a", clusterRef="authnode"), "spec.clusterRef", "'authnode' is not a mapping", "it takes name, namespace"),
    (auth_key("a", clusterRef={}), "spec.clusterRef.name", "missing", ""),
    (auth_key("a", clusterRef={"name": "A"}), "spec.clusterRef.name", "'A' is no object's name", ""),
    (auth_key("a", clusterRef={"name": "a", "namespace": 5}), "spec.clusterRef.namespace", "5 is not a string", ""),
    (without(auth_key("a"), "spec", "role"), "spec.role", "missing", "write client or service"),
    (auth_key("a", role="Client"), "spec.role", "'Client' is not known", "did you mean client?"),
    (auth_key("a", role="admin"), "spec.role", "'admin' is not known", "write client or service"),
    (auth_key("a", role=["client"]), "spec.role", "is not known", ""),
    (auth_key("my-service"), "spec.id", "missing, and the name 'my-service' is no id", "1 to 21 letters"),
    (auth_key("a", id="my-service"), "spec.id", "'my-service' is no id", "1 to 21 letters"),
    (auth_key("a", id="a" * 22), "spec.id", "is no id", ""),
    (auth_key("a", id=17), "spec.id", "17 is not a string", "in quotes"),
    (auth_key("a", id="AuthService"), "spec.id", "'AuthService' is the Authnode itself", "take another id"),
    (auth_key("a", id="DataService"), "spec.id", "'DataService' is a name that the user guide has", "write DatanodeService"),
    (auth_key("a", secretName="A"), "spec.secretName", "'A' is no object's name", ""),
    (auth_key("a", secretName="../../etc/passwd"), "spec.secretName", "is no object's name", ""),
    (auth_key("a", deletionPolicy="retain"), "spec.deletionPolicy", "'retain' is not known", "did you mean Retain?"),
    (auth_key("a", deletionpolicy="Retain"), "spec.deletionpolicy", "unknown field", "did you mean deletionPolicy?"),
    (auth_key("a", secretTemplate={}), "spec.secretTemplate", "unknown field", ""),
    (capability("c"), "spec.subjects", "binds nobody", "subjects: [{kind: AuthKey"),
    (capability("c", subjects=[]), "spec.subjects", "binds nobody", ""),
    (capability("c", subjects={"kind": "AuthKey"}), "spec.subjects", "is not a list", "each with a dash"),
    (capability("c", subjects=["a"]), "spec.subjects[0]", "'a' is not a mapping", "it takes kind, name"),
    (capability("c", subjects=[{"name": "a"}]), "spec.subjects[0].kind", "missing", "write AuthKey"),
    (
        capability("c", subjects=[A_SUBJECT, {"kind": "authkey", "name": "b"}]),
        "spec.subjects[1].kind",
        "'authkey' cannot be bound",
        "did you mean AuthKey?",
    ),
    (
        capability("c", subjects=[{"kind": "Pod", "name": "b"}]),
        "spec.subjects[0].kind",
        "'Pod' cannot be bound",
        "only an AuthKey can",
    ),
    (capability("c", "a", "a"), "spec.subjects[1]", "'a' is there already as spec.subjects[0]", "take one of them out"),
    (capability("c", "a", selector={"matchLabels": {"x": "y"}}), "spec.selector", "given beside spec.subjects", "make two of it"),
    (capability("c", selector={}), "spec.selector.matchLabels", "missing", ""),
    (
        capability("c", selector={"matchLabels": {}}),
        "spec.selector.matchLabels",
        "empty: it would bind every AuthKey",
        "at least one label",
    ),
    (capability("c", selector={"matchExpressions": []}), "spec.selector.matchExpressions", "unknown field", ""),
    (capability("c", "a", api="data:read:access"), "spec.api", "'data:read:access' is not a list", ""),
    (capability("c", "a", api=["data:read:access", "data:read"]), "spec.api[1]", "'data:read' is no capability", "three parts"),
    (capability("c", "a", api=["master:" + "v" * 21 + ":access"]), "spec.api[0]", "is no capability", "1 to 20"),
    (capability("c", "a", api=[{"data": "read"}]), "spec.api[0]", "is no capability", ""),
    (capability("c", "a", api=["a:b:c", "d:e:f", "a:b:c"]), "spec.api[2]", "'a:b:c' is there already as spec.api[0]", ""),
    (capability("c", "a", ownerVol=["master:*:*"]), "spec.ownerVol[0]", "'master:*:*' is no capability", "the volume 3 to 256"),
    (capability("c", "a", noneOwnerVol=["master:ab:*"]), "spec.noneOwnerVol[0]", "is no capability", ""),
    (capability("c", "a", ownerVOL=[]), "spec.ownerVOL", "unknown field", "did you mean ownerVol?"),
    (capability("c", "a", api=[f"data:x{i}:access" for i in range(1025)]), "spec", "1025 capabilities", "at most 1024"),
]


@pytest.mark.parametrize(("manifest", "field", "problem", "remedy"), WRONG)
def test_what_is_wrong_is_named(manifest: Any, field: str, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as error:
        parse_manifest(manifest, "dir/a.yaml")
    assert error.value.field == field
    assert problem in error.value.problem
    assert remedy in error.value.remedy
    assert str(error.value).startswith("dir/a.yaml: ")
    assert len(str(error.value).splitlines()) == 1


def test_a_value_of_any_length_stays_one_short_line() -> None:
    with pytest.raises(InputError) as error:
        parse_manifest(auth_key("a", role="x" * 10_000), "a.yaml")
    assert len(str(error.value)) < 200


JsonLike = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["apiVersion", "kind", "metadata", "spec"]),
    st.sampled_from(["", "name", "labels", "role", "id", "selector", "api"]),
    JsonLike,
)
def test_nothing_but_an_input_error_comes_out(member: str, inner: str, value: Any) -> None:
    for manifest in (auth_key("a"), capability("c", "a")):
        if inner and isinstance(manifest[member], dict):
            manifest[member][inner] = value
        else:
            manifest[member] = value
        try:
            parse_manifest(manifest, "a.yaml")
        except InputError:
            continue


def errors_of(*manifests: dict[str, Any]) -> list[str]:
    with pytest.raises(ManifestErrors) as error:
        collect(Document(manifest, f"{number}.yaml") for number, manifest in enumerate(manifests))
    return [str(found) for found in error.value.errors]


def test_all_that_is_wrong_is_told_at_once() -> None:
    manifests = [
        Document(auth_key("a", role="x"), "a.yaml"),
        Document(auth_key("b", role="y"), "b.yaml"),
        Document(auth_key("c"), "c.yaml"),
    ]
    with pytest.raises(ManifestErrors) as error:
        collect(manifests)
    assert [found.source for found in error.value.errors] == ["a.yaml", "b.yaml"]
    assert str(error.value) == "a.yaml: spec.role: 'x' is not known; write client or service (and 1 more)"


def test_one_object_twice() -> None:
    (text,) = errors_of(auth_key("a"), auth_key("a"))
    assert text == "1.yaml: metadata.name: AuthKey a is there already in 0.yaml; take one of them out"


def test_one_name_for_a_key_and_a_capability_and_in_two_namespaces_is_fine() -> None:
    cluster = {"name": "authnode", "namespace": "storage"}
    abroad = auth_key("a", namespace="apps", id="b", clusterRef=cluster)
    wanted = desired(
        auth_key("a", clusterRef=cluster), capability("a", "a", clusterRef=cluster, api=["data:read:access"]), abroad
    )
    assert [(key.key.id, len(key.capabilities)) for key in wanted.keys] == [("a", 1), ("b", 0)]


def test_two_keys_with_one_id_name_both_manifests() -> None:
    (text,) = errors_of(auth_key("a", id="same"), auth_key("b", id="same"))
    assert text == "1.yaml: spec.id: 'same' is the id of AuthKey a in 0.yaml too; one id, one AuthKey"


def test_two_keys_with_one_place_name_both_manifests() -> None:
    (text,) = errors_of(auth_key("a", secretName="same"), auth_key("b", secretName="same"))
    assert text == "1.yaml: spec.secretName: 'same' is the place of AuthKey a in 0.yaml too; give one of them another secretName"


def test_two_clusters_in_one_set() -> None:
    (text,) = errors_of(auth_key("a"), auth_key("b", clusterRef={"name": "other"}))
    assert text.startswith("1.yaml: spec.clusterRef: other, but 0.yaml is for authnode; ")


@pytest.mark.parametrize(
    ("subject", "remedy"),
    [
        ("reeder", "did you mean reader?"),
        ("thereader", "a subject is named by metadata.name: write reader"),
        ("abroad", "a Capability binds AuthKeys of its own namespace, and that one is AuthKey apps/abroad"),
        ("xyz", "add its manifest, or take the subject out"),
    ],
)
def test_a_subject_that_does_not_exist(subject: str, remedy: str) -> None:
    cluster = {"name": "authnode", "namespace": "storage"}
    keys = [auth_key("reader", id="thereader", clusterRef=cluster), auth_key("abroad", namespace="apps", clusterRef=cluster)]
    (text,) = errors_of(*keys, capability("c", subject, clusterRef=cluster))
    assert "2.yaml: spec.subjects[0].name: " in text
    assert remedy in text


def test_a_key_holds_the_union_of_all_that_bind_it_in_the_order_of_their_names() -> None:
    wanted = desired(
        capability("zulu", "a", api=["data:read:access", "data:write:access"]),
        capability("alpha", selector={"matchLabels": {"team": "x"}}, api=["data:write:access"], ownerVol=["master:vol:*"]),
        capability("other", "b", api=["meta:read:access"]),
        auth_key("a", labels={"team": "x"}),
        auth_key("b"),
        auth_key("c"),
    )
    held = {key.key.id: key.capabilities for key in wanted.keys}
    assert held["a"] == Capabilities(("data:write:access", "data:read:access"), ("master:vol:*",))
    assert held["b"] == Capabilities(("meta:read:access",))
    assert held["c"] == Capabilities()
    assert [ref.name for ref in wanted.keys[0].granted_by] == ["alpha", "zulu"]


def test_a_union_above_the_limit_names_the_capabilities() -> None:
    grants = [capability(f"c{n}", "a", api=[f"data:x{n}y{i}:access" for i in range(600)]) for n in range(2)]
    (text,) = errors_of(auth_key("a"), *grants)
    assert text == "0.yaml: spec: AuthKey a would hold 1200 capabilities, from c0, c1; a principal holds at most 1024"


def test_empty_documents_are_nothing() -> None:
    wanted = collect([Document(None, "a.yaml"), Document(auth_key("a"), "a.yaml"), Document(None, "a.yaml")])
    assert [key.key.id for key in wanted.keys] == ["a"]
    assert collect([]).keys == ()


def notices_of(**spec: Any) -> list[str]:
    return [str(notice) for notice in desired(auth_key("a"), capability("c", "a", **spec)).notices]


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        (
            {"api": ["data:re*:access"]},
            "spec.api[0]: 'data:re*:access': can match nothing, a * counts only as a whole part, 're*' is",
        ),
        (
            {"ownerVol": ["data:vol:*"]},
            "spec.ownerVol[0]: 'data:vol:*': can match nothing, what is asked for a volume is master:vol:*",
        ),
        ({"noneOwnerVol": ["master:vol:access"]}, "can match nothing, what is asked for a volume is master:vol:*"),
        ({"api": ["auth:createkeys:access"]}, "the Authnode has no such request; did you mean auth:createkey:access?"),
        ({"api": ["auth:format:access"]}, "can match nothing, the Authnode has no such request"),
        ({"api": ["auth:createkey:write"]}, "can match nothing, the action that the Authnode asks for is access"),
        ({"api": ["master:adddatanode:access"]}, "stock CubeFS asks for no such thing; did you mean master:adddatannode:access?"),
        ({}, "Capability c: grants nothing"),
    ],
)
def test_a_grant_that_can_match_nothing_is_told(spec: dict[str, Any], note: str) -> None:
    (notice,) = notices_of(**spec)
    assert notice.startswith("Capability-c.yaml: Capability c: ")
    assert note in notice


@pytest.mark.parametrize(
    "capability_text",
    [
        "*:*:*",
        "auth:*:*",
        "auth:createkey:access",
        "auth:setcaps:*",
        "master:getvol:access",
        "data:write:access",
        "my:own:thing",
    ],
)
def test_a_grant_that_may_be_asked_for_is_not_told(capability_text: str) -> None:
    assert notices_of(api=[capability_text], ownerVol=["master:vol:*", "*:vol:*"]) == []


def test_the_names_that_guards_will_ask_for_are_no_misspellings() -> None:
    areas = ("view", "vol", "user", "node", "disk", "part", "cluster", "quota", "qos", "raft", "flash", "lc")
    assert notices_of(api=[f"master:{area}{what}:access" for area in areas for what in ("read", "write")]) == []


def test_a_selector_that_matches_nothing_is_told() -> None:
    wanted = desired(auth_key("a"), capability("c", selector={"matchLabels": {"team": "x"}}, api=["data:read:access"]))
    assert [notice.text for notice in wanted.notices] == [
        "spec.selector.matchLabels: no AuthKey in its namespace has team=x, so it binds nobody"
    ]

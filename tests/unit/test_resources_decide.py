"""Facts in, actions out: one row a fact. How actions run together is in test_resources_converge.py."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.support.resource_world import World, auth_key, capability, desired

from cubeauth.caps import Capabilities
from cubeauth.ids import Role
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes
from cubeauth_resources.actions import Action, CreateKey, RecordMade, SetCapabilities
from cubeauth_resources.claims import Claim, Claims, ClaimState
from cubeauth_resources.decide import Decision, decide
from cubeauth_resources.manifests import Desired
from cubeauth_resources.model import DeletionPolicy, ObjectRef
from cubeauth_resources.observed import FileState, KeyState, Observed, judge_file, watched
from cubeauth_resources.reports import ProblemReason

FILE = "ltptest-authkey.json"
READ = Capabilities(("data:read:access",))
WRITE = Capabilities(("data:write:access",))
WANTED = desired(auth_key("ltptest"), capability("read", "ltptest", api=["data:read:access"]))
RETAINED = desired(auth_key("ltptest", deletionPolicy="Retain"), capability("read", "ltptest", api=["data:read:access"]))
NOTHING = desired()

KEY = KeyState(Role.CLIENT, READ, 100)
ANOTHER = KeyState(Role.CLIENT, READ, 200)
MADE = Claim("ltptest", ObjectRef("AuthKey", "", "ltptest"), FILE, DeletionPolicy.DELETE, False, ClaimState.MADE, 100)
CLAIMED = Claim("ltptest", ObjectRef("AuthKey", "", "ltptest"), FILE, DeletionPolicy.DELETE, False, ClaimState.CLAIMED, 0)
MADE_RETAIN = Claim("ltptest", ObjectRef("AuthKey", "", "ltptest"), FILE, DeletionPolicy.RETAIN, False, ClaimState.MADE, 100)
ADOPTED = Claim("ltptest", ObjectRef("AuthKey", "", "ltptest"), FILE, DeletionPolicy.DELETE, True, ClaimState.MADE, 100)
ELSEWHERE = Claim("ltptest", ObjectRef("AuthKey", "", "oldname"), FILE, DeletionPolicy.DELETE, False, ClaimState.MADE, 100)
OTHER_ID = Claim("oldid", ObjectRef("AuthKey", "", "ltptest"), FILE, DeletionPolicy.DELETE, False, ClaimState.MADE, 100)
OTHER_FILE = Claim("ltptest", ObjectRef("AuthKey", "", "ltptest"), "old.json", DeletionPolicy.DELETE, False, ClaimState.MADE, 100)


@dataclass(frozen=True)
class Case:
    """What is so, and what must come of it: the names of the actions in order, and of the problems."""

    fact: str
    key: KeyState | None = None
    claim: Claim | None = None
    file: FileState = FileState.ABSENT
    actions: tuple[str, ...] = ()
    problems: tuple[ProblemReason, ...] = ()
    wanted: Desired = WANTED
    prune: bool = False
    adopt: bool = False
    unknown: bool = False
    says: str = ""
    notices: tuple[str, ...] = field(default=())


NEW = ("ClaimKey", "CreateKey", "RecordMade", "WriteKeyFile")
P = ProblemReason

WANTED_CASES = (
    Case("everything is as it should be", KEY, MADE, FileState.RIGHT),
    Case("key is missing at the Authnode", actions=NEW, says="the Authnode has no such key"),
    Case("key was claimed but not made", claim=CLAIMED, actions=NEW[1:], says="a run that ended before the key was made"),
    Case("key was made but not journalled", KEY, CLAIMED, actions=NEW[2:], says="before it was journalled"),
    Case("key was deleted by somebody else", None, MADE, FileState.DIFFERS, NEW, says="deleted at the Authnode by somebody else"),
    Case("adopted key was deleted by somebody else", None, ADOPTED, FileState.DIFFERS, NEW),
    Case("file is missing", KEY, MADE, actions=("WriteKeyFile",), says="there is no key file"),
    Case("file holds another key", KEY, MADE, FileState.DIFFERS, ("WriteKeyFile",), says="does not hold the Authnode's key"),
    Case("file is stale", KEY, MADE, FileState.STALE, ("WriteKeyFile",), says="present capabilities"),
    Case(
        "capabilities differ",
        KeyState(Role.CLIENT, WRITE, 100),
        MADE,
        FileState.RIGHT,
        ("SetCapabilities", "WriteKeyFile"),
        says="Capability read grants",
    ),
    Case(
        "no Capability binds it",
        KEY,
        MADE,
        FileState.RIGHT,
        ("SetCapabilities", "WriteKeyFile"),
        wanted=desired(auth_key("ltptest")),
        says="no Capability",
    ),
    Case(
        "deletionPolicy changed", KEY, MADE, FileState.RIGHT, ("ClaimKey",), wanted=RETAINED, says="deletionPolicy is Retain now"
    ),
    Case(
        "deletionPolicy changed after a kill",
        KEY,
        CLAIMED,
        FileState.ABSENT,
        ("RecordMade", "ClaimKey", "WriteKeyFile"),
        wanted=RETAINED,
    ),
    Case("key exists unclaimed", KEY, problems=(P.EXISTS,), says="choose another id, or adopt ltptest"),
    Case("key exists unclaimed, right file", KEY, None, FileState.RIGHT, problems=(P.EXISTS,), says="was not made here"),
    Case(
        "key was made anew by somebody else",
        ANOTHER,
        MADE,
        FileState.DIFFERS,
        problems=(P.EXISTS,),
        says="made anew by somebody else",
    ),
    Case("key is adopted", KEY, adopt=True, actions=("ClaimKey", "WriteKeyFile"), says="to be adopted"),
    Case("key is adopted, right file", KEY, None, FileState.RIGHT, ("ClaimKey",), adopt=True),
    Case("key made anew is adopted", ANOTHER, MADE, FileState.DIFFERS, ("ClaimKey", "WriteKeyFile"), adopt=True),
    Case("adopting what is ours is nothing", KEY, MADE, FileState.RIGHT, adopt=True),
    Case("adopting what is missing makes it", adopt=True, actions=NEW),
    Case(
        "adopting does not overwrite a file",
        KEY,
        None,
        FileState.DIFFERS,
        problems=(P.CONFLICT,),
        adopt=True,
        says="it is not overwritten",
    ),
    Case(
        "role differs",
        KeyState(Role.SERVICE, READ, 100),
        MADE,
        problems=(P.ROLE_DIFFERS,),
        says="has role service, which cannot change",
    ),
    Case("role differs and it is adopted", KeyState(Role.SERVICE, READ, 1), adopt=True, problems=(P.ROLE_DIFFERS,)),
    Case(
        "a strange file stands where a new key would go",
        None,
        None,
        FileState.FOREIGN,
        problems=(P.CONFLICT,),
        says="move it away",
    ),
    Case("another key's file stands where a new key would go", None, None, FileState.DIFFERS, problems=(P.CONFLICT,)),
    Case("file was replaced", KEY, MADE, FileState.FOREIGN, problems=(P.CONFLICT,)),
    Case(
        "file was replaced, rights go on",
        KeyState(Role.CLIENT, WRITE, 100),
        MADE,
        FileState.FOREIGN,
        ("SetCapabilities",),
        (P.CONFLICT,),
    ),
    Case(
        "id belongs to another AuthKey",
        KEY,
        ELSEWHERE,
        FileState.RIGHT,
        problems=(P.CONFLICT,),
        says="was made for AuthKey oldname",
    ),
    Case("id belongs to another AuthKey, pruning", KEY, ELSEWHERE, FileState.RIGHT, problems=(P.CONFLICT,), prune=True),
    Case("id was changed", None, OTHER_ID, problems=(P.IMMUTABLE,), says="was made with id 'oldid'"),
    Case("id was changed, pruning", None, OTHER_ID, problems=(P.IMMUTABLE,), prune=True),
    Case("secretName was changed", KEY, OTHER_FILE, problems=(P.IMMUTABLE,), says="was made as 'old.json'"),
    Case("Authnode did not tell", None, MADE, FileState.RIGHT, problems=(P.UNKNOWN,), unknown=True, says="did not tell"),
)

GONE = "AuthKey ltptest is gone; prune would "
RELEASE_CASES = (
    Case("not asked to prune", KEY, MADE, FileState.RIGHT, notices=(f"key ltptest: {GONE}delete it",)),
    Case("not asked to prune, retained", KEY, MADE_RETAIN, FileState.RIGHT, notices=(f"key ltptest: {GONE}only forget it",)),
    Case(
        "pruned",
        KEY,
        MADE,
        FileState.RIGHT,
        ("DeleteKey", "RemoveKeyFile", "Unclaim"),
        prune=True,
        says="AuthKey ltptest is gone",
    ),
    Case("pruned, stale file", KEY, MADE, FileState.STALE, ("DeleteKey", "RemoveKeyFile", "Unclaim"), prune=True),
    Case("pruned, no file", KEY, MADE, actions=("DeleteKey", "Unclaim"), prune=True),
    Case("pruned, killed after deleting", None, MADE, FileState.DIFFERS, ("RemoveKeyFile", "Unclaim"), prune=True),
    Case("pruned, claimed but never made", None, CLAIMED, actions=("Unclaim",), prune=True),
    Case("pruned, perhaps made", KEY, CLAIMED, problems=(P.EXISTS,), prune=True, says="put AuthKey ltptest back and apply once"),
    Case("pruned, retained", KEY, MADE_RETAIN, FileState.RIGHT, ("Unclaim",), prune=True, says="key and key file stay"),
    Case("pruned, adopted", KEY, ADOPTED, FileState.RIGHT, ("Unclaim",), prune=True, says="an adopted key"),
    Case(
        "pruned, made anew by somebody else",
        ANOTHER,
        MADE,
        FileState.DIFFERS,
        ("RemoveKeyFile", "Unclaim"),
        prune=True,
        notices=("key ltptest: made anew by somebody else, so it stays at the Authnode",),
    ),
    Case(
        "pruned, made anew and handed out by somebody else",
        ANOTHER,
        MADE,
        FileState.RIGHT,
        ("Unclaim",),
        prune=True,
        notices=("key ltptest: made anew by somebody else, so it stays at the Authnode",),
    ),
    Case(
        "pruned, file was replaced",
        KEY,
        MADE,
        FileState.FOREIGN,
        ("DeleteKey", "Unclaim"),
        prune=True,
        notices=(f"file {FILE}: does not hold the key that was written there, so it stays",),
    ),
    Case("pruned, Authnode did not tell", None, MADE, FileState.RIGHT, problems=(P.UNKNOWN,), prune=True, unknown=True),
)


def decide_case(case: Case, wanted: Desired) -> Decision:
    claims = Claims("", (case.claim,) if case.claim else ())
    observed = Observed(
        keys={"ltptest": case.key} if case.key else {},
        listed=not case.unknown,
        files={("ltptest", FILE): case.file},
    )
    return decide(wanted, observed, claims, prune=case.prune, adopt=frozenset({"ltptest"} if case.adopt else ()))


@pytest.mark.parametrize("case", WANTED_CASES, ids=lambda case: case.fact)
def test_a_key_that_is_wanted(case: Case) -> None:
    check(case, decide_case(case, case.wanted))


@pytest.mark.parametrize("case", RELEASE_CASES, ids=lambda case: case.fact)
def test_a_key_whose_authkey_is_gone(case: Case) -> None:
    check(case, decide_case(case, NOTHING))


def check(case: Case, decision: Decision) -> None:
    assert names(decision.actions) == case.actions
    assert tuple(problem.reason for problem in decision.problems) == case.problems
    assert tuple(str(notice) for notice in decision.notices) == case.notices
    said = " ".join([*(action.reason for action in decision.actions), *(str(problem) for problem in decision.problems)])
    assert case.says in said


def names(actions: tuple[Action, ...]) -> tuple[str, ...]:
    return tuple(type(action).__name__ for action in actions)


def test_a_new_key_is_made_with_its_role_and_rights() -> None:
    wanted = desired(
        auth_key("datanode", id="DatanodeService", role="service"), capability("c", "datanode", api=["master:*:access"])
    )
    actions = World().decide(wanted).actions
    assert (
        CreateKey("DatanodeService", Role.SERVICE, Capabilities(("master:*:access",)), "the Authnode has no such key") in actions
    )


def test_a_made_key_that_was_not_journalled_is_journalled_with_what_the_authnode_says() -> None:
    decision = decide_case(Case("", KEY, CLAIMED), WANTED)
    made = next(action for action in decision.actions if isinstance(action, RecordMade))
    assert made.create_ts == KEY.create_ts


def test_a_change_of_capabilities_tells_what_comes_and_what_goes() -> None:
    decision = decide_case(Case("", KeyState(Role.CLIENT, WRITE, 100), MADE, FileState.RIGHT), WANTED)
    change = next(action for action in decision.actions if isinstance(action, SetCapabilities))
    assert (change.added, change.removed) == (READ, WRITE)
    assert change.summary == "set capabilities of ltptest: +data:read:access -data:write:access"


def test_the_order_in_which_the_authnode_holds_capabilities_means_nothing() -> None:
    wanted = desired(auth_key("ltptest"), capability("c", "ltptest", api=["data:read:access", "data:write:access"]))
    held = KeyState(Role.CLIENT, WRITE.union(READ), 100)
    assert decide_case(Case("", held, MADE, FileState.RIGHT), wanted).actions == ()


def test_deletions_come_first_then_new_keys_then_changes_then_files() -> None:
    world = World()
    world.run(desired(auth_key("gone"), auth_key("changed"), auth_key("lost")))
    del world.files["lost-authkey.json"]
    wanted = desired(auth_key("changed"), auth_key("lost"), auth_key("new"), capability("c", "changed", api=["data:read:access"]))
    order = list(dict.fromkeys(getattr(action, "id", "") for action in world.decide(wanted, prune=True).actions))
    assert order == ["gone", "new", "changed", "lost"]


def test_a_problem_with_one_key_does_not_stop_another() -> None:
    world = World()
    world.make("theirs")
    decision = world.run(desired(auth_key("theirs"), auth_key("ours")))
    assert [problem.id for problem in decision.problems] == ["theirs"]
    assert list(world.files) == ["ours-authkey.json"]


def test_a_problem_is_one_line_that_names_the_manifest_and_the_field() -> None:
    (problem,) = decide_case(Case("", KEY), WANTED).problems
    assert str(problem) == (
        "AuthKey-ltptest.yaml: spec.id: 'ltptest' exists at the Authnode and was not made here; "
        "choose another id, or adopt ltptest to take it over"
    )


def test_another_keystore_stops_everything() -> None:
    """All keys are missing there; making them anew would overwrite every file with a key that is good at the wrong place."""
    world = World(keystore="ks-1")
    world.run(WANTED)
    world.keystore, world.keys = "ks-2", {}
    decision = world.decide(WANTED, prune=True)
    assert decision.actions == ()
    assert [problem.reason for problem in decision.problems] == [P.CLUSTER_CHANGED]
    assert "keystore ks-1" in str(decision.problems[0])


def test_an_authnode_that_tells_no_keystore_is_not_the_one_that_told_it() -> None:
    world = World()
    world.run(WANTED)
    world.stock = True
    assert [problem.reason for problem in world.decide(WANTED).problems] == [P.CLUSTER_CHANGED]


def test_the_keystore_is_journalled_first_and_once() -> None:
    world = World()
    assert names(world.decide(WANTED).actions)[0] == "RecordKeystore"
    assert names(world.decide(NOTHING).actions) == ()
    world.run(WANTED)
    assert world.claims.keystore == "ks-1"


def test_adopting_what_nobody_wants_is_told() -> None:
    notices = World().decide(NOTHING, adopt=["stranger"]).notices
    assert [str(notice) for notice in notices] == ["adopt stranger: no AuthKey has this id"]


def test_without_a_list_only_an_id_that_was_asked_for_is_known_to_be_absent() -> None:
    observed = Observed(keys={}, listed=False, absent=frozenset({"asked"}))
    decision = decide(desired(auth_key("asked"), auth_key("unasked")), observed, Claims())
    assert [problem.id for problem in decision.problems] == ["unasked"]
    assert {getattr(action, "id", "") for action in decision.actions} == {"asked"}


def test_what_a_caller_has_to_look_at_is_what_is_wanted_and_what_is_claimed() -> None:
    assert watched(WANTED, Claims("", (OTHER_ID,))) == (("ltptest", FILE), ("oldid", FILE))


def test_two_keys_that_used_one_file_one_after_the_other() -> None:
    world = World()
    world.run(desired(auth_key("first", secretName="shared")))
    second = desired(auth_key("second", secretName="shared"))
    assert [problem.reason for problem in world.run(second, prune=True).problems] == [P.CONFLICT]
    assert world.run(second, prune=True).problems == ()
    assert world.file_state("second", "shared.json") is FileState.RIGHT


def test_every_action_has_a_line_for_people_and_a_reason() -> None:
    world = World()
    first = world.run(WANTED)
    changed = desired(auth_key("ltptest", deletionPolicy="Retain"), auth_key("other"))
    second = world.run(changed)
    third = world.run(NOTHING, prune=True)
    lines = [action.summary for decision in (first, second, third) for action in decision.actions]
    assert lines == [
        "journal keystore ks-1",
        "journal ltptest as claimed for AuthKey ltptest",
        "create key ltptest, role client, 1 capability",
        "journal ltptest as made",
        "write key file ltptest-authkey.json",
        "journal other as claimed for AuthKey other",
        "create key other, role client, 0 capabilities",
        "journal other as made",
        "write key file other-authkey.json",
        "journal ltptest as made for AuthKey ltptest",
        "set capabilities of ltptest: -data:read:access",
        "write key file ltptest-authkey.json",
        "drop ltptest from the journal",
        "delete key other",
        "remove key file other-authkey.json",
        "drop other from the journal",
    ]
    assert all(action.reason for decision in (first, second, third) for action in decision.actions)


HELD = KeyFile("ltptest", SecretBytes(b"k" * 32), "A" * 16, SecretBytes(b"s" * 32), 100, "client", READ.to_json())
STALE = KeyFile("ltptest", SecretBytes(b"k" * 32), "A" * 16, SecretBytes(b"s" * 32), 100, "client", WRITE.to_json())
OTHER = KeyFile("ltptest", SecretBytes(b"o" * 32), "A" * 16, SecretBytes(b"s" * 32), 100, "client", READ.to_json())
STRANGER = KeyFile("stranger", SecretBytes(b"k" * 32), "A" * 16, SecretBytes(b"s" * 32), 100, "client", READ.to_json())


@pytest.mark.parametrize(
    ("text", "held", "state"),
    [
        (HELD.to_json(), HELD, FileState.RIGHT),
        (STALE.to_json(), HELD, FileState.STALE),
        (OTHER.to_json(), HELD, FileState.DIFFERS),
        (HELD.to_json(), None, FileState.DIFFERS),
        (STRANGER.to_json(), HELD, FileState.FOREIGN),
        ("no key file", HELD, FileState.FOREIGN),
        ("", None, FileState.FOREIGN),
    ],
)
def test_how_a_file_compares_with_the_authnode(text: str, held: KeyFile | None, state: FileState) -> None:
    assert judge_file(text.encode(), "ltptest", held) is state

"""Whatever happens between two writes, the next runs end where an undisturbed one ends, with each key made once."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.resource_world import Killed, World, auth_key, capability, desired

from cubeauth.caps import Capabilities
from cubeauth_resources.manifests import Desired, Document, collect

NAMES = ("alpha", "bravo", "charlie", "delta")
GRANTS = ("data:read:access", "data:write:access", "master:getvol:access")

Kills = st.lists(st.integers(0, 12), max_size=6)


def _role(name: str) -> str:
    """One role a name in every version, since it is immutable."""
    return "service" if name == "delta" else "client"


@st.composite
def manifests(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A folder: some AuthKeys, and Capabilities that bind some of them."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    keys = [auth_key(name, role=_role(name), deletionPolicy=draw(st.sampled_from(["Delete", "Retain"]))) for name in names]
    subjects = st.lists(st.sampled_from(names), unique=True, min_size=1) if names else st.nothing()
    grants = [
        capability(f"cap{i}", *draw(subjects), api=draw(st.lists(st.sampled_from(GRANTS), unique=True)))
        for i in range(draw(st.integers(0, 2)) if names else 0)
    ]
    return [*keys, *grants]


Folders = manifests().map(lambda documents: desired(*documents))


@given(Folders, st.booleans(), Kills)
def test_killed_after_any_write_it_ends_where_an_undisturbed_run_ends(wanted: Desired, stock: bool, kills: list[int]) -> None:
    killed, undisturbed = World(stock=stock), World(stock=stock)
    killed.survive(wanted, kills=kills)
    undisturbed.run(wanted)
    assert killed.outcome() == undisturbed.outcome()
    assert dict(killed.minted) == {key.key.id: 1 for key in wanted.keys}


def test_every_single_place_to_be_killed_in() -> None:
    """The same without chance: two keys, killed at each write, and at each write of the run after that."""
    wanted = desired(auth_key("alpha"), auth_key("bravo", role="service"), capability("cap", "alpha", api=["data:read:access"]))
    undisturbed = World()
    undisturbed.run(wanted)
    for kills in itertools.product(range(10), repeat=2):
        killed = World()
        killed.survive(wanted, kills=kills)
        assert killed.outcome() == undisturbed.outcome(), kills
        assert killed.minted == {"alpha": 1, "bravo": 1}, kills


@given(Folders, Folders, st.booleans(), Kills, Kills)
def test_changing_and_pruning_survives_kills_too(
    first: Desired, second: Desired, stock: bool, early: list[int], late: list[int]
) -> None:
    """Keys that come back after Retain are the one thing that must not be made again: they exist, and stay until adopted."""
    killed, undisturbed = World(stock=stock), World(stock=stock)
    for world, kills in ((killed, early), (undisturbed, [])):
        world.survive(first, kills=kills)
        world.survive(second, prune=True, kills=late if kills is early else [])
    assert killed.outcome() == undisturbed.outcome()
    assert max(killed.minted.values(), default=0) <= 1
    assert killed.decide(second, prune=True).actions == ()


@given(Folders, Folders, Kills)
def test_killed_while_making_it_and_pruned_in_the_next_run_nothing_unproven_is_deleted(
    first: Desired, second: Desired, kills: list[int]
) -> None:
    """The world's own rules say so at each write. What cannot be proven is told, and putting the AuthKey back heals it."""
    world = World()
    for writes in kills:
        world.survive(second, prune=True)
        with contextlib.suppress(Killed):
            world.run(first, writes=writes)
        decision = world.run(second, prune=True)
        for problem in decision.problems:
            assert problem.id in world.keys
    world.run(first)
    assert world.run(second, prune=True).problems == ()


@given(Folders, Folders, st.integers(0, 12))
def test_a_folder_that_changes_after_a_kill_is_done_in_one_run(first: Desired, second: Desired, writes: int) -> None:
    world = World()
    with contextlib.suppress(Killed):
        world.run(first, writes=writes)
    world.run(second)
    assert world.decide(second).actions == ()
    assert max(world.minted.values(), default=0) <= 1


@pytest.mark.parametrize("writes", range(6))
def test_a_policy_that_changes_after_a_kill_is_journalled_with_the_key(writes: int) -> None:
    world = World()
    with contextlib.suppress(Killed):
        world.run(desired(auth_key("alpha")), writes=writes)
    retained = desired(auth_key("alpha", deletionPolicy="Retain"))
    world.run(retained)
    assert world.decide(retained).actions == ()
    assert world.claim("alpha").retains


@given(Folders, st.booleans(), st.booleans())
def test_a_second_run_does_nothing(wanted: Desired, stock: bool, prune: bool) -> None:
    world = World(stock=stock)
    world.run(wanted, prune=prune)
    assert world.decide(wanted, prune=prune).actions == ()


Disturbances = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["delete", "grant", "revoke", "lose file", "spoil file"])), max_size=5
)


@given(Folders, st.booleans(), Disturbances, Kills)
def test_what_others_did_is_repaired(wanted: Desired, stock: bool, disturbances: list[tuple[str, str]], kills: list[int]) -> None:
    world, undisturbed = World(stock=stock), World(stock=stock)
    world.run(wanted)
    undisturbed.run(wanted)
    for name, what in disturbances:
        disturb(world, name, what)
    world.survive(wanted, kills=kills)
    assert world.outcome() == undisturbed.outcome()
    assert world.decide(wanted).actions == ()


def disturb(world: World, name: str, what: str) -> None:
    """Something that an administrator may do behind our back; nothing where there is no such key."""
    if name not in world.keys:
        return
    file = f"{name}-authkey.json"
    if what == "delete":
        del world.keys[name]
    elif what == "grant":
        world.edit(name, Capabilities(("*:*:*",)))
    elif what == "revoke":
        world.edit(name, Capabilities())
    elif what == "lose file":
        world.files.pop(file, None)
    else:
        other = World().make(name)
        world.files[file] = other.record.to_json().encode()


@given(Folders, Folders, st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), Kills)
def test_a_key_of_somebody_else_is_left_alone_until_it_is_adopted(
    first: Desired, second: Desired, foreign: set[str], adopt: set[str], kills: list[int]
) -> None:
    world = World()
    theirs = {name: world.make(name, _role(name), Capabilities(("auth:getkey:access",))) for name in sorted(foreign)}
    world.survive(first, prune=True, adopt=adopt, kills=kills)
    world.survive(second, prune=True, adopt=adopt, kills=kills)
    for name, key in theirs.items():
        assert world.keys[name].serial == key.serial, "an adopted key is treated as Retain"
        if name not in adopt:
            assert world.keys[name] == key
            assert f"{name}-authkey.json" not in world.files


@given(manifests(), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(documents: list[dict[str, Any]], chance: Any) -> None:
    sourced = [Document(document, f"file-{number}.yaml") for number, document in enumerate(documents)]
    shuffled = list(sourced)
    chance.shuffle(shuffled)
    assert collect(sourced) == collect(shuffled)
    assert World().decide(collect(sourced)) == World().decide(collect(shuffled))

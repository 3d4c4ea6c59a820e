"""`cubeauth apply` killed with -9 between any two of its writes, and run again: it converges, and nothing is made twice.

A proxy in front of the real Authnode kills the process when its n-th request arrives (the Authnode never sees it; what was
written before it on disk stays), or when the n-th has been carried out (its reply is lost); n walks over all requests of a run.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.applying import JOURNAL, Site, start
from tests.support.authnode import Authnode, running_authnode
from tests.support.front import Drop, Front, front_of
from tests.support.resource_world import auth_key, capability

from cubeauth.keys import parse_key_file

READ, WRITE = "data:read:access", "data:write:access"
MOMENTS = ("before", "after")


@pytest.fixture(scope="module")
def authnode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authnode]:
    with running_authnode(tmp_path_factory.mktemp("authnode")) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["ours", "stock"])
def front(request: pytest.FixtureRequest, authnode: Authnode) -> Iterator[Front]:
    with front_of(authnode.endpoint, stock=request.param) as running:
        yield running


def killed(site: Site, front: Front, moment: str, number: int, *more: str) -> bool:
    """One run that is killed around its request of this number; False where it ended before."""
    front.paths.clear()
    process = start(*site.argv(*more))

    def kill(now: int, _path: str) -> None:
        if now == number:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if now >= number:
            raise Drop

    setattr(front, moment, kill)
    out, err = process.communicate(timeout=60)
    front.settle()
    setattr(front, moment, lambda _number, _path: None)
    assert b"Traceback" not in out + err
    return process.returncode == -signal.SIGKILL


def wanted(site: Site, name: str) -> None:
    """Three keys, one bound twice."""
    keys = [auth_key(f"{name}{each}", labels={"team": "x"}) for each in "abc"]
    rights = [capability("all", selector={"matchLabels": {"team": "x"}}, api=[READ]), capability("a", f"{name}a", api=[WRITE])]
    site.write("keys.yaml", *keys)
    site.write("rights.yaml", *rights)


def changed(site: Site, name: str) -> None:
    """a holds less and more, b is gone, c is as it was, d is new."""
    keys = [auth_key(f"{name}{each}", labels={"team": "x"}) for each in "acd"]
    rights = [
        capability("all", selector={"matchLabels": {"team": "x"}}, api=[READ]),
        capability("a", f"{name}a", ownerVol=["master:vol1:*"]),
    ]
    site.write("keys.yaml", *keys)
    site.write("rights.yaml", *rights)


def assert_converged(site: Site, ids: set[str]) -> None:
    """One key of each id, its file right, the journal true, nothing unfinished left."""
    assert site.names() == {JOURNAL, *(f"{principal}-authkey.json" for principal in ids)}
    made = {claim.id: claim.create_ts for claim in site.claims.entries}
    assert set(made) == ids
    for principal in ids:
        held = site.held(principal)
        assert site.key_file(principal) == held
        assert made[principal] == held.create_ts


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_keys_are_made(authnode: Authnode, front: Front, tmp_path: Path, moment: str) -> None:
    number, was_killed = 0, True
    while was_killed:
        number += 1
        name = f"{'stock' if front.stock else 'ours'}{moment}{number}"
        site = Site(authnode, tmp_path / name, front.address)
        wanted(site, name)
        before = site.sequence
        was_killed = killed(site, front, moment, number)
        site.applied()
        assert_converged(site, {f"{name}{each}" for each in "abc"})
        assert site.sequence == before + 3, f"killed {moment} request {number}: a key was made twice"
        assert site.applied() == "nothing to do: 3 keys are as wanted\n"
    assert number > 8, "fewer requests than a run has"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_keys_are_changed_and_pruned(authnode: Authnode, front: Front, tmp_path: Path, moment: str) -> None:
    number, was_killed = 0, True
    while was_killed:
        number += 1
        name = f"{'s' if front.stock else 'o'}ch{moment}{number}"
        site = Site(authnode, tmp_path / name, front.address)
        wanted(site, name)
        site.applied()
        changed(site, name)
        before, leaver = site.sequence, site.key_file(f"{name}b")
        was_killed = killed(site, front, moment, number, "--prune")
        site.applied("--prune")
        assert_converged(site, {f"{name}{each}" for each in "acd"})
        # One deleted, one made, and capabilities changed: at once at ours, by taking away and adding at stock's.
        assert site.sequence == before + (4 if front.stock else 3), f"killed {moment} request {number}: something was done twice"
        assert site.applied("--prune") == "nothing to do: 3 keys are as wanted\n"
        assert leaver.id not in {claim.id for claim in site.claims.entries}
    assert number > 8, "fewer requests than a run has"


def test_what_a_killed_write_left_behind_is_cleared_away(authnode: Authnode, tmp_path: Path) -> None:
    """It may hold a key. What only looks like it, of a name that is not ours, stays."""
    site = Site(authnode, tmp_path / "site")
    site.write("a.yaml", auth_key("leftover"))
    site.applied()
    text = (site.keys / "leftover-authkey.json").read_text()
    unfinished = [site.keys / f".{name}.abcd1234" for name in ("leftover-authkey.json", JOURNAL)]
    foreign = site.keys / ".somebody.abcd1234"
    for path in (*unfinished, foreign):
        path.write_text(text)
    site.applied()
    assert not any(path.exists() for path in unfinished)
    assert parse_key_file(foreign.read_text()).id == "leftover"

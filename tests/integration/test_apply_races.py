"""Between apply's look and its deed somebody else was there: the Authnode behind a proxy that lets the test act just then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.applying import Site
from tests.support.authnode import running_authnode
from tests.support.front import Drop, Front, front_of
from tests.support.resource_world import auth_key

from cubeauth.keys import KeyFile
from cubeauth_resources.claims import ClaimState

READ = "data:read:access"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_authnode(tmp_path / "authnode") as authnode:
        yield Site(authnode, tmp_path / "site")


def once_before(front: Front, path: str, deed: Callable[[], object], *, nth: int = 1) -> None:
    """Do it when the first request for `path` arrives, or the nth, before the Authnode sees that."""
    came: list[str] = []

    def before(_number: int, asked: str) -> None:
        if asked == path:
            came.append(asked)
            if len(came) == nth:
                deed()

    front.before = before


def make_anew(site: Site, principal: str) -> KeyFile:
    grant = site.authnode.admin_grant()
    site.authnode.admin(grant, "deletekey", {"id": principal})
    return site.authnode.create(grant, principal, "client", READ)


def make(site: Site, principal: str) -> KeyFile:
    return site.authnode.create(site.authnode.admin_grant(), principal, "client", READ)


def test_somebody_was_faster_and_keeps_the_key(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    with front_of(site.authnode.endpoint) as front:
        site.address = front.address
        once_before(front, "/admin/createkey", lambda: make(site, "alice"))
        line = site.apply().err
        assert "create key alice, role client, 0 capabilities: " in line
        assert "key alice exists" in line
        assert site.claims.entries == ()
        theirs = site.held("alice")
        assert "exists at the Authnode and was not made here" in site.apply().line()
    assert site.held("alice") == theirs
    assert not (site.keys / "alice-authkey.json").exists()


def test_of_a_key_that_was_lost_and_made_anew_by_a_faster_one_the_journal_knows_what_was_ours(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    site.applied()
    ours = site.claims
    site.authnode.admin(site.authnode.admin_grant(), "deletekey", {"id": "alice"})
    with front_of(site.authnode.endpoint) as front:
        site.address = front.address
        once_before(front, "/admin/createkey", lambda: make(site, "alice"))
        assert "key alice exists" in site.apply().err
    assert site.claims == ours


def test_a_key_made_anew_before_it_was_read_is_not_written_to_a_file(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    with front_of(site.authnode.endpoint) as front:
        site.address = front.address
        once_before(front, "/admin/getkey", lambda: make_anew(site, "alice"))
        assert "'alice' was deleted or made anew by somebody else meanwhile" in site.apply().err
    assert not (site.keys / "alice-authkey.json").exists()


def test_a_key_made_anew_before_it_was_deleted_stays(site: Site) -> None:
    leaving = site.write("a.yaml", auth_key("alice"))
    site.write("b.yaml", auth_key("bob"))
    site.applied()
    leaving.unlink()
    (site.keys / "alice-authkey.json").unlink()  # so that the only getkey of alice is the one before its deletion
    with front_of(site.authnode.endpoint) as front:
        site.address = front.address
        once_before(front, "/admin/getkey", lambda: make_anew(site, "alice"), nth=2)  # the first compares bob's file
        assert "delete key alice: 'alice' was deleted or made anew by somebody else meanwhile" in site.apply("--prune").err
    assert "data:read:access" in site.held("alice").caps
    assert site.claims.of("alice") is not None


def test_a_key_that_is_gone_before_it_was_deleted_is_as_good_as_deleted(site: Site) -> None:
    leaving = site.write("a.yaml", auth_key("alice"))
    site.write("b.yaml", auth_key("bob"))
    site.applied()
    leaving.unlink()
    with front_of(site.authnode.endpoint) as front:
        site.address = front.address
        once_before(
            front,
            "/admin/deletekey",
            lambda: site.authnode.admin(site.authnode.admin_grant(), "deletekey", {"id": "alice"}),
        )
        assert site.applied("--prune").splitlines()[-1] == "1 key deleted, 1 key file removed"
    assert site.claims.of("alice") is None


def test_a_createkey_whose_reply_was_lost_is_found_by_the_next_run(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    before = site.sequence
    with front_of(site.authnode.endpoint) as front:

        def lose(_number: int, path: str) -> None:
            if path == "/admin/createkey":
                raise Drop

        front.after = lose
        site.address = front.address
        ran = site.apply()
        site.address = site.authnode.endpoint
    assert ran.status == 1
    assert "may have been carried out all the same" in ran.err
    (claim,) = site.claims.entries
    assert claim.state is ClaimState.CLAIMED
    said = site.applied()
    assert "write key file alice-authkey.json" in said
    assert site.key_file("alice") == site.held("alice")
    assert site.sequence == before + 1

"""`cubeauth apply` against a stock Authnode's behaviour: no list, no keystore id, capabilities by delete and add.

The Authnode is ours behind a proxy that answers as cfs-server's does where a client can feel it (tests/support/front.py says what
of it), or, for what only a stock store can hold, the fake one of tests/support/fake_authnode.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import fake_authnode as fakes
from tests.support.applying import Site, run, tree
from tests.support.authnode import running_authnode
from tests.support.command_line import CommandLine
from tests.support.fake_authnode import FakeAuthnode
from tests.support.front import front_of
from tests.support.resource_world import auth_key, capability

from cubeauth import entropy, ids
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
READ, WRITE = "data:read:access", "data:write:access"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_authnode(tmp_path / "authnode") as authnode, front_of(authnode.endpoint, stock=True) as stock:
        yield Site(authnode, tmp_path / "site", stock.address)


def test_the_examples_are_applied_and_applied_again(site: Site) -> None:
    shutil.copytree(EXAMPLES, site.manifests, dirs_exist_ok=True)
    assert site.applied().splitlines()[-1] == "5 keys made, 5 key files written"
    before, sequence = tree(site.folder), site.sequence
    assert site.applied() == "nothing to do: 5 keys are as wanted\n"
    assert (tree(site.folder), site.sequence) == (before, sequence)
    assert site.claims.keystore == ""
    (site.manifests / "40-leaver.yaml").unlink()
    assert site.applied("--prune").splitlines()[-1] == "1 key deleted, 1 key file removed"


def test_capabilities_are_taken_away_and_added(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"), capability("c", "alice", api=[READ, WRITE]))
    site.applied()
    sequence = site.sequence
    site.write("a.yaml", auth_key("alice"), capability("c", "alice", api=[READ], ownerVol=["master:vol1:*"]))
    site.applied()
    assert json.loads(site.held("alice").caps) == {"API": [READ], "OwnerVOL": ["master:vol1:*"], "NoneOwnerVOL": []}
    assert site.sequence == sequence + 2
    assert site.key_file("alice") == site.held("alice")


def test_a_key_that_somebody_else_made_is_told_by_its_create_ts(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    site.applied()
    grant = site.authnode.admin_grant()
    site.authnode.admin(grant, "deletekey", {"id": "alice"})
    site.authnode.create(grant, "alice", "client", READ)
    assert "was deleted at the Authnode and made anew by somebody else" in site.apply().line()


def test_a_wrong_admin_key_is_a_dropped_connection_and_said_to_be(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    wrong = site.folder / "wrong.json"
    wrong.write_text(KeyFile(ids.AUTH_SERVICE, SecretBytes(entropy.system(32))).to_json())
    line = run(*site.argv("--admin-key", wrong)).line()
    assert "closed without a reply, which is how a stock Authnode answers a wrong key" in line


def test_a_folder_of_ours_is_not_applied_to_a_stock_authnode(site: Site) -> None:
    """Its keys are not there: it would make all of them and overwrite every file."""
    site.write("a.yaml", auth_key("alice"))
    through, site.address = site.address, site.authnode.endpoint
    site.applied()
    before = tree(site.folder)
    site.address = through
    assert "this Authnode has no keystore id to tell" in site.apply().line()
    assert tree(site.folder) == before


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


async def test_what_only_a_stock_store_can_hold_stops_that_key_alone(command_line: CommandLine, tmp_path: Path) -> None:
    fake = FakeAuthnode(entropy.system(32), stock=True)
    odd = fake.add(fakes.record("alice", capabilities='{"API":["not a capability"]}'))
    await fake.start()
    admin = tmp_path / "admin.json"
    admin.write_text(KeyFile(ids.AUTH_SERVICE, SecretBytes(fake.service_key)).to_json())
    for wanted in ("alice", "bob"):
        (tmp_path / f"{wanted}.json").write_text(json.dumps(auth_key(wanted)))
    argv = ["-f", str(tmp_path / "alice.json"), "-f", str(tmp_path / "bob.json"), "--authnode", fake.address]
    ran = await command_line.run("apply", *argv, "--admin-key", str(admin), "--keys", str(tmp_path / "keys"))
    await fake.stop()
    assert ran.status == 1
    assert ran.err.count("\n") == 1
    assert "did not tell whether it has 'alice' in a way that is understood here: caps.API: 'not a capability' is no" in ran.err
    assert ran.out.splitlines()[-1] == "1 key made, 1 key file written; left undone: 1"
    assert fake.principals["alice"] is odd

"""`cubeauth apply` against a real Authnode: what it makes, changes, deletes and leaves alone, and that it says so."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.applying import JOURNAL, Site, run, start, tree
from tests.support.authnode import Authnode, encoded_caps, running_authnode
from tests.support.front import front_of, refused_address
from tests.support.resource_world import auth_key, capability
from tests.support.waiting import wait_for

from cubeauth import ids
from cubeauth.errors import ServerRefused
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes
from cubeauth_resources.claims import ClaimState

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
READ, WRITE = "data:read:access", "data:write:access"


@pytest.fixture(scope="module")
def authnode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authnode]:
    with running_authnode(tmp_path_factory.mktemp("authnode")) as running:
        yield running


@pytest.fixture
def site(authnode: Authnode, tmp_path: Path) -> Iterator[Site]:
    """An Authnode without keys."""
    yield Site(authnode, tmp_path / "site")
    grant = authnode.admin_grant()
    for listed in authnode.admin(grant, "listkeys", {"after": "", "limit": 1000})["keys"]:
        authnode.admin(grant, "deletekey", {"id": listed["id"]})


def test_the_examples_become_keys_and_key_files(site: Site) -> None:
    shutil.copytree(EXAMPLES, site.manifests, dirs_exist_ok=True)
    before = site.sequence
    said = site.applied()
    assert said.splitlines()[-1] == "5 keys made, 5 key files written"
    assert "create key ltptest, role client, 4 capabilities (the Authnode has no such key)" in said
    assert "write key file ltptest-authkey.json (there is no key file)" in said
    assert site.key_file("ltptest") == site.held("ltptest")
    assert site.authnode.ticket(site.key_file("ltptest"), "DatanodeService").client_id == "ltptest"
    assert site.sequence == before + 5
    assert oct(site.keys.stat().st_mode)[-3:] == "700"


def test_a_second_run_does_nothing(site: Site) -> None:
    shutil.copytree(EXAMPLES, site.manifests, dirs_exist_ok=True)
    site.applied()
    folders, sequence = tree(site.folder), site.sequence
    assert site.applied() == "nothing to do: 5 keys are as wanted\n"
    assert tree(site.folder) == folders
    assert site.sequence == sequence


def test_a_dry_run_writes_nothing_anywhere(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"), auth_key("bob"))
    before, sequence = tree(site.folder), site.sequence
    said = site.applied("--dry-run")
    assert "would create key alice, role client, 0 capabilities (the Authnode has no such key)" in said
    assert said.splitlines()[-1] == "dry run, nothing was done; it would be: 2 keys made, 2 key files written"
    assert not site.keys.exists()
    site.applied()
    site.write("a.yaml", auth_key("alice"), capability("c", "alice", api=[READ]))
    before, sequence = tree(site.folder), site.sequence
    said = site.applied("--dry-run", "--prune")
    for line in ("would delete key bob", "would remove key file bob-authkey.json", "would set capabilities of alice"):
        assert line in said
    assert (tree(site.folder), site.sequence) == (before, sequence)


def test_capabilities_follow_the_manifests_both_ways(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"), capability("c", "alice", api=[READ, WRITE], ownerVol=["master:vol1:*"]))
    site.applied()
    by_hand = {"id": "alice", "caps": encoded_caps("data:all:access")}
    site.authnode.admin(site.authnode.admin_grant(), "addcaps", by_hand)
    site.write("a.yaml", auth_key("alice"), capability("c", "alice", api=[READ], ownerVol=["master:vol1:*"]))
    said = site.applied()
    assert f"set capabilities of alice: -{WRITE} -data:all:access (it holds what Capability c grants, nothing else)" in said
    assert said.splitlines()[-1] == "1 key changed, 1 key file written"
    assert json.loads(site.held("alice").caps) == {"API": [READ], "OwnerVOL": ["master:vol1:*"], "NoneOwnerVOL": []}
    assert site.key_file("alice") == site.held("alice")


def test_prune_deletes_only_what_was_made_here(site: Site) -> None:
    grant = site.authnode.admin_grant()
    site.authnode.create(grant, "foreign", "client", READ)
    site.write("a.yaml", auth_key("stays"), auth_key("kept", deletionPolicy="Retain"))
    leaving = site.write("b.yaml", auth_key("leaver"))
    site.applied()
    (site.keys / "notes.json").write_text("somebody's")
    old = site.key_file("leaver")
    leaving.unlink()
    site.write("a.yaml", auth_key("stays"))
    said = site.apply()
    assert (said.status, said.out) == (0, "nothing to do: 1 key is as wanted\n")
    assert said.err.splitlines() == [
        "cubeauth: note: key kept: AuthKey kept is gone; prune would only forget it",
        "cubeauth: note: key leaver: AuthKey leaver is gone; prune would delete it",
    ]
    told = site.applied("--prune")
    assert "delete key leaver (AuthKey leaver is gone; deletionPolicy Delete)" in told
    assert "drop kept from the journal (AuthKey kept is gone; deletionPolicy Retain: key and key file stay)" in told
    assert {claim.id for claim in site.claims.entries} == {"stays"}
    assert site.names() == {JOURNAL, "stays-authkey.json", "kept-authkey.json", "notes.json"}
    assert site.held("foreign").id == "foreign"
    assert site.held("kept").id == "kept"
    with pytest.raises(ServerRefused):
        site.authnode.ticket(old, "AuthService")


def test_a_key_that_was_there_is_left_alone_until_it_is_adopted(site: Site) -> None:
    theirs = site.authnode.create(site.authnode.admin_grant(), "alice", "client", READ)
    manifest = site.write("a.yaml", auth_key("alice"), auth_key("bob"))
    ran = site.apply()
    assert ran.status == 1
    assert ran.err.splitlines() == [
        f"cubeauth: error: {manifest}:1: spec.id: 'alice' exists at the Authnode and was not made here; choose another id, or "
        "adopt alice to take it over"
    ]
    assert ran.out.splitlines()[-1] == "1 key made, 1 key file written; left undone: 1"
    assert not (site.keys / "alice-authkey.json").exists()
    said = site.applied("--adopt", "alice")
    assert "journal alice as adopted" in said
    assert site.key_file("alice").auth_key == theirs.auth_key
    manifest.unlink()
    site.write("b.yaml", auth_key("bob"))
    site.applied("--prune")
    assert site.held("alice").auth_key == theirs.auth_key


def test_a_key_deleted_behind_its_back_is_made_anew(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    site.applied()
    old = site.key_file("alice")
    site.authnode.admin(site.authnode.admin_grant(), "deletekey", {"id": "alice"})
    said = site.applied()
    assert "it was deleted at the Authnode by somebody else and is still wanted" in said
    new = site.key_file("alice")
    assert new == site.held("alice")
    assert new.auth_key != old.auth_key
    assert new.create_ts > old.create_ts


def test_a_key_made_anew_by_somebody_else_is_not_touched(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    site.applied()
    grant = site.authnode.admin_grant()
    site.authnode.admin(grant, "deletekey", {"id": "alice"})
    site.authnode.create(grant, "alice", "client", READ)
    before, sequence = tree(site.folder), site.sequence
    for more in ((), ("--prune",)):
        ran = site.apply(*more)
        assert "was deleted at the Authnode and made anew by somebody else" in ran.line()
    assert (tree(site.folder), site.sequence) == (before, sequence)


def test_a_file_that_was_not_written_here_is_untouched(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"), auth_key("bob"))
    site.keys.mkdir()
    foreign = site.keys / "alice-authkey.json"
    foreign.write_text("the only copy of something")
    ran = site.apply()
    assert ran.status == 1
    assert "spec.secretName: the file 'alice-authkey.json' is there and does not hold the key of 'alice'" in ran.err
    assert ran.err.count("\n") == 1
    assert foreign.read_text() == "the only copy of something"
    assert site.key_file("bob") == site.held("bob")
    with pytest.raises(ServerRefused, match="does not exist"):
        site.held("alice")


@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_key_file_that_was_lost_is_written_again_and_one_that_was_replaced_is_told(site: Site, content: bytes | None) -> None:
    site.write("a.yaml", auth_key("alice"))
    site.applied()
    file = site.keys / "alice-authkey.json"
    if content is None:
        file.unlink()
        assert "write key file alice-authkey.json (there is no key file)" in site.applied()
        assert site.key_file("alice") == site.held("alice")
    else:
        file.write_bytes(content)
        assert "it is not overwritten: move it away" in site.apply().err
        assert file.read_bytes() == content


def test_the_journal_tells_another_keystore_until_it_is_accepted(site: Site, tmp_path: Path) -> None:
    site.write("a.yaml", auth_key("alice"))
    site.applied()
    first = site.key_file("alice")
    with running_authnode(tmp_path / "other") as other:
        moved = Site(other, tmp_path / "moved")
        shutil.copytree(site.folder, moved.folder, dirs_exist_ok=True)
        ran = moved.apply()
        told = other.admin(other.admin_grant(), "state", {})["state"]["keystore_id"]
        assert f"and this Authnode has keystore {told}" in ran.err
        assert f"--accept-keystore {told}" in ran.err
        assert moved.key_file("alice") == first
        assert moved.apply("--accept-keystore", "0" * 32).status == 1
        moved.applied("--accept-keystore", told)
        assert moved.key_file("alice") == moved.held("alice")
        assert moved.claims.keystore == told
        assert moved.applied() == "nothing to do: 1 key is as wanted\n"


def test_two_at_once_take_turns(site: Site) -> None:
    site.write("a.yaml", *[auth_key(f"key{n}") for n in range(40)])
    site.keys.mkdir()
    before = site.sequence
    second_is_over = threading.Event()
    with front_of(site.authnode.endpoint) as front:

        def hold(_number: int, _path: str) -> None:
            second_is_over.wait(60)

        front.before = hold
        site.address = front.address
        running = start(*site.argv())
        wait_for("the first run to ask the Authnode", lambda: len(front.paths) > 0)
        second = site.apply()
        second_is_over.set()
        out, err = running.communicate(timeout=60)
        site.address = site.authnode.endpoint
    assert (running.returncode, err) == (0, b"")
    assert out.decode().splitlines()[-1] == "40 keys made, 40 key files written"
    assert "another cubeauth apply works in this folder; run this one when that has ended" in second.line()
    assert site.sequence == before + 40
    assert site.applied() == "nothing to do: 40 keys are as wanted\n"


def test_two_at_once_in_two_folders_make_one_key(site: Site, tmp_path: Path) -> None:
    """The Authnode is the judge: one makes the key, the other is told, and neither loses it."""
    twin = Site(site.authnode, tmp_path / "twin")
    for each in (site, twin):
        each.write("a.yaml", *[auth_key(f"key{n}") for n in range(40)])
    before = site.sequence
    running = [start(*each.argv()) for each in (site, twin)]
    for process in running:
        process.communicate(timeout=60)
    assert site.sequence == before + 40
    mine, theirs = ({claim.id for claim in each.claims.entries} for each in (site, twin))
    assert mine | theirs == {f"key{n}" for n in range(40)}
    assert not mine & theirs
    for each in (site, twin):
        for claim in each.claims.entries:
            assert claim.state is ClaimState.MADE
            assert each.key_file(claim.id) == site.held(claim.id)


def test_a_document_says_it_all(site: Site) -> None:
    site.authnode.create(site.authnode.admin_grant(), "taken", "client", READ)
    site.write("a.yaml", auth_key("alice"), auth_key("taken"), capability("c", selector={"matchLabels": {"no": "one"}}))
    ran = site.apply("--json")
    assert (ran.status, ran.err) == (1, "")
    document = json.loads(ran.out)
    assert [action["action"] for action in document["actions"]] == [
        "RecordKeystore",
        "ClaimKey",
        "CreateKey",
        "RecordMade",
        "WriteKeyFile",
    ]
    assert document["actions"][2]["reason"] == "the Authnode has no such key"
    assert [(problem["reason"], problem["id"], problem["field"]) for problem in document["problems"]] == [
        ("Exists", "taken", "spec.id")
    ]
    assert document["keystore"] == site.claims.keystore
    assert "binds nobody" in " ".join(notice["text"] for notice in document["notices"])
    assert (document["ok"], document["dry_run"], document["failures"], document["not_tried"]) == (False, False, [], [])


def test_manifests_from_files_folders_and_standard_input_together(site: Site, tmp_path: Path) -> None:
    site.write("a.yaml", auth_key("alice"))
    (site.manifests / "b.json").write_text(json.dumps(auth_key("bob"), indent="\t"))
    (site.manifests / "c.yml").write_text(json.dumps(auth_key("carol")))
    (site.manifests / "notes.txt").write_text("not: [a manifest")
    (site.manifests / "inside").mkdir()
    single = tmp_path / "single.manifest"
    single.write_text(json.dumps(auth_key("dave")))
    argv = [*site.argv("-f", single, "-f", site.manifests / "a.yaml", "-f", "-")]
    ran = run(*argv, stdin=f"---\n{json.dumps(auth_key('erin'))}\n---\n{json.dumps(auth_key('frank'))}\n---\n")
    assert (ran.status, ran.err) == (0, "")
    assert {claim.id for claim in site.claims.entries} == {"alice", "bob", "carol", "dave", "erin", "frank"}


def test_an_administrator_without_a_capability_is_told_which(site: Site, tmp_path: Path) -> None:
    site.write("a.yaml", auth_key("alice"))
    needed = ["auth:state:access", "auth:listkeys:access", "auth:createkey:access", "auth:getkey:access"]
    for number, missing in enumerate(needed):
        held = [each for each in needed if each != missing]
        admin = _admin(site, f"admin{number}", *held)
        ran = run(*site.argv("--admin-key", admin))
        assert ran.status == 1
        assert f"code 2: no capability {missing}" in ran.err, missing
        assert ran.err.count("\n") == 1
        if missing in needed[:2]:
            assert str(admin) in ran.err
    assert site.claims.of("alice") is not None  # made by the last one, which could not read it back
    site.applied()


def _admin(site: Site, principal: str, *api: str) -> Path:
    made: KeyFile = site.authnode.create(site.authnode.admin_grant(), principal, "client", *api)
    path = site.folder / f"{principal}.json"
    path.write_text(made.to_json())
    return path


def test_a_refused_createkey_leaves_no_claim(site: Site) -> None:
    """Else a key that somebody makes later would be taken for ours."""
    site.write("a.yaml", auth_key("alice"))
    admin = _admin(site, "reader", "auth:state:access", "auth:listkeys:access", "auth:getkey:access")
    ran = run(*site.argv("--admin-key", admin))
    assert "create key alice, role client, 0 capabilities: " in ran.err
    assert site.claims.entries == ()
    theirs = site.authnode.create(site.authnode.admin_grant(), "alice", "client", READ)
    assert "exists at the Authnode and was not made here" in site.apply().err
    assert site.held("alice").auth_key == theirs.auth_key


def test_a_wrong_admin_key_is_named(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    wrong = site.folder / "wrong.json"
    wrong.write_text(KeyFile(ids.AUTH_SERVICE, _other_key(site)).to_json())
    line = run(*site.argv("--admin-key", wrong)).line()
    assert line.startswith(f"{wrong}: the key of AuthService: http://{site.address} refused with code 2: authentication failed;")
    assert not site.keys.exists()


def _other_key(site: Site) -> SecretBytes:
    return site.authnode.create(site.authnode.admin_grant(), "other", "client").auth_key


def test_an_authnode_that_does_not_answer_ends_the_run_soon(site: Site) -> None:
    site.write("a.yaml", auth_key("alice"))
    line = run(*site.argv("--authnode", refused_address())).line()
    assert "no Authnode gave an answer that can be used" in line
    assert "cannot connect: Connection refused (3 tries)" in line
    assert not site.keys.exists()


def test_an_authnode_that_goes_away_on_the_way_leaves_the_rest_for_later(site: Site) -> None:
    site.write("a.yaml", *[auth_key(f"key{n}") for n in range(30)])
    before = site.sequence
    with front_of(site.authnode.endpoint) as front:

        def gone(number: int, path: str) -> None:
            if number > 12:
                raise OSError("gone")

        front.before = gone
        site.address = front.address
        ran = site.apply()
        site.address = site.authnode.endpoint
    assert ran.status == 1
    assert "Traceback" not in ran.err
    assert "not tried after that: " in ran.err
    assert "left undone: " in ran.out.splitlines()[-1]
    site.applied()
    assert site.sequence == before + 30
    assert all(site.key_file(f"key{n}") == site.held(f"key{n}") for n in range(30))

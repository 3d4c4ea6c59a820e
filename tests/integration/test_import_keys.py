"""`cubeauth authnode import`: a site's keys come over from a stock Authnode, and who holds one goes on with it.

The old Authnode is ours with keys that are derived as stock derives them, behind a proxy that answers as stock's does; the new
one is a second folder, and started as a person would start it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support import fake_authnode as fakes
from tests.support import vectors
from tests.support.applying import Site, run, tree
from tests.support.authnode import Authnode, prepare
from tests.support.command_line import CommandLine, Ran
from tests.support.fake_authnode import FakeAuthnode
from tests.support.front import Front, front_of
from tests.support.resource_world import auth_key, capability

from cubeauth import entropy, ids, strictjson
from cubeauth.caps import Capabilities
from cubeauth.ids import Role
from cubeauth.keys import KeyFile, derive_stock_key
from cubeauth.secret import SecretBytes
from cubeauth_authnode import app, config
from cubeauth_authnode.keystore.base import DeleteKey, ImportKey

ROOT = vectors.auth_root_key()
MADE_AT = 1_700_000_000


def stock_key(principal: str, create_ts: int, role: Role, *api: str, letters: str = "a") -> ImportKey:
    """As a stock Authnode makes it; letters: of its access key, 16 of them; "" for one made before there were access keys."""
    derived = SecretBytes(derive_stock_key(ROOT, create_ts, principal))
    secret = SecretBytes(b"s" * 32 if letters else b"")
    return ImportKey(principal, role, Capabilities(api=api), derived, letters * 16, secret, create_ts)


KEYS = (
    stock_key("MasterService", MADE_AT, Role.SERVICE, letters="M"),
    stock_key("ltptest", MADE_AT + 1, Role.CLIENT, "master:getvol:access", letters="L"),
    stock_key("veteran", MADE_AT + 2, Role.CLIENT, letters=""),
    stock_key("admin", MADE_AT + 3, Role.CLIENT, "auth:*:access", letters="A"),
)


@dataclass
class Move:
    """A site that moves from `old`, which runs, to `new`, which does not yet."""

    old: Authnode
    new: Authnode
    front: Front
    ids: Path

    def want(self, *lines: str) -> None:
        self.ids.write_text("".join(f"{line}\n" for line in lines))

    def argv(self, *more: str | Path) -> list[str | Path]:
        where: list[str | Path] = ["--from", f"http://{self.front.address}", "--admin-key", self.old.folder / "service.json"]
        return ["authnode", "import", "-c", self.new.config, *where, "--ids", self.ids, *more]

    def run(self, *more: str | Path) -> Ran:
        return run(*self.argv(*more))

    def key_file(self, key: ImportKey) -> KeyFile:
        """What its holder has."""
        return KeyFile(key.id, key.auth_key)


def fill(authnode: Authnode, *keys: ImportKey) -> None:
    with closing(app.open_keystore(config.load(authnode.config), now=MADE_AT)) as store:
        for outcome in store.apply(keys, now=MADE_AT):
            assert not isinstance(outcome, Exception)


def once_started(folder: Path) -> Authnode:
    """One that has a replay table: without, it would refuse everybody for the skew, lest it take a proof twice."""
    made = prepare(folder)
    made.start()
    made.stop()
    return made


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    old = once_started(tmp_path / "old")
    fill(old, *KEYS)
    old.start()
    try:
        new = once_started(tmp_path / "new")
        # As a site does: administrators go on with the key they have.
        (new.folder / "service.json").write_text(old.service_key_file.to_json())
        new.service_key_file = old.service_key_file
        with front_of(old.endpoint, stock=True) as front:
            made = Move(old, new, front, tmp_path / "ids.txt")
            made.want("# the site's", "MasterService", "ltptest  # the test", "", "veteran", "admin", "ltptest")
            yield made
            if new.process is not None:
                new.stop()
    finally:
        old.stop()


def test_keys_come_over_as_they_are_and_their_holders_go_on(move: Move) -> None:
    ran = move.run()
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "MasterService: imported, role service, 0 capabilities",
        "ltptest: imported, role client, 1 capability",
        "veteran: imported, role client, 0 capabilities",
        "admin: imported, role client, 1 capability",
        "imported: 4, already there: 0, refused: 0",
    ]
    move.old.stop()
    move.new.start()
    for key in KEYS:
        assert move.new.ticket(move.key_file(key), "MasterService").client_id == key.id
    told = move.new.admin(move.new.ticket(move.key_file(KEYS[3]), ids.AUTH_SERVICE), "getkey", {"id": "ltptest"})["key_info"]
    assert (told["create_ts"], told["access_key"], told["role"]) == (MADE_AT + 1, "L" * 16, "client")


def test_a_second_run_does_nothing(move: Move) -> None:
    move.run()
    before = tree(move.new.folder)
    ran = move.run()
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "imported: 0, already there: 4, refused: 0"
    assert tree(move.new.folder) == before


def test_what_differs_is_told_and_left_alone(move: Move) -> None:
    another = stock_key("ltptest", MADE_AT + 9, Role.CLIENT, letters="X")
    fill(move.new, another)
    ran = move.run()
    assert ran.status == 1
    assert ran.err.splitlines() == [
        "cubeauth: error: ltptest: is there already and differs in auth_key, access_key, create_ts, caps; it is left as it is: "
        "take it out of the list"
    ]
    assert ran.out.splitlines()[-1] == "imported: 3, already there: 0, refused: 1"
    with closing(app.open_keystore(config.load(move.new.config), now=MADE_AT)) as store:
        assert store.get("ltptest").auth_key == another.auth_key


def test_each_key_by_itself_is_taken_or_refused(move: Move) -> None:
    """One that was deleted here stays deleted; one whose access key is another's, and one that the old one has not, are told."""
    fill(move.new, stock_key("veteran", MADE_AT, Role.CLIENT, letters="V"), stock_key("thief", MADE_AT, Role.CLIENT, letters="L"))
    with closing(app.open_keystore(config.load(move.new.config), now=MADE_AT)) as store:
        store.apply([DeleteKey("veteran")], now=MADE_AT)
    move.want("MasterService", "ltptest", "veteran", "nosuch")
    ran = move.run()
    assert ran.status == 1
    assert ran.err.splitlines() == [
        "cubeauth: error: nosuch: the other Authnode has no such key; take it out of the list",
        "cubeauth: error: ltptest: ltptest: its access key is another id's already",
        "cubeauth: error: veteran: veteran was deleted here, and a key that was deleted stays so: make a new key for it",
    ]
    assert ran.out.splitlines() == [
        "MasterService: imported, role service, 0 capabilities",
        "imported: 1, already there: 0, refused: 3",
    ]


def test_a_document_says_what_became_of_each(move: Move) -> None:
    move.want("ltptest", "nosuch")
    ran = move.run("--json")
    document = json.loads(ran.out)
    assert (ran.status, ran.err) == (1, "")
    assert sorted((key["id"], key["outcome"]) for key in document["keys"]) == [("ltptest", "imported"), ("nosuch", "refused")]
    assert (document["imported"], document["refused"]) == (1, 1)


def test_nothing_is_imported_under_a_running_authnode(move: Move) -> None:
    move.new.start()
    assert "in use by process" in move.run().line()


def test_an_old_authnode_that_does_not_answer_leaves_no_store_behind(move: Move) -> None:
    move.new = prepare(move.new.folder.with_name("fresh"))
    before = tree(move.new.folder)
    move.old.stop()
    assert "no Authnode gave an answer that can be used" in move.run().line()
    assert tree(move.new.folder) == before


def test_it_comes_from_an_authnode_of_ours_too(move: Move) -> None:
    ran = move.run("--from", move.old.endpoint)
    assert ran.out.splitlines()[-1] == "imported: 4, already there: 0, refused: 0"


def test_a_key_folder_goes_on_with_the_new_authnode(move: Move, tmp_path: Path) -> None:
    """Manifests were applied to the stock one; after the import the same folder is right for ours: keys keep their create_ts."""
    site = Site(move.old, tmp_path / "site", move.front.address)
    site.write("a.yaml", auth_key("alice"), capability("c", "alice", api=["data:read:access"]))
    site.applied()
    held = site.key_file("alice")
    move.want("MasterService", "alice")
    assert move.run().status == 0
    move.new.start()
    site.authnode, site.address = move.new, move.new.endpoint
    said = site.applied()
    assert said.splitlines()[-1] == "the journal brought up to date"
    assert site.key_file("alice") == held
    assert site.applied() == "nothing to do: 1 key is as wanted\n"


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


async def test_a_key_of_the_recording_comes_over_and_what_means_nothing_of_it_is_told(
    command_line: CommandLine, tmp_path: Path
) -> None:
    """Its capabilities have a member that CubeFS never knew; the fake Authnode tells them as the recorded one did."""
    recorded = vectors.exchange("create key ltptest").granted["key_info"]
    key = strictjson.b64decode(recorded["auth_key"])
    assert key == derive_stock_key(ROOT, recorded["create_ts"], recorded["id"])
    fake = FakeAuthnode(entropy.system(32), stock=True)
    granted = strictjson.b64decode(recorded["caps"]).decode()
    fake.add(replace(fakes.record(recorded["id"], capabilities=granted, key=key), create_ts=recorded["create_ts"]))
    fake.add(fakes.record("odd", capabilities='{"API":["not a capability"]}'))
    await fake.start()
    new = prepare(tmp_path / "new")
    admin, listed = tmp_path / "admin.json", tmp_path / "ids.txt"
    admin.write_text(KeyFile(ids.AUTH_SERVICE, SecretBytes(fake.service_key)).to_json())
    listed.write_text(f"{recorded['id']}\nodd\n")
    argv = ["-c", str(new.config), "--from", fake.address, "--admin-key", str(admin), "--ids", str(listed)]
    ran = await command_line.run("authnode", "import", *argv)
    await fake.stop()
    assert ran.status == 1
    assert sorted(ran.err.splitlines()) == [
        "cubeauth: error: odd: caps.API: 'not a capability' is no capability; three parts of 1 to 20 letters, digits or *, with "
        ": between",
        "cubeauth: warning: ltptest5000: capabilities under 'Vol' mean nothing to CubeFS and stay behind",
    ]
    assert ran.out.splitlines()[0] == "ltptest5000: imported, role client, 1 capability"
    with closing(app.open_keystore(config.load(new.config), now=MADE_AT)) as store:
        assert store.get(recorded["id"]).auth_key.reveal() == key

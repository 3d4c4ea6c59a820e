"""`cubeauth authnode` and `cubeauth sidecar` as processes: they serve; copies are taken while it writes, and put back."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.applying import CUBEAUTH, run, tree
from tests.support.authnode import STOP_SECONDS, Authnode, prepare
from tests.support.waiting import wait_for

from cubeauth import entropy, strictjson
from cubeauth.errors import ServerRefused
from cubeauth.keys import KEY_BYTES


@pytest.fixture
def authnode(tmp_path: Path) -> Iterator[Authnode]:
    """Not started; its command is the one that people type."""
    prepared = prepare(tmp_path / "authnode")
    prepared.program = ("cubeauth_cli.main", "authnode")
    yield prepared
    if prepared.process is not None:
        prepared.stop()


def command(verb: str, authnode: Authnode, *more: str | Path) -> list[str | Path]:
    return ["authnode", verb, "-c", authnode.config, *more]


def test_without_a_verb_it_serves(authnode: Authnode) -> None:
    authnode.start()
    made = authnode.create(authnode.admin_grant(), "ltptest", "client")
    assert authnode.ticket(made, "AuthService").client_id == "ltptest"
    assert authnode.stop() == 0


def test_a_stock_configuration_is_taken_as_it_is(tmp_path: Path) -> None:
    port = _free_port()
    keys = {name: strictjson.b64encode(entropy.system(KEY_BYTES)) for name in ("authServiceKey", "authRootKey")}
    members = {
        "role": "authnode",
        "ip": "127.0.0.1",
        "port": str(port),
        "prof": "10088",
        "id": "1",
        "peers": f"1:127.0.0.1:{port}",
    }
    folders = {name: str(tmp_path / name) for name in ("storeDir", "walDir", "logDir")}
    (tmp_path / "logDir").mkdir()
    config = tmp_path / "authnode.json"
    config.write_text(json.dumps({**members, **folders, **keys, "logLevel": "info", "retainLogs": "100", "clusterName": "x"}))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*CUBEAUTH, "authnode", "-c", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for("it to listen", lambda: '"listening"' in (tmp_path / "log").read_text())
        copy = run("authnode", "backup", "-c", config, "--to", tmp_path / "copy.db")
    finally:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    assert copy.status == 0
    assert "settings without meaning here: id, prof, retainLogs, clusterName" in (tmp_path / "log").read_text()


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_a_copy_is_taken_while_it_writes_and_holds_every_write_before_it(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    grant, acknowledged, enough = authnode.admin_grant(), [0], threading.Event()

    def write() -> None:
        while not enough.is_set():
            authnode.create(grant, f"key{acknowledged[0]}", "client")
            acknowledged[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for("some writes", lambda: acknowledged[0] >= 5)
        before = acknowledged[0]
        ran = run(*command("backup", authnode, "--to", tmp_path / "copy.db"))
        after = acknowledged[0]
    finally:
        enough.set()
        writer.join()
    assert (ran.status, ran.err) == (0, "")
    found = re.fullmatch(
        r".*/copy\.db: a copy, checked: (\d+) keys of keystore [0-9a-f]{32} at write \1, schema version 1\n", ran.out
    )
    assert found is not None, ran.out
    assert before <= int(found[1]) <= after + 1
    checked = run("authnode", "backup", "--check", tmp_path / "copy.db", "-c", authnode.config)
    assert checked.out == ran.out.replace("a copy, checked", "a good copy")
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_copy_is_checked_without_a_configuration_as_far_as_that_goes(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    run(*command("backup", authnode, "--to", tmp_path / "copy.db"))
    ran = run("authnode", "backup", "--check", tmp_path / "copy.db")
    assert ran.status == 0
    assert "a good copy: 0 keys" in ran.out
    assert "not opened: with -c FILE the root key would tell more" in ran.out


def test_an_older_copy_put_back_is_noticed_until_it_is_accepted(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    alice = authnode.create(authnode.admin_grant(), "alice", "client")
    copy = tmp_path / "copy.db"
    assert run(*command("backup", authnode, "--to", copy)).status == 0
    bob = authnode.create(authnode.admin_grant(), "bob", "client")
    assert "in use by process" in run(*command("restore", authnode, "--from", copy, "--replace")).line()
    authnode.stop()
    store = authnode.folder / "store" / "keystore.db"
    line = run(*command("restore", authnode, "--from", copy)).line()
    assert line.startswith(f"{store}: is there already;")
    ran = run(*command("restore", authnode, "--from", copy, "--replace"))
    assert ran.status == 0
    assert f"{store}: restored: 1 key of keystore" in ran.out
    assert f"{store}.replaced-1: kept;" in ran.out
    authnode.start(wait=False)
    assert authnode.process is not None
    assert authnode.process.wait(STOP_SECONDS) == 1
    refusal = authnode.log.splitlines()[-1]
    assert refusal.startswith(f"cubeauth: error: {store}: an older copy was put back: it is at write 1, its witness")
    assert "--accept-older-store" in refusal
    authnode.start("--accept-older-store")
    assert authnode.ticket(alice, "AuthService").client_id == "alice"
    with pytest.raises(ServerRefused):
        authnode.ticket(bob, "AuthService")
    assert authnode.stop() == 0
    authnode.start()


def test_a_lost_store_is_restored_without_a_word_about_replacing(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    alice = authnode.create(authnode.admin_grant(), "alice", "client")
    run(*command("backup", authnode, "--to", tmp_path / "copy.db"))
    authnode.stop()
    (authnode.folder / "store" / "keystore.db").unlink()
    ran = run(*command("restore", authnode, "--from", tmp_path / "copy.db", "--json"))
    document = json.loads(ran.out)
    assert (document["keys"], document["sequence"], document["kept"], document["authenticated"]) == (1, 1, [], True)
    authnode.start()
    assert authnode.ticket(alice, "AuthService").client_id == "alice"


def test_a_copy_does_not_go_over_a_file(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    authnode.stop()
    copy = tmp_path / "copy.db"
    copy.write_text("of last week")
    assert run(*command("backup", authnode, "--to", copy)).line().startswith(f"{copy}: is there already")
    assert copy.read_text() == "of last week"


@pytest.mark.parametrize("place", ["in front", "behind"])
def test_the_configuration_is_named_in_front_of_the_verb_or_behind_it(authnode: Authnode, tmp_path: Path, place: str) -> None:
    authnode.start()
    named = ["-c", str(authnode.config)]
    front, behind = (named, []) if place == "in front" else ([], named)
    ran = run("authnode", *front, "backup", *behind, "--to", tmp_path / "copy.db", "--json")
    assert json.loads(ran.out)["authenticated"] is True


def test_a_sidecar_serves(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    key = authnode.create(authnode.admin_grant(), "ltptest", "client")
    (tmp_path / "key.json").write_text(key.to_json())
    members = {
        "keyFile": str(tmp_path / "key.json"),
        "authnode": {"endpoints": [authnode.endpoint]},
        "auditFile": str(tmp_path / "audit.log"),
        "connect": [{"name": "data", "listen": "127.0.0.1:0", "peer": "127.0.0.1:1", "service": "DatanodeService"}],
    }
    (tmp_path / "sidecar.yaml").write_text(yaml.safe_dump(members))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*CUBEAUTH, "sidecar", "-c", tmp_path / "sidecar.yaml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_for("it to start", lambda: '"started"' in (tmp_path / "log").read_text())
    finally:
        process.terminate()
        status = process.wait(STOP_SECONDS)
    assert status == 0, (tmp_path / "log").read_text()


def test_what_is_refused_leaves_the_store_as_it_was(authnode: Authnode, tmp_path: Path) -> None:
    authnode.start()
    authnode.create(authnode.admin_grant(), "alice", "client")
    authnode.stop()
    bad = tmp_path / "bad.db"
    bad.write_bytes(b"nothing of ours " * 99)
    before = tree(authnode.folder)
    assert "not a database" in run(*command("restore", authnode, "--from", bad, "--replace")).line()
    assert "not a database" in run("authnode", "backup", "--check", bad).line()
    assert tree(authnode.folder) == before

"""Wrong input to apply, authnode and its verbs, and sidecar: one line naming file, field, value and remedy; nothing happens.

Each case is a command line and files to write before it; {it} is a folder of its own with a good key folder, manifests, an
Authnode's configuration and a copy of its store, {url} a running Authnode's address. The folder is the same before and after,
byte by byte, and so is what the Authnode holds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tests.support.applying import CUBEAUTH, Site, run, tree
from tests.support.authnode import Authnode, prepare, running_authnode
from tests.support.command_line import Ran
from tests.support.resource_world import auth_key, capability

from cubeauth import entropy, strictjson
from cubeauth.keys import KEY_BYTES

SECRET = strictjson.b64encode(entropy.system(KEY_BYTES))
"""Stands wherever a secret may stand in a wrong file; no line may show it."""

APPLY = "apply -f {it}/manifests --authnode {url} --admin-key {it}/admin.json --keys {it}/keys"
IMPORT = "authnode import -c {it}/authnode.yaml --from {url} --admin-key {it}/admin.json --ids {it}/ids.txt"
KEY = {"id": "AuthService", "auth_key": SECRET}


@dataclass(frozen=True)
class Case:
    """line: what the one line says, all of these parts in it; more: how many lines more there are."""

    name: str
    command: str
    said: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    lines: int = 1


def manifest(**changes: object) -> str:
    return yaml.safe_dump(auth_key("alice") | changes)


def spec(**members: object) -> str:
    return yaml.safe_dump(auth_key("alice", **members))


CLAIM = '{"id":"alice","namespace":"","name":"alice","file":"alice-authkey.json","policy":"Delete","adopted":false,'
APPLY_CASES = [
    Case("no arguments", "apply", ("Missing option", "-f", "see cubeauth apply --help")),
    Case("no authnode", "apply -f {it}/manifests --admin-key {it}/admin.json --keys {it}/keys", ("Missing option '--authnode'",)),
    Case("no such option", APPLY + " --purge", ("No such option", "--purge")),
    Case("no such file", APPLY + " -f {it}/nowhere.yaml", ("{it}/nowhere.yaml: cannot be read: No such file",)),
    Case(
        "folder without manifests", APPLY + " -f {it}/empty", ("{it}/empty: -f: a folder without manifests", ".yaml, .yml, .json")
    ),
    Case(
        "nothing but comments",
        "apply -f {it}/none.yaml --prune --authnode {url} --admin-key {it}/admin.json --keys {it}/keys",
        ("{it}/none.yaml: -f: no manifest in it",),
        {"none.yaml": "# nothing\n---\n"},
    ),
    Case("not YAML", APPLY, ("{it}/manifests/b.yaml:2: not YAML",), {"manifests/b.yaml": "kind: AuthKey\n\tx: [\n"}),
    Case("not UTF-8", APPLY, ("{it}/manifests/b.yaml: not UTF-8 text",), {"manifests/b.yaml": "latin:\udce9"}),
    Case("not JSON", APPLY, ("{it}/manifests/b.json: not JSON", "is one JSON object"), {"manifests/b.json": "{,}"}),
    Case("key twice", APPLY, ("b.yaml:3", "key 'kind' given twice"), {"manifests/b.yaml": "apiVersion: x\nkind: A\nkind: B\n"}),
    Case("a list", APPLY, ("{it}/manifests/b.yaml: ", "is not a mapping"), {"manifests/b.yaml": "- 1\n"}),
    Case(
        "another apiVersion",
        APPLY,
        ("apiVersion: 'v1' is not served", "auth.cubefs.io"),
        {"manifests/b.yaml": manifest(apiVersion="v1")},
    ),
    Case(
        "kind misspelt",
        APPLY,
        ("kind: 'AuthKye' is not known; did you mean AuthKey?",),
        {"manifests/b.yaml": manifest(kind="AuthKye")},
    ),
    Case("unknown field", APPLY, ("spec.rol: unknown field; did you mean role?",), {"manifests/b.yaml": spec(rol="client")}),
    Case("bad role", APPLY, ("spec.role: 'root'",), {"manifests/b.yaml": spec(role="root")}),
    Case("bad id", APPLY, ("spec.id: '1alice' is no id; an id has 1 to 21",), {"manifests/b.yaml": spec(id="1alice")}),
    Case(
        "the Authnode's own id",
        APPLY,
        ("spec.id: 'AuthService' is the Authnode itself",),
        {"manifests/b.yaml": spec(id="AuthService")},
    ),
    Case(
        "same id twice",
        APPLY,
        ("spec.id: 'keeper' is the id of AuthKey alice in", "one id, one AuthKey"),
        {"manifests/b.yaml": spec(id="keeper")},
    ),
    Case(
        "capability without parts",
        APPLY,
        ("spec.api[0]: 'read' is no capability",),
        {"manifests/b.yaml": yaml.safe_dump(capability("c", "keeper", api=["read"]))},
    ),
    Case(
        "subject that is not there",
        APPLY,
        ("spec.subjects[0].name: there is no AuthKey keepr; did you mean keeper?",),
        {"manifests/b.yaml": yaml.safe_dump(capability("c", "keepr", api=["a:b:c"]))},
    ),
    Case(
        "two wrong manifests",
        APPLY,
        ("b.yaml: spec.role", "c.yaml: spec.id"),
        {"manifests/b.yaml": spec(role="root"), "manifests/c.yaml": spec(id="1")},
        lines=2,
    ),
    Case("no admin key", APPLY + " --admin-key {it}/nowhere.json", ("{it}/nowhere.json: cannot be read: No such file",)),
    Case("admin key no JSON", APPLY + " --admin-key {it}/k.json", ("{it}/k.json: not JSON",), {"k.json": SECRET}),
    Case(
        "admin key without key", APPLY + " --admin-key {it}/k.json", ("{it}/k.json: auth_key: missing",), {"k.json": '{"id":"a"}'}
    ),
    Case(
        "admin key short",
        APPLY + " --admin-key {it}/k.json",
        ("{it}/k.json: auth_key: 31 bytes; a key has 16, 24 or 32",),
        {"k.json": json.dumps(KEY | {"auth_key": strictjson.b64encode(b"k" * 31)})},
    ),
    Case(
        "admin key pasted as id",
        APPLY + " --admin-key {it}/k.json",
        ("{it}/k.json: id: a text of 44 characters is not an id",),
        {"k.json": json.dumps(KEY | {"id": SECRET})},
    ),
    Case(
        "wrong admin key",
        APPLY + " --admin-key {it}/k.json",
        ("{it}/k.json: the key of AuthService", "code 2"),
        {"k.json": json.dumps(KEY)},
    ),
    Case("no address", APPLY + " --authnode http://", ("--authnode: 'http://' is no address; write HOST:PORT",)),
    Case("address with a password", APPLY + " --authnode http://u:{secret}@h:1", ("--authnode: an address with a user name",)),
    Case("nobody listens", APPLY + " --authnode 127.0.0.1:1", ("http://127.0.0.1:1: cannot connect: Connection refused",)),
    Case("HTTPS to HTTP", APPLY + " --authnode https://{host}", ("no TLS connection: does it speak HTTPS?",)),
    Case("CA without https", APPLY + " --ca-file {it}/admin.json", ("--ca-file: given, but --authnode has no https:// address",)),
    Case(
        "CA no certificate",
        APPLY + " --authnode https://{host} --ca-file {it}/admin.json",
        ("{it}/admin.json: no certificate in PEM form; name the file with the CA to trust",),
    ),
    Case("keys a file", APPLY + " --keys {it}/admin.json", ("{it}/admin.json: --keys: not a folder",)),
    Case("keys in no folder", APPLY + " --keys {it}/no/where", ("{it}/no/where: --keys: cannot be made: No such file",)),
    Case("adopt no id", APPLY + " --adopt {secret}", ("--adopt: a text of 44 characters is not an id",)),
    Case("journal no JSON", APPLY, ("{it}/keys/.cubeauth-claims: not JSON", "put the file back"), {"keys/.cubeauth-claims": "{"}),
    Case(
        "journal newer",
        APPLY,
        ("{it}/keys/.cubeauth-claims: version: 2 is not known",),
        {"keys/.cubeauth-claims": '{"version":2,"keystore":"","claims":[]}'},
    ),
    Case(
        "journal's file elsewhere",
        APPLY + " --prune",
        ("claims[0].file: '../passwd' is no key file's name",),
        {
            "keys/.cubeauth-claims": '{"version":1,"keystore":"","claims":['
            + CLAIM.replace("alice-authkey.json", "../passwd")
            + '"state":"made","create_ts":1}]}'
        },
    ),
    Case(
        "another keystore's folder",
        APPLY,
        ("the keys here were made in keystore 00ff", "--accept-keystore"),
        {"keys/.cubeauth-claims": '{"version":1,"keystore":"00ff","claims":[]}'},
    ),
]
AUTHNODE_CASES = [
    Case("authnode without -c", "authnode", ("Missing option '-c'; see cubeauth authnode --help",)),
    Case("no such verb", "authnode -c {it}/authnode.yaml bakup", ("No such command 'bakup'",)),
    Case("no configuration", "authnode -c {it}/nowhere.yaml", ("{it}/nowhere.yaml: cannot be read: No such file",)),
    Case("configuration empty", "authnode -c {it}/x.yaml", ("{it}/x.yaml: not one YAML mapping",), {"x.yaml": ""}),
    Case(
        "setting misspelt",
        "authnode -c {it}/x.yaml",
        ("{it}/x.yaml: lissten: unknown setting; did you mean listen?",),
        {"x.yaml": "AUTHNODE lissten=1"},
    ),
    Case("no listen", "authnode -c {it}/x.yaml", ("{it}/x.yaml: listen: ", "has no port"), {"x.yaml": "AUTHNODE listen=nowhere"}),
    Case(
        "port in use",
        "authnode -c {it}/x.yaml",
        ("listen: cannot listen on {host}: Address already in use",),
        {"x.yaml": "AUTHNODE listen={host}"},
    ),
    Case(
        "stock with a weak key",
        "authnode -c {it}/x.json",
        ("{it}/x.json: authRootKey: weak: 5 bytes where 32 belong",),
        {
            "x.json": '{"role":"authnode","ip":"127.0.0.1","port":"1","peers":"1:127.0.0.1:1",'
            '"storeDir":"{it}/s","walDir":"{it}/w","authServiceKey":"SECRET","authRootKey":"c2hvcnQ="}'
        },
    ),
    Case(
        "root key another",
        "authnode -c {it}/x.yaml",
        ("this root key", "is not the one the store was made with"),
        {"x.yaml": "AUTHNODE rootKeyFile={it}/other.json", "other.json": json.dumps(KEY)},
    ),
    Case(
        "accept with a verb",
        "authnode -c {it}/authnode.yaml --accept-older-store backup --to {it}/c",
        ("--accept-older-store is for starting",),
    ),
    Case("backup without a word", "authnode backup -c {it}/authnode.yaml", ("Write --to FILE to make a copy, or --check FILE",)),
    Case("backup both", "authnode backup -c {it}/authnode.yaml --to {it}/a --check {it}/copy.db", ("Write --to FILE",)),
    Case("backup without -c", "authnode backup --to {it}/c.db", ("Missing option '-c'",)),
    Case(
        "backup over a file", "authnode backup -c {it}/authnode.yaml --to {it}/admin.json", ("{it}/admin.json: is there already",)
    ),
    Case(
        "backup into no folder", "authnode backup -c {it}/authnode.yaml --to {it}/no/c.db", ("{it}/no/c.db: cannot be written",)
    ),
    Case(
        "backup of no store",
        "authnode backup -c {it}/x.yaml --to {it}/c.db",
        ("{it}/nostore/keystore.db: no such file",),
        {"x.yaml": "AUTHNODE storeDir={it}/nostore"},
    ),
    Case("check no copy", "authnode backup --check {it}/admin.json", ("{it}/admin.json: ", "not a database")),
    Case("check nothing", "authnode backup --check {it}/nowhere.db", ("{it}/nowhere.db: no such file",)),
    Case(
        "restore nothing",
        "authnode restore -c {it}/authnode.yaml --from {it}/nowhere.db --replace",
        ("{it}/nowhere.db: no such file",),
    ),
    Case("restore without from", "authnode restore -c {it}/authnode.yaml", ("Missing option '--from'",)),
    Case(
        "restore over a store",
        "authnode restore -c {it}/authnode.yaml --from {it}/copy.db",
        ("keystore.db: is there already", "replace"),
    ),
    Case(
        "restore no copy",
        "authnode restore -c {it}/authnode.yaml --from {it}/admin.json --replace",
        ("{it}/admin.json: ", "not a database"),
    ),
    Case(
        "restore empty", "authnode restore -c {it}/authnode.yaml --from {it}/e.db --replace", ("{it}/e.db: empty",), {"e.db": ""}
    ),
    Case("import no ids file", IMPORT + " --ids {it}/nowhere", ("{it}/nowhere: cannot be read",)),
    Case("import no ids", IMPORT, ("{it}/ids.txt: no id in it; write one id a line",), {"ids.txt": "# none\n"}),
    Case("import bad id", IMPORT, ("{it}/ids.txt:2: id: 'a-b' is not an id; an id has 1 to 21",), {"ids.txt": "good\na-b\n"}),
    Case("import key as id", IMPORT, ("{it}/ids.txt:1: id: a text of 44 characters is not an id",), {"ids.txt": SECRET}),
    Case("import the Authnode", IMPORT, ("{it}/ids.txt:1: id: AuthService is the Authnode itself",), {"ids.txt": "AuthService"}),
    Case(
        "import an alias",
        IMPORT,
        ("MetaService is here another name of MetanodeService; write MetanodeService",),
        {"ids.txt": "MetaService"},
    ),
    Case(
        "import unknown id",
        IMPORT,
        ("nosuch: the other Authnode has no such key; take it out of the list",),
        {"ids.txt": "nosuch"},
    ),
    Case("import no address", IMPORT + " --from 1:2:3", ("--from: '1:2:3' is no address",), {"ids.txt": "keeper"}),
    Case("import nobody there", IMPORT + " --from 127.0.0.1:1", ("cannot connect: Connection refused",), {"ids.txt": "keeper"}),
    Case(
        "import wrong key",
        IMPORT + " --admin-key {it}/k.json",
        ("{it}/k.json: the key of AuthService",),
        {"ids.txt": "keeper", "k.json": json.dumps(KEY)},
    ),
]
SIDECAR_CASES = [
    Case("sidecar without -c", "sidecar", ("Missing option", "-c", "see cubeauth sidecar --help")),
    Case("sidecar no file", "sidecar -c {it}/nowhere.yaml", ("{it}/nowhere.yaml: cannot be read: No such file",)),
    Case("sidecar no key file", "sidecar -c {it}/x.yaml", ("{it}/x.yaml: keyFile: missing",), {"x.yaml": "drain: 1s\n"}),
    Case(
        "sidecar key file gone",
        "sidecar -c {it}/x.yaml",
        ("{it}/x.yaml: keyFile: ", "{it}/gone.json"),
        {"x.yaml": "keyFile: {it}/gone.json\n"},
    ),
    Case(
        "sidecar with nothing to do",
        "sidecar -c {it}/x.yaml",
        ("{it}/x.yaml: accept: nothing to do",),
        {"x.yaml": "keyFile: {it}/admin.json\nauthnode: {endpoints: ['{host}']}\n"},
    ),
    Case(
        "sidecar no Authnode",
        "sidecar -c {it}/x.yaml",
        ("{it}/x.yaml: authnode.endpoints: no Authnode address",),
        {"x.yaml": "keyFile: {it}/admin.json\n"},
    ),
]
CASES = [*APPLY_CASES, *AUTHNODE_CASES, *SIDECAR_CASES]
PROCESSES = ("authnode -c", "sidecar -c")
"""Those that would serve if nothing were wrong: in a process of their own, for the log that they set up."""


@dataclass
class Place:
    """folder: copied for each case from a template; authnode: the running one."""

    folder: Path
    authnode: Authnode

    def fill(self, text: str) -> str:
        """Only our own marks, since braces are JSON's too."""
        if text.startswith("AUTHNODE "):
            name, _, value = self.fill(text.removeprefix("AUTHNODE ")).partition("=")
            members = yaml.safe_load((self.folder / "authnode.yaml").read_text())
            return yaml.safe_dump(members | {name: value})
        marks = {"{it}": str(self.folder), "{url}": f"http://{self.authnode.endpoint}", "{host}": self.authnode.endpoint}
        for mark, value in (marks | {"{secret}": SECRET, "SECRET": SECRET}).items():
            text = text.replace(mark, value)
        return text

    def run(self, command: str) -> Ran:
        argv = self.fill(command).split()
        if not command.startswith(PROCESSES):
            return run(*argv)
        ran = subprocess.run(
            [*CUBEAUTH, *argv], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
        )
        lines = [line for line in ran.stderr.splitlines(keepends=True) if not line.startswith('{"time"')]
        return Ran(ran.returncode, ran.stdout, "".join(lines))


@pytest.fixture(scope="module")
def authnode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authnode]:
    with running_authnode(tmp_path_factory.mktemp("authnode")) as running:
        yield running


@pytest.fixture(scope="module")
def template(authnode: Authnode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything good: a key folder with a key, its manifest, a stopped Authnode with a store, a copy of that."""
    folder = tmp_path_factory.mktemp("template") / "it"
    site = Site(authnode, folder)
    site.write("a.yaml", auth_key("keeper"))
    site.applied()
    (folder / "admin.json").write_text(site.admin_key.read_text())
    (folder / "empty").mkdir()
    stopped = prepare(folder)
    stopped.start()
    stopped.create(stopped.admin_grant(), "held", "client")
    stopped.stop()
    assert run("authnode", "backup", "-c", stopped.config, "--to", folder / "copy.db").status == 0
    return folder


@pytest.fixture
def place(template: Path, authnode: Authnode, tmp_path: Path) -> Place:
    folder = tmp_path / "it"
    shutil.copytree(template, folder)
    config = folder / "authnode.yaml"
    config.write_text(config.read_text().replace(str(template), str(folder)))
    return Place(folder, authnode)


def sequence(authnode: Authnode) -> object:
    return authnode.admin(authnode.admin_grant(), "state", {})["state"]["sequence"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_it_is_one_line_and_nothing_happens(case: Case, place: Place) -> None:
    for name, content in case.files.items():
        (place.folder / name).write_bytes(place.fill(content).encode("utf-8", "surrogateescape"))
    before, writes = tree(place.folder), sequence(place.authnode)
    ran = place.run(case.command)
    assert ran.status == 1, ran
    lines = ran.err.splitlines()
    assert len(lines) == case.lines, ran.err
    assert all(line.startswith("cubeauth: error: ") for line in lines), ran.err
    for part in case.said:
        assert place.fill(part) in ran.err, f"{part!r} is not in: {ran.err}"
    assert "Traceback" not in ran.out + ran.err
    assert SECRET not in ran.out + ran.err
    assert tree(place.folder) == before
    assert sequence(place.authnode) == writes


def test_there_are_enough_of_them() -> None:
    assert len(CASES) > 50
    assert len({case.name for case in CASES}) == len(CASES)

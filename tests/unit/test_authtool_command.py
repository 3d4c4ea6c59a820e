"""`cubeauth authtool` beside what stock's tool was recorded to do: files, HTTPS, refusals, bad input, secrets."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import fake_authnode as fakes
from tests.support.certs import Authority
from tests.support.command_line import CommandLine, modes
from tests.support.fake_authnode import FakeAuthnode

from cubeauth import entropy, keys, strictjson
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes

TLS_FLAGS = ["-https", "-certfile=ca.pem"]


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def fake(folder: Path) -> AsyncIterator[FakeAuthnode]:
    """An Authnode with an administrator, whose key is keyring.json."""
    server = FakeAuthnode(entropy.system(32))
    admin = server.add(fakes.record("admin"))
    server.add(fakes.record("MasterService"))
    (folder / "keyring.json").write_text(keys.key_file_of(admin).to_json())
    await server.start()
    yield server
    await server.stop()


async def with_ticket(fake: FakeAuthnode, command_line: CommandLine) -> str:
    """The administrator's ticket in ticket.json; the -host flag."""
    host = f"-host={fake.address}"
    assert (await command_line.run("authtool", "ticket", host, "getticket", "AuthService")).status == 0
    return host


async def test_a_ticket_goes_to_stocks_default_file_in_stocks_form(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    ran = await command_line.run("authtool", "ticket", "--host", fake.address, "getticket", "MasterService")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("ticket.json: ticket of admin for MasterService, good until 20")
    written = folder / "ticket.json"
    assert oct(written.stat().st_mode)[-3:] == "600"
    assert list(json.loads(written.read_text())) == ["id", "session_key", "service_id", "ticket"]


async def test_a_key_file_of_an_older_guide_works(fake: FakeAuthnode, folder: Path, command_line: CommandLine) -> None:
    key = strictjson.b64encode(fake.principals["admin"].auth_key.reveal())
    (folder / "old.json").write_text(json.dumps({"id": "admin", "key": key}))
    ran = await command_line.run("authtool", "ticket", f"-host={fake.address}", "-keyfile=old.json", "getticket", "AuthService")
    assert ran.status == 0


async def test_createkey_writes_the_file_that_gets_the_next_ticket(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"reader","role":"client","caps":"{\\"API\\":[\\"a:b:c\\"]}"}')
    ran = await command_line.run("authtool", "api", host, "-output=reader.json", "AuthService", "createkey")
    assert (ran.status, ran.out, ran.err) == (0, "reader.json: key of reader\n", "")
    assert oct((folder / "reader.json").stat().st_mode)[-3:] == "600"
    ran = await command_line.run("authtool", "ticket", host, "-keyfile=reader.json", "-output=t.json", "getticket", "AuthService")
    assert ran.status == 0


async def test_getkey_and_getcaps_print_and_getcaps_prints_no_secret(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"admin"}')
    ran = await command_line.run("authtool", "api", host, "AuthService", "getkey")
    assert json.loads(ran.out) == json.loads((folder / "keyring.json").read_text())
    ran = await command_line.run("authtool", "api", host, "AuthService", "getcaps")
    assert json.loads(ran.out) == {"id": "admin", "caps": fakes.FULL}


async def test_a_reply_without_the_key_prints_what_it_tells(fake: FakeAuthnode, folder: Path, command_line: CommandLine) -> None:
    """Ours tells secrets only to who may read them."""
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"admin","caps":"{\\"API\\":[\\"a:b:c\\"]}"}')

    def tell(held: keys.KeyRecord) -> dict[str, object]:
        return {"key_info": keys.key_info(held) | {"auth_key": None, "secret_key": ""}, "auth_id_key": ""}

    fake._tell = tell  # type: ignore[method-assign]  # what this one server tells is what the test is about
    ran = await command_line.run("authtool", "api", host, "AuthService", "addcaps")
    assert set(json.loads(ran.out)) == {"id", "create_ts", "role", "caps"}


async def test_raft_nodes_print_the_servers_words(fake: FakeAuthnode, folder: Path, command_line: CommandLine) -> None:
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":2,"addr":"a:1"}')
    ran = await command_line.run("authtool", "api", host, "AuthService", "addraftnode")
    assert ran.out == "addraftnode id :2, addr:a:1 successfully\n"


async def test_what_means_nothing_in_a_capability_list_is_warned_of(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"admin","caps":"{\\"Vol\\":[\\"a:b:c\\"]}"}')
    ran = await command_line.run("authtool", "api", host, "AuthService", "addcaps")
    assert ran.status == 0
    assert ran.err.startswith("cubeauth: warning: data.json: caps: 'Vol' means nothing to CubeFS")


async def test_a_refusal_is_one_line_and_leaves_the_output_file_alone(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"admin","role":"client","caps":"{}"}')
    before = (folder / "keyring.json").read_text()
    ran = await command_line.run("authtool", "api", host, "AuthService", "createkey")
    assert ran.line() == f"http://{fake.address} refused with code 35: duplicate key"
    assert (folder / "keyring.json").read_text() == before
    assert ran.out == ""


async def test_an_expired_ticket_says_what_to_do(fake: FakeAuthnode, folder: Path, command_line: CommandLine) -> None:
    fake.lifetime = -1
    fake.always = None
    (folder / "data.json").write_text('{"id":"admin"}')
    host = f"-host={fake.address}"
    ran = await command_line.run("authtool", "ticket", host, "getticket", "AuthService")
    assert "compare this host's clock" in ran.line()
    assert not (folder / "ticket.json").exists()
    fake.lifetime = 3600
    await with_ticket(fake, command_line)
    fake.faults.append(fakes.refuse(43, "expired ticket"))
    ran = await command_line.run("authtool", "api", host, "AuthService", "getkey")
    assert ran.line().endswith("refused with code 43: expired ticket; the ticket has expired: get a new one")


async def test_an_output_that_cannot_be_written_is_told_before_anything_is_asked(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    host = await with_ticket(fake, command_line)
    sent = len(fake.seen)
    (folder / "data.json").write_text('{"id":"reader","role":"client","caps":"{}"}')
    for output in ("nowhere/reader.json", "."):
        ran = await command_line.run("authtool", "api", host, f"-output={output}", "AuthService", "createkey")
        assert ran.line().startswith(f"{output}: -output: ")
    assert len(fake.seen) == sent
    assert "reader" not in fake.principals


async def test_a_key_whose_file_fails_after_all_is_said_to_be_made(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine
) -> None:
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"reader","role":"client","caps":"{}"}')
    (folder / "out").mkdir()

    async def meanwhile(_fake: FakeAuthnode, _request: object) -> None:
        (folder / "out").rmdir()

    fake.always = meanwhile
    ran = await command_line.run("authtool", "api", host, "-output=out/reader.json", "AuthService", "createkey")
    assert (
        ran.line()
        == "out/reader.json: cannot be written: No such file or directory; the key reader is made all the same: getkey prints it"
    )
    assert "reader" in fake.principals


@pytest.mark.parametrize(
    "flags",
    [TLS_FLAGS, ["-https=true", "-certfile", "ca.pem"], ["--https=1", "--certfile=ca.pem"], ["-certfile=ca.pem", "-host=URL"]],
)
async def test_https_with_the_ca_that_certfile_names(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine, flags: list[str]
) -> None:
    await fake.stop()
    await fake.start(server_context(folder))
    argv = [f"-host={fake.address}", *(flag.replace("URL", f"https://{fake.address}") for flag in flags)]
    ran = await command_line.run("authtool", "ticket", *argv, "getticket", "AuthService")
    assert (ran.status, ran.err) == (0, "")


async def test_https_with_another_ca_is_one_line(fake: FakeAuthnode, folder: Path, command_line: CommandLine) -> None:
    await fake.stop()
    await fake.start(server_context(folder))
    other = Authority(folder, "other").ca_file
    ran = await command_line.run(
        "authtool", "ticket", f"-host={fake.address}", "-https", f"-certfile={other}", "getticket", "AuthService"
    )
    assert "its certificate is not trusted: " in ran.line()


def server_context(folder: Path) -> ssl.SSLContext:
    authority = Authority(folder, "ca")
    files = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


async def test_several_hosts_fail_over(fake: FakeAuthnode, command_line: CommandLine) -> None:
    ran = await command_line.run("authtool", "ticket", f"-host=127.0.0.1:1,{fake.address}", "getticket", "AuthService")
    assert ran.status == 0


@pytest.mark.parametrize("length", [16, 24, 32])
async def test_authkey_writes_both_keys_of_a_new_authnode(folder: Path, command_line: CommandLine, length: int) -> None:
    ran = await command_line.run("authtool", "authkey", f"-keylen={length}")
    assert ran.status == 0
    found = [keys.parse_key_file((folder / name).read_text()) for name in ("authroot.json", "authservice.json")]
    assert [len(key.auth_key) for key in found] == [length, length]
    assert found[0].auth_key != found[1].auth_key
    assert {key.id for key in found} == {"AuthService"}
    assert modes(folder) == {"authroot.json": "600", "authservice.json": "600"}


@pytest.mark.parametrize("name", ["authroot.json", "authservice.json"])
async def test_authkey_never_writes_over_a_key(folder: Path, command_line: CommandLine, name: str) -> None:
    (folder / name).write_text("a root key that an Authnode runs on")
    ran = await command_line.run("authtool", "authkey")
    assert ran.line() == f"{name}: exists already; an Authnode may run on it: move it away first"
    assert set(modes(folder)) == {name}


@pytest.mark.parametrize("service", ["one.json", "./one.json", "sub/../one.json", "linked/one.json", "dangling.json"])
async def test_authkey_makes_two_files_or_none(folder: Path, command_line: CommandLine, service: str) -> None:
    (folder / "sub").mkdir()
    (folder / "linked").symlink_to(folder)
    (folder / "dangling.json").symlink_to("one.json")
    ran = await command_line.run("authtool", "authkey", "-rootkey=one.json", f"-servicekey={service}")
    told = service.removeprefix("./")
    assert ran.line() == f"{told}: -servicekey: the file of -rootkey; name two files: two keys are made"
    assert not (folder / "one.json").exists()


async def test_without_a_word_the_usage_is_an_error(command_line: CommandLine) -> None:
    ran = await command_line.run("authtool")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.count("usage: cubeauth authtool") == 3
    asked = await command_line.run("authtool", "--help")
    assert (asked.status, asked.out, asked.err) == (0, ran.err, "")


KEY = KeyFile("admin", SecretBytes(b"k" * 32)).to_json()
TICKET = json.dumps(
    {"id": "admin", "session_key": strictjson.b64encode(b"s" * 32), "service_id": "AuthService", "ticket": "dA=="}
)
FILES = {"keyring.json": KEY, "ticket.json": TICKET, "data.json": '{"id":"reader"}'}

BAD_INPUT = [
    (["nosuch"], {}, "authtool has no word 'nosuch'; it has ticket, api, authkey; see cubeauth authtool --help"),
    (["ticket"], {}, "0 words where two belong; write getticket SERVICE behind the flags"),
    (["ticket", "getticket"], {}, "1 words where two belong; write getticket SERVICE behind the flags"),
    (["ticket", "getticket", "A", "-host=a:1"], {}, "'-host': stands behind the words; write flags in front of them"),
    (["ticket", "gettickets", "A"], {}, "ticket has no request 'gettickets'; write getticket SERVICE"),
    (["ticket", "getticket", "no-id"], {}, "SERVICE: 'no-id' is not an id; for example AuthService or MasterService"),
    (["ticket", "-https=maybe", "getticket", "A"], {}, "-https: 'maybe' is neither true nor false"),
    (["ticket", "-host=a b", "getticket", "A"], {}, "-host: 'a b' is no address; write HOST:PORT"),
    (["ticket", "-host=http://u:hunter2@a:1", "getticket", "A"], {}, "-host: an address with a user name is no address"),
    (["ticket", "-keyfile=none.json", "getticket", "A"], {}, "none.json: cannot be read: No such file or directory"),
    (["ticket", "-keyfile=.", "getticket", "A"], {}, ".: cannot be read: Is a directory"),
    (["ticket", "getticket", "A"], {"keyring.json": "{"}, "keyring.json: not JSON; a key file is what createkey"),
    (["ticket", "getticket", "A"], {"keyring.json": "\x00" * (5 << 20)}, "keyring.json: larger than 4194304 bytes"),
    (["ticket", "getticket", "A"], {"keyring.json": '{"id":"admin"}'}, "keyring.json: auth_key: missing or not a string"),
    (
        ["ticket", "getticket", "A"],
        {"keyring.json": '{"id":"admin","auth_key":"aGk="}'},
        "keyring.json: auth_key: 2 bytes; a key has",
    ),
    (["ticket", "-https", "getticket", "A"], {}, "server.crt: cannot be read: No such file or directory"),
    (
        ["ticket", "-https", "-certfile=data.json", "getticket", "A"],
        {},
        "data.json: no certificate in PEM form; name the file with the CA",
    ),
    (["ticket", "-output=no/t.json", "getticket", "A"], {}, "no/t.json: -output: its folder does not exist"),
    (["api"], {}, "0 words where two belong; write AuthService REQUEST behind the flags"),
    (["api", "MasterService", "getkey"], {}, "api cannot ask 'MasterService'; write AuthService getkey"),
    (["api", "AuthService", "getkeys"], {}, "api has no request 'getkeys'; there are createkey, deletekey"),
    (["api", "AuthService", "state"], {}, "api has no request 'state'"),
    (
        ["api", "AuthService", "getkey"],
        {"ticket.json": KEY},
        "ticket.json: session_key: missing or not a string; make the file anew",
    ),
    (
        ["api", "AuthService", "getkey"],
        {"ticket.json": TICKET.replace("AuthService", "MasterService")},
        "ticket.json: service_id: a ticket for 'MasterService', and AuthService is asked; "
        "get one: cubeauth authtool ticket getticket AuthService",
    ),
    (["api", "AuthService", "getkey"], {"data.json": "[]"}, "data.json: not a JSON object; getkey takes a JSON object with id"),
    (["api", "AuthService", "getkey"], {"data.json": "{}"}, "data.json: id: missing; getkey takes id"),
    (["authkey", "more"], {}, "authkey takes no word, 'more' was given; write flags only"),
    (["authkey", "-keylen=20"], {}, "-keylen: 20 bytes; a key has 16, 24 or 32"),
    (["authkey", "-keylen=x"], {}, "-keylen: 'x' is not a whole number"),
    (["authkey", "-rootkey=no/r.json"], {}, "no/r.json: cannot be written: No such file or directory"),
]


@pytest.mark.parametrize(("argv", "changed", "line"), BAD_INPUT, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
async def test_bad_input_is_one_line_and_writes_nothing(
    folder: Path, command_line: CommandLine, argv: list[str], changed: dict[str, str], line: str
) -> None:
    for name, text in (FILES | changed).items():
        (folder / name).write_text(text)
    ran = await command_line.run("authtool", *argv)
    assert ran.line().startswith(line)
    assert "hunter2" not in ran.err
    assert set(modes(folder)) == set(FILES)
    assert ran.out == ""


async def test_no_secret_is_printed_but_where_it_was_asked_for(
    fake: FakeAuthnode, folder: Path, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    host = await with_ticket(fake, command_line)
    (folder / "data.json").write_text('{"id":"reader","role":"client","caps":"{}"}')
    said = ""
    fake.faults.extend([fakes.drop] * 3)
    for argv in (
        ["ticket", host, "getticket", "AuthService"],
        ["ticket", host, "getticket", "AuthService"],
        ["api", host, "-output=reader.json", "AuthService", "createkey"],
        ["api", host, "-output=again.json", "AuthService", "createkey"],
        ["api", host, "AuthService", "getcaps"],
        ["authkey"],
    ):
        ran = await command_line.run("authtool", *argv)
        said += ran.out + ran.err
    said += caplog.text
    secrets = []
    for name in modes(folder, "*.json"):
        members = json.loads((folder / name).read_text())
        secrets += [members[n] for n in ("auth_key", "secret_key", "auth_id_key", "session_key", "ticket") if members.get(n)]
    assert len(secrets) > 10
    assert not [secret for secret in secrets if secret in said]


def test_no_process_of_ours_shows_a_secret_in_its_arguments() -> None:
    """Nothing that the tool takes on its command line is one: keys and tickets come in files."""
    from cubeauth_cli.authtool import _FLAGS

    names = {flag.name for flags in _FLAGS.values() for flag in flags}
    assert names == {"host", "https", "certfile", "keyfile", "output", "ticketfile", "data", "keylen", "rootkey", "servicekey"}
    assert os.name == "posix"

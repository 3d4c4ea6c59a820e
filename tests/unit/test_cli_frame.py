"""The frame of the command line: one line for every failure, nothing but the result on standard output, no traceback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import fake_authnode as fakes
from tests.support.command_line import CommandLine, modes
from tests.support.fake_authnode import FakeAuthnode
from tests.support.waiting import until

from cubeauth import entropy, keys
from cubeauth_cli import commands, console
from cubeauth_cli.commands import Entry
from cubeauth_cli.main import main

CUBEAUTH = [sys.executable, "-m", "cubeauth_cli.main"]


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def add_command(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str = "probe") -> None:
    """A command of a module that the test writes; `body` is its callback's."""
    (folder / f"command_{name}.py").write_text(
        "import click\nfrom cubeauth.errors import *\n@click.command()\ndef command():\n" + f"    {body}\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, f"command_{name}", raising=False)  # of an earlier test
    monkeypatch.setitem(commands.COMMANDS, name, Entry(f"command_{name}", "For a test."))


async def test_help_lists_every_command_with_its_line(command_line: CommandLine) -> None:
    for argv in ([], ["--help"], ["-h"]):
        ran = await command_line.run(*argv)
        assert (ran.status, ran.err) == (0, "")
        for name, entry in commands.COMMANDS.items():
            assert f"{name} " in ran.out
            assert entry.help in " ".join(ran.out.split())  # a long line is wrapped


async def test_every_command_can_be_loaded_and_has_help(command_line: CommandLine) -> None:
    for name in commands.COMMANDS:
        ran = await command_line.run(name, "--help")
        assert (ran.status, ran.err) == (0, ""), name
        assert "usage" in ran.out.lower(), name


async def test_help_imports_no_command(tmp_path: Path) -> None:
    code = "import sys; from cubeauth_cli.main import main; main(['--help']); print('aiohttp' in sys.modules, file=sys.stderr)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    _, err = await process.communicate()
    assert err == b"False\n"


async def test_version_as_text_and_as_json(command_line: CommandLine) -> None:
    text = await command_line.run("version")
    assert text.out.startswith("cubeauth ")
    document = json.loads((await command_line.run("version", "--json")).out)
    assert set(document) == {"cubeauth", "python", "cryptography", "openssl"}


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["nosuch"], "No such command 'nosuch'; see cubeauth --help"),
        (["--nosuch"], "No such option '--nosuch'; see cubeauth --help"),
        (["version", "--nosuch"], "No such option '--nosuch'; see cubeauth version --help"),
        (["version", "more"], "Got unexpected extra argument (more); see cubeauth version --help"),
    ],
)
async def test_a_wrong_command_line_is_one_line_and_status_1(command_line: CommandLine, argv: list[str], line: str) -> None:
    assert (await command_line.run(*argv)).line() == line


@pytest.mark.parametrize(
    ("raising", "line"),
    [
        ("InputError('role', \"'x' is no role\", 'write client', source='a.yaml')", "a.yaml: role: 'x' is no role; write client"),
        ("InputError('', 'two\\nlines \\x1b[31m and a colour')", "two lines [31m and a colour"),
        ("TicketExpired('expired ticket')", "expired ticket"),
        ("PermissionError(13, 'Permission denied', '/a')", "/a: Permission denied"),
        ("click.FileError('/b', 'no')", "Could not open file '/b': no"),
    ],
)
async def test_an_error_is_one_printable_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine, raising: str, line: str
) -> None:
    add_command(tmp_path, monkeypatch, f"raise {raising}")
    ran = await command_line.run("probe")
    assert ran.line() == line
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("raising", ["ZeroDivisionError('boom')", "LocalMisuse('boom')", "KeyError('boom')"])
async def test_a_bug_is_one_line_and_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine, raising: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    add_command(tmp_path, monkeypatch, f"raise {raising}")
    ran = await command_line.run("probe")
    ((name, mode),) = modes(tmp_path, "cubeauth-crash-*.txt").items()
    crash = tmp_path / name
    assert ran.line() == f"internal error ({raising.partition('(')[0]}), see {crash}; please report it"
    assert "Traceback" in crash.read_text()
    assert mode == "600"


async def test_a_bug_with_no_place_for_its_file_is_one_line_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    add_command(tmp_path, monkeypatch, "1 / 0")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert "no file could be written; CUBEAUTH_TRACEBACK=1 shows it" in (await command_line.run("probe")).line()


async def test_a_traceback_comes_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    monkeypatch.setenv("CUBEAUTH_TRACEBACK", "1")
    add_command(tmp_path, monkeypatch, "1 / 0")
    ran = await command_line.run("probe")
    assert ran.status == 1
    assert "Traceback" in ran.err
    assert ran.err.endswith("cubeauth: error: internal error (ZeroDivisionError); please report it\n")


async def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)  # importing it fails, as where it is not installed
    for name in [name for name in sys.modules if name.startswith(("cubeauth_client", "cubeauth_cli.authtool"))]:
        monkeypatch.delitem(sys.modules, name)
    ran = await command_line.run("authtool", "authkey")
    assert ran.line() == "this command needs aiohttp, which is not installed: pip install 'cubeauth[cli]'"


async def test_without_click_itself_it_is_the_same_line(monkeypatch: pytest.MonkeyPatch, command_line: CommandLine) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "cubeauth_cli.app", raising=False)
    monkeypatch.delattr("cubeauth_cli.app", raising=False)
    assert "needs click, which is not installed: pip install 'cubeauth[cli]'" in (await command_line.run("version")).line()


async def test_a_module_of_ours_that_is_not_there_is_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(commands.COMMANDS, "probe", Entry("cubeauth_cli.nosuch", "For a test."))
    assert (await command_line.run("probe")).line().startswith("internal error (ModuleNotFoundError)")


async def test_a_status_is_what_the_command_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    add_command(tmp_path, monkeypatch, "return 3")
    assert (await command_line.run("probe")).status == 3


def test_under_the_name_of_stocks_tool_it_is_authtool(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/cfs-authtool", "api", "-h"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("usage: cubeauth authtool api")


def test_colour_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console.error("x")
    assert capsys.readouterr().err == "cubeauth: error: x\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.error("x")
    assert capsys.readouterr().err == "cubeauth: \x1b[1;31merror:\x1b[0m x\n"
    monkeypatch.setenv("NO_COLOR", "1")
    console.error("x")
    assert capsys.readouterr().err == "cubeauth: error: x\n"


async def test_a_reader_that_has_gone_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(*CUBEAUTH, "version", stdout=writing, stderr=asyncio.subprocess.PIPE)
    os.close(writing)
    _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"")


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run([*CUBEAUTH, "version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (ran.returncode, ran.stderr) == (1, b"cubeauth: error: No space left on device\n")


async def test_an_interrupt_is_one_line_and_status_130(tmp_path: Path) -> None:
    fake = FakeAuthnode(entropy.system(32), always=fakes.silence)
    (tmp_path / "keyring.json").write_text(keys.key_file_of(fakes.record("reader")).to_json())
    await fake.start()
    argv = ["authtool", "ticket", f"-host={fake.address}", "getticket", "AuthService"]
    process = await asyncio.create_subprocess_exec(*CUBEAUTH, *argv, stderr=asyncio.subprocess.PIPE, cwd=tmp_path)
    try:
        await until("the request to reach the server", lambda: len(fake.seen) == 1)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
        await fake.stop()
    assert (process.returncode, err.strip()) == (130, b"cubeauth: interrupted")
    assert set(modes(tmp_path)) == {"keyring.json"}

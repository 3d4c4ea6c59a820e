"""`cubeauth demo`: every step with real processes; its exit status tells the truth; nothing secret, nothing running is left."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.waiting import wait_for

from cubeauth_cli.demo.command import examples_folder

REASONS = {
    "no-ticket": "no_ticket",
    "other-service": "other_service",
    "capability": "capability_missing",
    "replay": "verifier_replayed",
    "deleted": "unknown_client",
    "flipped-bit": "bad_record",
    "expired": "ticket_expired",
}


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo, with its temporary folder inside `tmp_path`."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "80"}
    command = [sys.executable, "-m", "cubeauth_cli.main", "demo", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)


def demo_folders(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("cubeauth-demo-*"))


def test_every_step_ends_as_it_must_and_nothing_is_left(tmp_path: Path) -> None:
    done = run(tmp_path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert {step["step"]: step["reason"] for step in report["steps"] if "reason" in step} == REASONS
    uniform = {step["wire"] for step in report["steps"] if "reason" in step and step["step"] != "flipped-bit"}
    assert uniform == {"authentication failed"}
    assert demo_folders(tmp_path) == []


def test_a_step_that_is_not_as_it_must_be_ends_the_demo_with_status_1(tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    shutil.copytree(examples_folder(), examples)
    grants = examples / "30-capabilities.yaml"
    grants.write_text(
        grants.read_text().replace("    - data:read:access\n", "    - data:read:access\n    - data:write:access\n", 1)
    )
    done = run(tmp_path, "--json", "--examples", str(examples))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert (report["steps"][-1]["step"], report["steps"][-1]["ok"]) == ("capability", False)
    assert demo_folders(tmp_path) == []


@pytest.mark.parametrize(
    ("gone", "said"),
    [("name: reader", "has the AuthKey reader"), ("kind: AuthKey\nmetadata:\n  name: leaver", "has no 40-leaver.yaml")],
)
def test_an_authkey_that_other_manifests_lack_is_named(tmp_path: Path, gone: str, said: str) -> None:
    examples = tmp_path / "examples"
    shutil.copytree(examples_folder(), examples)
    for manifest in sorted(examples.iterdir()):
        if gone in manifest.read_text():
            if "leaver" in gone:
                manifest.rename(examples / "50-leaver.yaml")
            else:
                manifest.write_text(manifest.read_text().replace(gone, "name: somebody"))
    done = run(tmp_path, "--examples", str(examples))
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "not as it must be manifests" in line]
    assert said in line
    assert str(examples) in line


def test_a_person_sees_each_refusal_with_its_reason_on_lines_that_fit() -> None:
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        done = run(Path(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    for reason in REASONS.values():
        assert reason in done.stdout
    assert "Every step was as it must be" in done.stdout
    assert "\x1b[" not in done.stdout, "colour where there is no terminal"
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, str]:
    """A demo that was left running: its folder, and what it said."""
    done = run(tmp_path, "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = demo_folders(tmp_path)
    return folder, done.stdout + done.stderr


def test_kept_it_runs_on_ends_as_it_says_and_wrote_no_secret(kept: tuple[Path, str]) -> None:
    folder, said = kept
    line = next(line for line in said.splitlines() if line.strip().startswith("kill "))
    pids = [int(word) for word in line.split("&&")[0].split()[1:]]
    try:
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        secrets = {
            value
            for path in [*folder.glob("keys/*.json"), folder / "root.json", folder / "authservice.json"]
            for name, value in json.loads(path.read_text()).items()
            if name in ("auth_key", "secret_key") and value
        }
        assert len(secrets) > 8
        command_lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        wait_for("the demo's processes to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    key_files = {*folder.glob("keys/*-authkey.json"), folder / "root.json", folder / "authservice.json"}
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path not in key_files}
    assert any(path.suffix == ".log" for path in written)
    assert any(path.name == "keystore.db" for path in written)
    for secret in secrets:
        for form in forms_of(secret):
            assert form not in said.encode()
            assert form not in command_lines
            for path, content in written.items():
                assert form not in content, f"a secret in {path.name}"


def test_what_it_says_can_be_done_is_done_by_pasting_it(kept: tuple[Path, str]) -> None:
    """By a shell that finds no program of ours by its name."""
    folder, said = kept
    commands = {
        about.rstrip(":"): command.strip()
        for about, command in pairwise(said.splitlines())
        if command.startswith("    ") and not about.startswith(" ") and about.endswith(":")
    }
    talk, ticket, apply, watch, end = [
        next(command for about, command in commands.items() if about.startswith(word))
        for word in ("Talk", "Get a ticket (here it lives for 6 seconds)", "Change", "Watch", "End")
    ]

    def paste(command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": "/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False)

    try:
        assert paste(talk).stdout == "HELLO\n"
        assert "ticket of ltptest for DatanodeService" in paste(ticket).stdout
        assert "nothing to do" in paste(apply).stdout
        assert "verifier_replayed" in paste(watch.replace("tail -f", "cat")).stdout
    finally:
        ended = paste(end)
    assert ended.returncode == 0, ended.stderr
    assert not folder.exists()
    wait_for("the demo's processes to go", lambda: not processes_of(folder))


def forms_of(secret: str) -> list[bytes]:
    """The ways in which a secret could be written down: as in its file, raw, in hexadecimal."""
    forms = [secret.encode()]
    if secret.endswith("="):
        raw = base64.b64decode(secret)
        forms += [raw, raw.hex().encode(), raw.hex().upper().encode(), base64.urlsafe_b64encode(raw)]
    return forms


def processes_of(folder: Path) -> list[int]:
    """Who names the folder in its command line, or works with a file in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            named = os.fsencode(folder) in (process / "cmdline").read_bytes()
            opened = any(os.readlink(fd).startswith(str(folder)) for fd in (process / "fd").iterdir())
        except OSError:
            continue  # it ended, or is not ours to look into
        if named or opened:
            found.append(int(process.name))
    return found


@pytest.fixture
def under_way(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo whose first step is done."""
    command = [sys.executable, "-u", "-m", "cubeauth_cli.main", "demo"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while "an Authnode starts" not in (line := demo.stdout.readline()):
            assert line, "the demo ended before its first step was done"
        yield demo
        demo.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_told_to_end_it_ends_everything_first(under_way: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    (folder,) = demo_folders(tmp_path)
    assert len(processes_of(folder)) > 1
    under_way.send_signal(number)
    _, err = under_way.communicate(timeout=60)
    assert under_way.returncode == 128 + number
    assert len(err.strip().splitlines()) == 1, err
    assert processes_of(folder) == []
    assert demo_folders(tmp_path) == []


def test_killed_it_leaves_nothing_either(under_way: subprocess.Popen[str], tmp_path: Path) -> None:
    (folder,) = demo_folders(tmp_path)
    under_way.kill()
    wait_for("the demo's folder to go", lambda: not demo_folders(tmp_path))
    wait_for("the demo's processes to go", lambda: not processes_of(folder))

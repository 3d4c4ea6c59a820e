"""Runs the blocks of one page as a reader would: one shell from top to bottom, so folders, variables and programs started
with `&` last to the page's end. Whatever still runs then is ended.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.docs.pages import Block, shows

ENDING = 10.0
"""Seconds between TERM and KILL for what a page left running."""

_HEAD = """\
set -euo pipefail
trap 'trap - EXIT; exit 143' TERM
trap 'status=$?; set +e; echo "$status" >{state}/exit; while :; do sleep 3600; done' EXIT
"""
# Staying until it is told to go, the shell keeps its process group's number from being given to a stranger.


def run_page(blocks: Iterable[Block], folder: Path, environment: Mapping[str, str], state: Path, ending: float = ENDING) -> None:
    """Run every block in `folder`; AssertionError names the first that fails. `state`: an empty folder for the runner's files."""
    todo = [block for block in blocks if block.not_run is None]
    (state / "page.sh").write_text(
        _HEAD.format(state=shlex.quote(str(state))) + "".join(_driver(b, i, state) for i, b in enumerate(todo))
    )
    shell = subprocess.Popen(
        ["bash", str(state / "page.sh")],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for number, block in enumerate(todo):
            _watch(block, number, state)
    finally:
        _end(shell, ending)


def _driver(block: Block, number: int, state: Path) -> str:
    """The lines of the page's shell for one block: NUMBER-STEP.sh runs, writes .out, then .done with its status."""
    if block.file is not None:
        (state / f"{number}.content").write_text(block.content)
        path = shlex.quote(block.file)
        source = shlex.quote(str(state / f"{number}.content"))
        return f'mkdir -p "$(dirname {path})"\ncp {source} {path}\n'
    lines = [f"until {block.wait_for}; do sleep 0.05; done >/dev/null 2>&1"] if block.wait_for else []
    for i, step in enumerate(block.steps):
        base = state / f"{number}-{i}"
        base.with_suffix(".sh").write_text(step.command)
        sh, out, part, done = (shlex.quote(str(base.with_suffix(s))) for s in (".sh", ".out", ".part", ".done"))
        last = i == len(block.steps) - 1
        before, after = ("set +e\n", "\nset -e") if block.exits and last else ("", "")
        lines.append(f"{before}. {sh} >{out} 2>&1\necho $? >{part}{after}\nmv {part} {done}")
    return "\n".join(lines) + "\n"


def _watch(block: Block, number: int, state: Path) -> None:
    deadline = time.monotonic() + block.bound
    for i, step in enumerate(block.steps):
        base = state / f"{number}-{i}"
        while not base.with_suffix(".done").exists() and not (state / "exit").exists():
            assert time.monotonic() < deadline, (
                f"{block.name}: not done in {block.bound:.0f} s\n{_transcript(step.command, base)}"
            )
            time.sleep(0.02)
        told = f"{block.name}\n{_transcript(step.command, base)}"
        assert base.with_suffix(".done").exists(), f"the page's shell ended with {(state / 'exit').read_text().strip()} at {told}"
        status = int(base.with_suffix(".done").read_text())
        expected = block.exits if i == len(block.steps) - 1 else 0
        assert status == expected, f"status {status}, the page says {expected}: {told}"
        assert step.expected is None or shows(step.expected, _output(base)), f"the page shows\n{step.expected}\nbut {told}"


def _output(base: Path) -> str:
    path = base.with_suffix(".out")
    return path.read_text(errors="replace") if path.exists() else ""


def _transcript(command: str, base: Path) -> str:
    return f"$ {command.strip()}\n{_output(base)}"


def _end(shell: subprocess.Popen[bytes], ending: float) -> None:
    """TERM to the page's process group, KILL to what ignores it; wait until nothing of it is left."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + ending
        os.killpg(shell.pid, each)
        while _members(shell.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not _members(shell.pid):
            break
    shell.wait()


def _members(group: int) -> list[int]:
    """The living processes of a process group; a zombie, our shell's too until it is waited for, is dead."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _parent, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
                continue
            if int(its_group) == group and state != "Z":
                members.append(int(entry.name))
    return members

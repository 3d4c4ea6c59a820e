"""Every command of README.md and docs/ runs as a reader would run it; one that cannot run here is checked by bash -n, and listed.

CONTRIBUTING.md says how pages are written for it; tests/docs/pages.py holds the format.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tests.docs.pages import Block, PageError, read_page
from tests.docs.terminal import ENDING, run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "__pycache__", ".*_cache", ".hypothesis"
)  # what git does not track: a page starts in a fresh clone
KEPT = ("PIP_*", "*_proxy", "*_PROXY", "SSL_CERT_FILE", "LANG")
"""Of the caller's environment only this: how packages are reached. A reader has none of the rest."""
COPYING = 60.0
"""Seconds for whatever is not the page's own: the copy, the pip cache on a slow disk."""
TURN = 600.0
"""Seconds until the pages before have run, those of other test runs on this machine too."""
TURNS = Path(tempfile.gettempdir()) / f"cubeauth-docs-{os.getuid()}.lock"


def blocks_of(page: str) -> list[Block]:
    """Empty for a page that breaks the format, which a test of its own says."""
    try:
        return read_page(page, (ROOT / page).read_text())
    except PageError:
        return []


NOT_RUN = [block for page in PAGES for block in blocks_of(page) if block.not_run is not None]
RUN = {page: [block for block in blocks_of(page) if block.not_run is None] for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_keeps_to_the_format(page: str) -> None:
    assert isinstance(read_page(page, (ROOT / page).read_text()), list)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.name)
def test_a_command_that_is_not_run_is_at_least_bash(block: Block) -> None:
    for step in block.steps:
        done = subprocess.run(["bash", "-n"], check=False, input=step.command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    pytest.skip(f"{block.name} is not run, only checked by bash -n: {block.not_run}")


def reader(home: Path) -> dict[str, str]:
    """The environment of a reader with a new home folder and cubeauth installed."""
    kept = {name: value for name, value in os.environ.items() if any(fnmatch(name, form) for form in KEPT)}
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pip"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        "PIP_CACHE_DIR": str(cache),
        "LANG": "C.UTF-8",
        **kept,
        "HOME": str(home),
        "PATH": path,
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }


def ports_of(page: str) -> list[int]:
    """The loopback ports that a page's reader uses."""
    return sorted({int(port) for port in re.findall(r"127\.0\.0\.1[: ]([0-9]{4,5})\b", (ROOT / page).read_text())})


def is_free(port: int) -> bool:
    """Whether a program of a page could listen there; SO_REUSEADDR, because the page before may have left closed connections."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def turn() -> Iterator[None]:
    """One page after the other, in whichever process: pages write the ports that a reader would use."""
    fd = os.open(TURNS, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.timeout(TURN + COPYING + 2 * ENDING + sum(block.bound for block in blocks)))
        for page, blocks in RUN.items()
        if any(block.steps for block in blocks)
    ],
)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    clone, state, home = (tmp_path / name for name in ("cubeauth", "state", "home"))
    shutil.copytree(ROOT, clone, ignore=NOT_COPIED)
    state.mkdir()
    home.mkdir()
    with turn():
        taken = [port for port in ports_of(page) if not is_free(port)]
        assert not taken, (
            f"{page} needs port {taken[0]}, which another program has: end that one, or run the tests where it is free"
        )
        run_page(RUN[page], clone, reader(home), state)

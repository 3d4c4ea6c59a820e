"""Starting child.py, and ending it whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def child(command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The running child, with pipes on all three; killed and waited for at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.keystore.child", command, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[bytes]) -> str:
    """The next line of its standard output; fails with what it said on standard error if it ended instead."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise AssertionError(f"the child ended: {process.stderr.read().decode()}")
    return line.decode().rstrip("\n")


def read_rest(process: subprocess.Popen[bytes]) -> list[str]:
    """All lines that a killed child got out and nobody has read; fails if it complained of anything."""
    assert process.stdout is not None
    assert process.stderr is not None
    # Not communicate(): that would pass over what readline() has buffered.
    lines, complaints = process.stdout.read().decode().splitlines(), process.stderr.read().decode()
    assert complaints == ""
    return lines

"""`python -m cubeauth_cli.demo.keeper FOLDER`: takes away what the demo leaves, however the demo ends.

It leads the process group that every process of the demo joins, and reads a
pipe that only the demo can write to. One byte says that all is to be kept. The
end of the pipe without it, which a killed demo cannot help to cause, ends the
group and removes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KEEP = b"k"

TRIES = 100
"""A twentieth of a second apart: a killed process may be in the middle of making a file, which makes a removal fail."""


class Keeper:
    """The demo's end of it. `group` is the process group to join."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "cubeauth_cli.demo.keeper", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)  # noqa: S603  ourselves

    @property
    def group(self) -> int:
        return self._process.pid

    def keep(self) -> None:
        """Leave everything as it is."""
        self._process.communicate(KEEP)

    def clear(self) -> None:
        """End what still runs and remove the folder; returns when that is done."""
        # Not `wait` alone: the keeper dies with its group, and whom it sent ahead holds standard output until the folder is gone.
        self._process.communicate()


def keep_watch(folder: Path) -> None:
    """Return when the demo said so or has ended, and is cleared away."""
    if sys.stdin.buffer.read(1) == KEEP:
        return
    group = os.getpgrp()
    if os.fork() == 0:
        os.setpgid(0, 0)  # out of the group, to outlive it
        os.killpg(group, signal.SIGKILL)
        _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


if __name__ == "__main__":
    keep_watch(Path(sys.argv[1]))

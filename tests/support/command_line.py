"""Running the `cubeauth` command line within the test's process, beside a server that runs in its loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from cubeauth_cli.main import main


@dataclass(frozen=True)
class Ran:
    """status: as the process's exit status would be."""

    status: int
    out: str
    err: str

    def line(self) -> str:
        """What a failure must be: status 1 and one line on standard error."""
        assert self.status == 1, self
        assert self.err.startswith("cubeauth: error: "), self
        assert self.err.count("\n") == 1, self
        assert self.err.endswith("\n"), self
        return self.err.removeprefix("cubeauth: error: ").removesuffix("\n")


class CommandLine:
    """Runs in a thread of its own: commands have a loop of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def run(self, *argv: str) -> Ran:
        self._capsys.readouterr()
        status = await asyncio.to_thread(main, argv)
        captured = self._capsys.readouterr()
        return Ran(status, captured.out, captured.err)


def modes(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Files by name, and their permissions in octal."""
    return {file.name: oct(file.stat().st_mode)[-3:] for file in folder.glob(pattern)}

"""The one home of output: results on standard output, everything else on standard error, colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_RED = "\x1b[1;31m"
_PLAIN = "\x1b[0m"

WORTH_A_BAR = 20
"""Requests; fewer are done before a person has read the title."""


def out(text: str) -> None:
    """A result."""
    print(text)


def out_json(value: Any) -> None:
    """A result for programs: one JSON document."""
    print(json.dumps(value, indent=2))


def note(text: str) -> None:
    """What a person may want to know beside the result."""
    print(_printable(text), file=sys.stderr)


def note_lines(text: str) -> None:
    """The same as it stands, blanks and all: only for text that was made here."""
    print(text, file=sys.stderr)


def warning(text: str) -> None:
    note(f"cubeauth: warning: {text}")


def error(text: str) -> None:
    """Why a command failed, in one line, whatever is in `text`: parts of it come from files and servers."""
    word = f"{_RED}error:{_PLAIN}" if _coloured(sys.stderr) else "error:"
    print(f"cubeauth: {word} {_printable(text)}", file=sys.stderr)


def terminal() -> Console:
    """Rich's console on standard output, for commands that people watch; it knows itself what is a terminal."""
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows how much of `total` is done, where that is worth showing; gives what to call for each that is."""
    if total < WORTH_A_BAR or not sys.stdout.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal(), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def flush() -> None:
    """Have it all written now, where a failure can still be told. Raises OSError."""
    if sys.stdout is not None:
        sys.stdout.flush()


def settle() -> None:
    """Let the interpreter end in peace: what standard output does not take goes nowhere, and its last flush succeeds."""
    try:
        flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())

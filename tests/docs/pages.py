"""Reads a page of documentation as a list of things to do: pure. CONTRIBUTING.md describes the format for authors.

A block is a fenced piece of the page with the comments that stand directly before it. Comments that mean something here:
    <!-- not run: REASON -->       checked by `bash -n` and listed, not run
    <!-- file: PATH -->            not a command: the content of a file that the reader writes
    <!-- exits N -->               the last command of the block ends with this status, not 0
    <!-- wait for: COMMAND -->     first wait until this command succeeds (what the block before started is ready)
    <!-- takes up to N s -->       a time bound other than BOUND
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

BOUND = 60.0
"""Seconds that a block may take; the machine is shared."""

SCRIPTS = frozenset({"sh", "bash"})
TRANSCRIPTS = frozenset({"console"})
MISNAMED = frozenset({"shell", "zsh", "shell-session", "shellsession", "terminal", "cmd"})

_MARKS = {
    "not run": re.compile(r"<!-- not run: (.+?) -->"),
    "file": re.compile(r"<!-- file: (\S+) -->"),
    "exits": re.compile(r"<!-- exits (\d+) -->"),
    "wait for": re.compile(r"<!-- wait for: (.+?) -->"),
    "bound": re.compile(r"<!-- takes up to (\d+) s -->"),
}


class PageError(Exception):
    """A page breaks the format; the text names page, line and remedy."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the reader types, and what the page shows as its output: None when it shows nothing."""

    command: str
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: commands, or the content of a file (then `file` is its path and `steps` is empty)."""

    name: str
    steps: tuple[Step, ...] = ()
    file: str | None = None
    content: str = ""
    not_run: str | None = None
    exits: int = 0
    wait_for: str | None = None
    bound: float = BOUND


def read_page(page: str, text: str) -> list[Block]:
    """The blocks of a page that are commands or files, in order. Raises PageError."""
    tokens = MarkdownIt("commonmark").parse(text)
    found = (_block(page, token, _marks(tokens[:i])) for i, token in enumerate(tokens) if token.type == "fence")
    return [block for block in found if block is not None]


def _marks(before: list[Token]) -> dict[str, str]:
    """What the comments directly before a fence say."""
    marks: dict[str, str] = {}
    for token in reversed(before):
        if token.type != "html_block":
            break
        for mark, form in _MARKS.items():
            if said := form.search(token.content):
                marks[mark] = said[1]
    return marks


def _block(page: str, fence: Token, marks: dict[str, str]) -> Block | None:
    name = f"{page}:{fence.map[0] + 1 if fence.map else 0}"
    language = fence.info.split()[0] if fence.info.split() else ""
    if not language:
        raise PageError(f"{name}: a fence without a language: write sh or console for commands, text for anything else")
    if language in MISNAMED:
        raise PageError(f"{name}: {language!r} is not run: write sh, or console where the output is shown")
    if "file" in marks:
        return Block(name=name, file=marks["file"], content=fence.content)
    if language not in SCRIPTS | TRANSCRIPTS:
        return None
    return Block(
        name=name,
        steps=_transcript(name, fence.content) if language in TRANSCRIPTS else (Step(fence.content),),
        not_run=marks.get("not run"),
        exits=int(marks.get("exits", "0")),
        wait_for=marks.get("wait for"),
        bound=float(marks.get("bound", BOUND)),
    )


def _transcript(name: str, content: str) -> tuple[Step, ...]:
    r"""`$ ` begins a command, a backslash at a line's end goes on with it; the rest is output."""
    commands: list[list[str]] = []
    outputs: list[list[str]] = []
    for line in content.splitlines():
        if line.startswith("$ "):
            commands.append([line[2:]])
            outputs.append([])
        elif not commands:
            raise PageError(f"{name}: a console block begins with a command: a line that begins with '$ '")
        elif commands[-1][-1].endswith("\\") and not outputs[-1]:
            commands[-1].append(line.removeprefix("> "))
        else:
            outputs[-1].append(line)
    return tuple(Step("\n".join(c) + "\n", "\n".join(o) if o else None) for c, o in zip(commands, outputs, strict=True))


def shows(expected: str, output: str) -> bool:
    """Whether `output` is what a page shows: `...` stands for any text in a line, alone in a line for any lines."""
    form = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else ".*".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
        for line in expected.strip("\n").splitlines()
    )
    text = "".join(f"{line.rstrip()}\n" for line in output.strip("\n").splitlines())
    return re.fullmatch(form, text) is not None

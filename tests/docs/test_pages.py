"""What finds out that documentation is wrong does find it out."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from tests.docs.pages import Block, PageError, Step, read_page, shows
from tests.docs.terminal import run_page

FENCE = "`" * 3


def page(text: str) -> str:
    return textwrap.dedent(text).replace("'''", FENCE)


def run(text: str, tmp_path: Path) -> Path:
    """Run a page in a folder of its own and give that folder."""
    folder, state = tmp_path / "folder", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    run_page(read_page("page.md", page(text)), folder, {"PATH": os.environ["PATH"]}, state, ending=0.5)
    return folder


def test_commands_are_found_and_other_languages_are_not() -> None:
    text = """
    '''sh
    cubeauth --help
    '''
    '''yaml
    kind: AuthKey
    '''
    1. in a list:
       '''bash
       cubeauth version
       '''
    """
    assert read_page("page.md", page(text)) == [
        Block(name="page.md:2", steps=(Step("cubeauth --help\n"),)),
        Block(name="page.md:9", steps=(Step("cubeauth version\n"),)),
    ]


def test_a_transcript_is_commands_with_what_they_show() -> None:
    text = r"""
    '''console
    $ echo one \
    >   two
    one two
    $ true
    $ ls

    a\
    b
    '''
    """
    (block,) = read_page("page.md", page(text))
    assert block.steps == (Step("echo one \\\n  two\n", "one two"), Step("true\n"), Step("ls\n", "\na\\\nb"))


def test_comments_before_a_block_change_how_it_is_run() -> None:
    text = """
    <!-- wait for: test -e ready -->
    <!-- takes up to 90 s -->
    <!-- exits 3 -->
    '''sh
    exit 3
    '''
    A comment belongs to the block directly behind it.
    <!-- not run: needs Docker -->

    '''sh
    docker ps
    '''
    """
    first, second = read_page("page.md", page(text))
    assert (first.wait_for, first.bound, first.exits, first.not_run) == ("test -e ready", 90.0, 3, None)
    assert (second.wait_for, second.bound, second.exits, second.not_run) == (None, 60.0, 0, "needs Docker")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("'''\nls\n'''", "page.md:1: a fence without a language"),
        ("text\n\n    '''\n\n- list\n  '''\n  ls\n  '''", "page.md:6: a fence without a language"),
        ("'''shell\nls\n'''", "page.md:1: 'shell' is not run"),
        ("'''console\nls\n'''", "page.md:1: a console block begins with a command"),
    ],
)
def test_a_page_that_breaks_the_format_is_told_where(text: str, problem: str) -> None:
    with pytest.raises(PageError) as raised:
        read_page("page.md", page(text))
    assert str(raised.value).startswith(problem)


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a  \nb\n\n", True),
        ("a", "a\nb\n", False),
        ("a\n...\nz", "a\nz\n", True),
        ("a\n...\nz", "a\nb\nc\nz\n", True),
        ("a\n...", "a\nb\n", True),
        ("took ... s", "took 0.3 s\n", True),
        ("took ... s", "took\n0.3 s\n", False),
        ("a.c", "abc\n", False),
        ("", "anything", False),
    ],
)
def test_output_is_compared_but_for_what_dots_stand_for(expected: str, output: str, same: bool) -> None:
    assert shows(expected, output) == same


def test_a_page_runs_from_top_to_bottom_in_one_shell(tmp_path: Path) -> None:
    text = """
    <!-- file: conf/name -->
    '''text
    world
    '''
    '''sh
    cd conf
    greeting=hello
    '''
    '''console
    $ echo "$greeting $(cat name)"
    hello world
    $ echo kept >here
    '''
    """
    assert (run(text, tmp_path) / "conf/here").read_text() == "kept\n"


def test_a_block_waits_for_what_it_needs(tmp_path: Path) -> None:
    text = """
    <!-- wait for: echo try >>tries; test "$(wc -l <tries)" -ge 3 -->
    '''sh
    mv tries after
    '''
    """
    assert (run(text, tmp_path) / "after").read_text() == "try\n" * 3


def test_output_that_is_not_as_shown_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md:2[^$]*\$ echo two\ntwo"):
        run("\n'''console\n$ echo two\none\n'''\n", tmp_path)


def test_a_command_that_fails_ends_the_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"ended with 1 at page.md:1"):
        run("'''sh\nfalse\ntouch after\n'''\n", tmp_path)
    assert not (tmp_path / "folder/after").exists()


@pytest.mark.parametrize("status", [0, 4])
def test_a_status_other_than_the_page_says_fails(status: int, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"status {status}, the page says 3: page.md:2"):
        run(f"<!-- exits 3 -->\n'''sh\n(exit {status})\n'''\n", tmp_path)


def test_a_status_that_the_page_says_is_right(tmp_path: Path) -> None:
    folder = run("<!-- exits 3 -->\n'''sh\n(exit 3)\n'''\n'''sh\ntouch after\n'''\n", tmp_path)
    assert (folder / "after").exists()


def test_a_command_that_does_not_end_is_ended_and_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md:2: not done in 0 s"):
        run("<!-- takes up to 0 s -->\n'''sh\nsleep 300\n'''\n", tmp_path)


def test_a_program_in_the_background_lives_to_the_end_of_its_page_and_no_longer(tmp_path: Path) -> None:
    text = """
    '''sh
    sh -c 'trap "" TERM; echo $$ >pid.new; mv pid.new pid; while :; do sleep 1; done' &
    '''
    <!-- wait for: test -s pid -->
    '''sh
    kill -0 "$(cat pid)"
    '''
    """
    pid = int((run(text, tmp_path) / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"  # nobody may have waited for it yet

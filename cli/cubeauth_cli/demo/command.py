"""`cubeauth demo`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

import click

from cubeauth_cli import console
from cubeauth_cli.app import CONTEXT, json_option
from cubeauth_cli.demo.hints import hints
from cubeauth_cli.demo.keeper import Keeper
from cubeauth_cli.demo.programme import Played, play
from cubeauth_cli.demo.scenes import Story
from cubeauth_cli.demo.show import Show
from cubeauth_cli.demo.stage import Stage
from cubeauth_cli.demo.tamper import Middleman
from cubeauth_cli.endings import ENDED_BY_SIGNAL, FAILED
from cubeauth_runtime.clock import SystemClock


def examples_folder() -> Path:
    """The manifests that come with this package; in a source tree, those of the tree."""
    here = Path(__file__).parent / "examples"
    return here if here.is_dir() else Path(__file__).parents[3] / "examples"


@click.command("demo", context_settings=CONTEXT)
@json_option
@click.option("--keep", is_flag=True, help="Leave everything running, and say how to talk to it and how to end it.")
@click.option(
    "--examples", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Other manifests than those shipped."
)
def command(as_json: bool, keep: bool, examples: Path | None) -> int:
    """Show the whole of it on this machine: keys, a ticket, an authenticated connection, and who is refused.

    Real processes on loopback, everything in a temporary folder. The exit status is 0 only when every step ended as it must.
    """
    folder = Path(tempfile.mkdtemp(prefix="cubeauth-demo-"))
    keeper = Keeper(folder)
    stage = Stage(folder, examples or examples_folder(), keeper.group)
    told: list[signal.Signals] = []
    kept = False
    try:
        ok = asyncio.run(_run(stage, told, as_json=as_json, keep=keep))
        kept = keep and ok
    except asyncio.CancelledError:
        if not told:
            raise
        with contextlib.suppress(OSError):  # a closed terminal takes no words
            console.note(f"cubeauth: ended by {told[0].name}")
        return ENDED_BY_SIGNAL + told[0]
    finally:
        (keeper.keep if kept else keeper.clear)()
    if kept:
        console.note(f"Left running in {stage.folder}.")
        for hint in hints(stage):
            console.note_lines(str(hint))
    return 0 if ok else FAILED


def _end_when_told(told: list[signal.Signals]) -> None:
    """SIGTERM and a closed terminal end the running task as Ctrl-C does; `told` then holds which it was."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end(number: signal.Signals) -> None:
        told.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, end, number)


async def _run(stage: Stage, told: list[signal.Signals], *, as_json: bool, keep: bool) -> bool:
    """Whether all went well; unless `keep`, and where it did not, every process has ended."""
    _end_when_told(told)
    clock = SystemClock()
    started = clock.monotonic()
    story = Story(stage, Middleman(0))
    show = Show(console.terminal())
    steps: list[Played] = []
    ok = False
    try:
        stage.lay_out()
        if as_json:
            ok = await play(story, clock, lambda _step: None, steps.append)
            console.out_json({"ok": ok, "steps": [played.to_json() for played in steps]})
        else:
            show.opening(str(stage.folder))
            ok = await play(story, clock, show.begun, show.ended)
            show.closing(ok, clock.monotonic() - started)
    finally:
        show.rest()
        if story.middleman.port:
            await story.middleman.close()
        if not (keep and ok):
            await stage.clear()
    return ok

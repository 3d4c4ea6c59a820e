"""What a person sees of the demo: a line when a step begins, a mark when it has ended, and why somebody was refused."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from cubeauth.errors import AUTHENTICATION_FAILED
from cubeauth_cli.demo.programme import Played, Step

GOOD = "[bold green]✓[/]"
REFUSED = "[bold yellow]✗[/]"
FAILED = "[bold red]✗ not as it must be[/]"
WIDTH = 34


class Show:
    """On a terminal, with a spinner for the step under way; elsewhere the same lines without colour."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._refusals = False

    def opening(self, folder: str) -> None:
        self._console.print("[bold]cubeauth demo[/]: a key, a ticket, an authenticated connection")
        self._print("[dim]real processes on this machine; everything is in[/]")
        self._print(f"[dim]{escape(folder)}[/]\n")

    def begun(self, step: Step) -> None:
        if step.refusal and not self._refusals:
            self._refusals = True
            self._console.print("\n[bold]Who has no right is refused.[/] The wire says one thing to all:")
            self._console.print(f"[dim]{AUTHENTICATION_FAILED}.[/] Why, the audit line of the refusing side tells:")
        self._status = self._console.status(escape(step.title))
        self._status.start()

    def ended(self, played: Played) -> None:
        self.rest()
        title = escape(played.step.title)
        if played.problem:
            self._print(f"{FAILED} {title}: {escape(played.problem)}")
        elif played.step.refusal:
            reason = escape(str(played.outcome.audit.get("reason", "")))
            wire = "" if played.outcome.wire == AUTHENTICATION_FAILED else f"  [dim]({escape(played.outcome.wire)})[/]"
            self._print(f"{REFUSED} {title:<{WIDTH}} [cyan]{reason}[/]{wire}")
        else:
            self._print(f"{GOOD} {title}")
        for line in played.outcome.told:
            self._print(f"  [dim]{escape(line)}[/]")

    def rest(self) -> None:
        """No step is under way any more: the terminal has its cursor back."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _print(self, text: str) -> None:
        """A line as it is: a path that is too long for the terminal is wrapped by it, and can be copied whole."""
        self._console.print(text, soft_wrap=True)

    def closing(self, ok: bool, seconds: float) -> None:
        if ok:
            self._console.print(f"\n[bold green]Every step was as it must be[/] ({seconds:.0f} s).")
        else:
            self._console.print("\n[bold red]The demo stopped at a step that was not as it must be.[/]")

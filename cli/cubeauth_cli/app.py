"""The click group behind `cubeauth`: commands by name from the table, imported one by one."""

from __future__ import annotations

import importlib
from typing import Any

import click

from cubeauth_cli import endings
from cubeauth_cli.commands import COMMANDS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

HELP = """Authentication for CubeFS: an Authnode, its administration, and secured connections.

An Authnode gives tickets to who holds a key. `cubeauth COMMAND --help` says what a command takes.
"""


class LazyGroup(click.Group):
    """Knows names and help lines from the table; imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        with endings.needing(entry.extra):
            command = importlib.import_module(entry.module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


class RawCommand(click.Command):
    """A command that reads its arguments itself: click's rules for dashes are not those of Go's flag package."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = list(args)
        return []


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def group() -> click.Group:
    return LazyGroup("cubeauth", help=HELP, context_settings=dict(CONTEXT), no_args_is_help=False, callback=None)


def run(arguments: list[str]) -> int:
    """One command line. Raises CubeauthError, KeyboardInterrupt."""
    try:
        status: Any = group().main(arguments or ["--help"], prog_name="cubeauth", standalone_mode=False)
    except click.UsageError as e:
        see = f"; see {e.ctx.command_path} --help" if e.ctx is not None else ""
        raise endings.UsageError(e.format_message().rstrip(".") + see) from None
    except click.ClickException as e:
        raise endings.UsageError(e.format_message()) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0

"""Every command: its name, where it lives, what it needs, and its line in `cubeauth --help`.

A command is a click command in a module of its own, imported when it is used.
What its callback returns is the exit status; None is 0. It raises
CubeauthError for what goes wrong and prints through `console` alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """module: its name, whose attribute `command` is the click command; extra: what must be installed."""

    module: str
    help: str
    extra: str = "cli"


COMMANDS = {
    "apply": Entry("cubeauth_cli.apply.command", "Make keys, capabilities and key files what manifests say."),
    "authnode": Entry("cubeauth_cli.authnode.command", "Run an Authnode; copy, restore and fill its keystore.", "authnode"),
    "authtool": Entry("cubeauth_cli.authtool", "Tickets, keys and capabilities: a drop-in for cfs-authtool."),
    "demo": Entry("cubeauth_cli.demo.command", "Show it all on this machine: keys, a ticket, a connection, refusals.", "all"),
    "sidecar": Entry("cubeauth_cli.sidecar", "Run a sidecar.", "sidecar"),
    "version": Entry("cubeauth_cli.version", "Show the versions of cubeauth and of what it runs on."),
}

"""`cubeauth authnode` and its verbs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cubeauth_cli import console, endings
from cubeauth_cli.administrator import administrator
from cubeauth_cli.app import CONTEXT, json_option
from cubeauth_cli.authnode import importing
from cubeauth_runtime.clock import SystemClock

if TYPE_CHECKING:
    from cubeauth_authnode.config import AuthnodeConfig
    from cubeauth_authnode.keystore.backup import Facts

config_option = click.option("-c", "--config", type=Path, metavar="FILE", help="A stock Authnode's JSON, or our YAML.")


@click.group("authnode", context_settings=CONTEXT, invoke_without_command=True)
@config_option
@click.option("--accept-older-store", is_flag=True, help="Go on with a keystore that is older than its witness.")
@click.pass_context
def command(context: click.Context, config: Path | None, accept_older_store: bool) -> int:
    """Run an Authnode until it is told to stop, or do something with its keystore."""
    if context.invoked_subcommand is not None:
        if accept_older_store:
            raise endings.UsageError(f"--accept-older-store is for starting the Authnode, not for {context.invoked_subcommand}")
        return 0
    path = _path(context, config)
    with endings.needing("authnode"):
        from cubeauth_authnode import app
    return app.run(path, app.Options(accept_older_store=accept_older_store))


def _path(context: click.Context, given: Path | None) -> Path:
    """-c, which may stand in front of the verb or behind it."""
    above = None if context.parent is None else context.parent.params.get("config")
    path = given or above
    if not isinstance(path, Path):
        raise endings.UsageError(f"Missing option '-c'; see {context.command_path} --help")
    return path


def _load(context: click.Context, given: Path | None) -> AuthnodeConfig:
    with endings.needing("authnode"):
        from cubeauth_authnode import config
    return config.load(_path(context, given))


def _store(config: AuthnodeConfig) -> Path:
    with endings.needing("authnode"):
        from cubeauth_authnode.app import STORE_FILE
    return config.store / STORE_FILE


@command.command("backup", context_settings=CONTEXT)
@config_option
@click.option("--to", "target", type=Path, metavar="FILE", help="Copy the keystore to this new file; the Authnode may run.")
@click.option("--check", "checked", type=Path, metavar="FILE", help="Look at a copy; with -c every key in it is opened.")
@json_option
@click.pass_context
def backup(context: click.Context, config: Path | None, target: Path | None, checked: Path | None, as_json: bool) -> None:
    """Copy the keystore while it is in use, or check such a copy.

    A copy is whole in one file and needs the root key to be of use: keep that elsewhere.
    """
    with endings.needing("authnode"):
        from cubeauth_authnode.keystore import backup as copies
    if (target is None) == (checked is None):
        raise endings.UsageError("Write --to FILE to make a copy, or --check FILE to look at one")
    if checked is not None:
        above = context.parent.params.get("config") if context.parent is not None else None
        root_key = _load(context, config).root_key if config or above else None
        facts, file, said = copies.check(checked, root_key=root_key), checked, "a good copy"
    else:
        assert target is not None
        loaded = _load(context, config)
        facts, file, said = copies.backup(_store(loaded), target, root_key=loaded.root_key), target, "a copy, checked"
    if as_json:
        console.out_json({"file": str(file), **asdict(facts)})
        return
    console.out(f"{file}: {said}: {_told(facts)}")


def _told(facts: Facts) -> str:
    keys = "1 key" if facts.keys == 1 else f"{facts.keys} keys"
    depth = "" if facts.authenticated else "; not opened: with -c FILE the root key would tell more"
    return f"{keys} of keystore {facts.keystore_id} at write {facts.sequence}, schema version {facts.schema_version}{depth}"


@command.command("restore", context_settings=CONTEXT)
@config_option
@click.option("--from", "source", required=True, type=Path, metavar="FILE", help="The copy.")
@click.option("--replace", is_flag=True, help="Put it in the place of the keystore that is there, which is kept aside.")
@json_option
@click.pass_context
def restore(context: click.Context, config: Path | None, source: Path, replace: bool, as_json: bool) -> None:
    """Put a copy back where the keystore was; the Authnode must not run.

    Where the copy is older than what was lost, the Authnode says so at its next start and asks for --accept-older-store.
    """
    with endings.needing("authnode"):
        from cubeauth_authnode.keystore import backup as copies
    loaded = _load(context, config)
    store = _store(loaded)
    restored = copies.restore(source, store, root_key=loaded.root_key, replace=replace)
    if as_json:
        console.out_json({"file": str(store), **asdict(restored.facts), "kept": [str(path) for path in restored.kept]})
        return
    console.out(f"{store}: restored: {_told(restored.facts)}")
    for kept in restored.kept:
        console.out(f"{kept}: kept; delete it when it is needed no more")


@command.command("import", context_settings=CONTEXT)
@config_option
@click.option("--from", "address", required=True, metavar="URL", help="The Authnode that has the keys, of stock CubeFS or ours.")
@click.option(
    "--admin-key", required=True, type=Path, metavar="FILE", help="Key file of its AuthService or another administrator."
)
@click.option(
    "--ids", "ids_file", required=True, type=Path, metavar="FILE", help="Whose keys: one id a line; # begins a comment."
)
@click.option("--ca-file", type=Path, metavar="FILE", help="The CA to trust for https, in place of the system's.")
@json_option
@click.pass_context
def import_(
    context: click.Context,
    *,
    config: Path | None,
    address: str,
    admin_key: Path,
    ids_file: Path,
    ca_file: Path | None,
    as_json: bool,
) -> int:
    """Take keys over from another Authnode as they are, so that who holds one goes on with it.

    Our Authnode must not run meanwhile. A key that is there already with all the same is left; nothing is ever changed.
    """
    loaded = _load(context, config)
    asked = importing.read_ids(ids_file)
    admin = administrator(address, admin_key, ca_file, option="--from", clock=SystemClock())
    told: list[dict[str, Any]] = []

    def say(result: importing.Result) -> None:
        told.append({"id": result.id, "outcome": result.outcome.value, "text": result.text})
        if as_json:
            return
        for warning in result.warnings:
            console.warning(f"{result.id}: {warning}")
        if result.outcome is importing.Outcome.REFUSED:
            console.error(f"{result.id}: {result.text}")
        else:
            console.out(f"{result.id}: {result.text}")

    counted = importing.import_keys(loaded, admin, asked, SystemClock(), say)
    if as_json:
        console.out_json({"keys": told, **{outcome.value: counted[outcome] for outcome in importing.Outcome}})
    else:
        console.out(", ".join(f"{outcome.value}: {counted[outcome]}" for outcome in importing.Outcome))
    return endings.FAILED if counted[importing.Outcome.REFUSED] else 0

"""`cubeauth sidecar`."""

from __future__ import annotations

from pathlib import Path

import click

from cubeauth_cli import endings
from cubeauth_cli.app import CONTEXT


@click.command("sidecar", context_settings=CONTEXT)
@click.option("-c", "--config", required=True, type=Path, metavar="FILE", help="Its YAML or JSON file.")
def command(config: Path) -> int:
    """Run a sidecar until it is told to stop."""
    with endings.needing("sidecar"):
        from cubeauth_sidecar import app
    return app.run(config)

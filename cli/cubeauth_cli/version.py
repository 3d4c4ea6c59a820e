"""`cubeauth version`."""

from __future__ import annotations

import platform
from importlib import metadata

import click
from cryptography.hazmat.backends.openssl import backend

from cubeauth_cli import console
from cubeauth_cli.app import CONTEXT, json_option


@click.command("version", context_settings=CONTEXT)
@json_option
def command(as_json: bool) -> None:
    """Show the versions of cubeauth and of what it runs on."""
    versions = {
        "cubeauth": _version("cubeauth"),
        "python": platform.python_version(),
        "cryptography": _version("cryptography"),
        "openssl": backend.openssl_version_text().removeprefix("OpenSSL "),
    }
    if as_json:
        console.out_json(versions)
        return
    for name, value in versions.items():
        console.out(f"{name} {value}")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed (running from its sources)"

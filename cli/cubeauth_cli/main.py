"""The entry of `cubeauth`, and of `cfs-authtool` where it is installed under that name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath

from cubeauth_cli import endings

DROP_IN_NAME = "cfs-authtool"
"""A link of this name to `cubeauth` is `cubeauth authtool`, for scripts that call stock's tool."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, by default this process's. The exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None and PurePath(sys.argv[0]).name == DROP_IN_NAME:
        arguments.insert(0, "authtool")
    return endings.contain(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    with endings.needing("cli"):
        from cubeauth_cli import app
    return app.run(arguments)


if __name__ == "__main__":
    sys.exit(main())

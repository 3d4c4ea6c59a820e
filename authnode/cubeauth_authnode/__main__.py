"""`python -m cubeauth_authnode -c FILE`: the Authnode without the command line's extra."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cubeauth.errors import CubeauthError
from cubeauth_authnode import app


def main() -> int:
    parser = argparse.ArgumentParser(prog="cubeauth_authnode", description="The Authnode.")
    parser.add_argument("-c", "--config", required=True, type=Path, help="stock JSON or our YAML")
    parser.add_argument("--accept-older-store", action="store_true", help="go on with a keystore that is older than its witness")
    arguments = parser.parse_args()
    try:
        return app.run(arguments.config, app.Options(accept_older_store=arguments.accept_older_store))
    except CubeauthError as e:
        print(f"cubeauth authnode: error: {e}", file=sys.stderr)  # noqa: T201 - the one line of a process without the cli
        return 1


if __name__ == "__main__":
    sys.exit(main())

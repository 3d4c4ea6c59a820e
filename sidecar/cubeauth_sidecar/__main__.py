"""`python -m cubeauth_sidecar -c FILE`: the sidecar without the command line's extra."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cubeauth.errors import CubeauthError
from cubeauth_sidecar import app


def main() -> int:
    parser = argparse.ArgumentParser(prog="cubeauth_sidecar", description="The sidecar.")
    parser.add_argument("-c", "--config", required=True, type=Path, help="its YAML or JSON file")
    try:
        return app.run(parser.parse_args().config)
    except CubeauthError as e:
        print(f"cubeauth sidecar: error: {e}", file=sys.stderr)  # noqa: T201 - the one line of a process without the cli
        return 1


if __name__ == "__main__":
    sys.exit(main())

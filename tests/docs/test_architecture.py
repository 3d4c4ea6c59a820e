"""docs/architecture.md shows the layers that import-linter holds."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tests.docs.tables import read_tables

ROOT = Path(__file__).resolve().parents[2]


def layers(contract: str) -> list[set[str]]:
    """The layers of a contract of pyproject.toml, from the top."""
    contracts: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = next(each for each in contracts if each["name"] == contract)
    return [{name.strip() for name in layer.split("|")} for layer in found["layers"]]


def test_the_layers_of_the_packages() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    drawn = text.partition("## Layers")[2].partition("```text\n")[2].partition("```")[0]
    assert [{name.strip() for name in line.split("|")} for line in drawn.splitlines()] == layers("packages: who may import whom")


def test_the_layers_inside_the_core() -> None:
    (table,) = [table for table in read_tables("../architecture.md") if "layer" in table.columns]
    shown = [{name.strip(" `") for name in row.cells["module"].split(",")} for row in table.rows]
    assert shown == layers("protocol layers")

"""Reads the tables of a reference page: which things it names, and what it says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"

_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: the code in its first cell (a cell may name several things), and its cells by their column's name."""

    names: tuple[str, ...]
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """heading: the one that it stands under; columns: its first row."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def names(self) -> list[str]:
        return [name for row in self.rows for name in row.names]


def read_tables(page: str) -> list[Table]:
    """The tables of docs/reference/PAGE, in order."""
    found, heading = [], ""
    tokens = MarkdownIt("commonmark").enable("table").parse((REFERENCE / page).read_text())
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[i + 1].content
        elif token.type == "table_open":
            found.append(_table(heading, tokens[i:]))
    return found


def _table(heading: str, tokens: list[Token]) -> Table:
    """The table that `tokens` begin with."""
    lines: list[list[str]] = []
    for i, token in enumerate(tokens):
        if token.type == "tr_open":
            lines.append([])
        elif token.type in ("th_open", "td_open"):
            lines[-1].append(tokens[i + 1].content)
        elif token.type == "table_close":
            break
    columns, *rows = lines
    return Table(
        heading,
        tuple(columns),
        tuple(Row(tuple(_CODE.findall(cells[0])), dict(zip(columns, cells, strict=True))) for cells in rows),
    )


def names(page: str, *headings: str) -> list[str]:
    """What the tables under these headings name in their first column."""
    tables = [table for table in read_tables(page) if table.heading in headings]
    missing = set(headings) - {table.heading for table in tables}
    assert not missing, f"docs/reference/{page} has no table under {', '.join(missing)}"
    return [name for table in tables for name in table.names]

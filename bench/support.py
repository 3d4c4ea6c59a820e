"""What the benchmarks share: the machine's line, medians, programs that must be there, a table and its JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def need(*programs: str) -> None:
    """End with one line where a program is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        sys.exit(f"bench: not installed: {', '.join(missing)}; on Debian: apt-get install {' '.join(missing)}")


def machine() -> str:
    """Processor, count, kernel, Python and the date: what a figure is worth nothing without."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    today = datetime.now(UTC).date().isoformat()
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}, {today}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def resident_mib(pid: int, *, without: str) -> float:
    """Resident memory of a process, MiB, less what it maps of files named `without`."""
    total, counted = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):  # the head of a mapping: its addresses first, its file's name last
            counted = not line.endswith(without)
        elif first == "Rss:" and counted:
            total += int(line.split()[1])
    return total / 1024


@dataclass(frozen=True)
class Row:
    """One line of a result. figures: text as shown; values: the same for --json."""

    name: str
    figures: tuple[str, ...]
    values: dict[str, Any]


def report(title: str, columns: tuple[str, ...], rows: Sequence[Row], notes: Sequence[str], *, as_json: bool) -> None:
    """Print the table, or all of it as one JSON object."""
    if as_json:
        print(json.dumps({"title": title, "machine": machine(), "rows": [{"name": r.name, **r.values} for r in rows]}, indent=2))
        return
    print(f"{title}\n{machine()}\n")
    table = [("", *columns), *((r.name, *r.figures) for r in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))))
    print()
    for note in notes:
        print(note)

"""docs/protocol-v1.md says what the code does: its tables and its worked example are held against code and vectors."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import f3

from cubeauth.errors import Reason
from cubeauth.frames import FrameType
from cubeauth.messages import ADMIN_ROUTES
from cubeauth.phases import STEPS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "protocol-v1.md").read_text("utf-8")


def _rows(heading: str) -> list[list[str]]:
    """The cells of every table row between this heading and the next one."""
    section = TEXT.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows][1:]


def test_the_table_of_phases_is_the_codes() -> None:
    documented = {tuple(row) for row in _rows("### 1.10 Phases")}
    code = {
        (role.value, phase.value, kind.name, step.form.value, step.after.value if step.after else "open or raw")
        for (role, phase, kind), step in STEPS.items()
    }
    assert documented == code


def test_the_table_of_frames_is_the_codes() -> None:
    assert [(int(row[0]), row[1]) for row in _rows("### 1.2 Frames")] == [(int(kind), kind.name) for kind in FrameType]


def test_the_table_of_routes_is_the_codes() -> None:
    documented = [(row[0], int(row[1], 16), row[2], row[3].split()[0]) for row in _rows("### 3.3 Admin requests")]
    assert documented == [(route.path, int(route.type), route.capability, route.payload) for route in ADMIN_ROUTES]


def test_every_reason_in_the_text_is_one() -> None:
    named = {name for row in _rows("### 1.9 ERROR")[3:] for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert named <= {reason.value for reason in Reason}
    assert {"no_ticket", "other_service", "capability_missing", "ticket_expired", "bad_record"} <= named


def test_the_worked_example_is_the_vectors() -> None:
    example = TEXT.split("### 1.11", 1)[1].split("### 1.12", 1)[0]
    known = str(f3.case("sealed")) + f3.UNIFORM_ERROR.hex()
    values = re.findall(r"\b[0-9a-f]{24,}\b", example)
    assert len(values) >= 14
    assert [value for value in values if value not in known] == []
    assert f3.UNIFORM_ERROR.hex() in values

"""Audit lines: one JSON object each, whatever a peer chose; written whole, in order, and to the file of that name."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeauth.errors import InputError
from cubeauth_runtime import audit
from cubeauth_runtime.audit import FLUSH_BYTES, Audit

NOW = 1_800_000_000.123456


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_a_granted_ticket_and_any_other_line_say(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    it = Audit(path)
    it.granted("ltptest", "MasterService", "0" * 32, "192.0.2.1", NOW)
    it.write("createkey", "refused", "192.0.2.1", NOW, reason="capability_missing", client="adm", target="")
    assert path.read_text() == "", "gathered first"
    it.flush()
    assert lines(path) == [
        {
            "time": 1800000000.123,
            "event": "ticket",
            "outcome": "granted",
            "client": "ltptest",
            "service": "MasterService",
            "jti": "0" * 32,
            "from": "192.0.2.1",
        },
        {
            "time": 1800000000.123,
            "event": "createkey",
            "outcome": "refused",
            "reason": "capability_missing",
            "client": "adm",
            "target": "",
            "from": "192.0.2.1",
        },
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    it.close()


@given(
    text=st.text() | st.sampled_from(['","outcome":"granted', "\n{}", "\ud800", "\x1b[2J", "é" * 500]), others=st.lists(st.text())
)
def test_no_text_of_a_peer_leaves_its_place(text: str, others: list[str]) -> None:
    reading, writing = os.pipe()
    it = Audit(Path(f"/proc/self/fd/{writing}"))
    it.write("ticket", "refused", "192.0.2.1", NOW, claimed=text, ignored=others)
    it.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as f:
        written = f.read()
    assert len(written) < FLUSH_BYTES * 2
    assert written.isascii()
    assert written.count(b"\n") == 1
    line = json.loads(written)
    assert (line["event"], line["outcome"], line["claimed"]) == ("ticket", "refused", text[:64])
    assert line["ignored"] == [other[:64] for other in others[:8]]


def test_lines_leave_in_pieces_that_a_pipe_takes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        pieces.append(bytes(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    it = Audit(tmp_path / "audit.log")
    for number in range(300):
        it.granted("c" * (number % 22), "MasterService", "0" * 32, "192.0.2.1", NOW)
        it.write("ticket", "refused", "192.0.2.1", NOW, reason="bad_envelope", claimed="é" * 64)
    it.close()
    assert len(pieces) > 10
    assert all(len(piece) <= FLUSH_BYTES and piece.endswith(b"\n") for piece in pieces)
    assert len(lines(tmp_path / "audit.log")) == 600


def test_after_a_rotation_lines_go_to_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    it = Audit(path)
    it.write("a", "done", "", NOW)
    path.rename(tmp_path / "audit.log.1")
    it.write("b", "done", "", NOW)
    it.reopen()
    it.write("c", "done", "", NOW)
    it.close()
    assert [line["event"] for line in lines(tmp_path / "audit.log.1")] == ["a", "b"]
    assert [line["event"] for line in lines(path)] == ["c"]


def test_a_file_that_cannot_be_opened_is_named_and_the_one_before_stays(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    it = Audit(folder / "audit.log")
    folder.rename(tmp_path / "moved")
    with pytest.raises(InputError) as caught:
        it.reopen()
    assert str(caught.value) == (
        f"auditFile: {folder}/audit.log cannot be opened: No such file or directory; name a file in a folder that can be written"
    )
    it.write("a", "done", "", NOW)
    it.close()
    assert [line["event"] for line in lines(tmp_path / "moved" / "audit.log")] == ["a"]


def test_a_disk_that_is_full_is_an_error() -> None:
    it = Audit(Path("/dev/full"))
    it.write("a", "done", "", NOW)
    with pytest.raises(OSError, match="No space left"):
        it.flush()
    it.close()


def test_a_full_pipe_is_waited_for_also_where_somebody_made_it_non_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    for fd in (reading, writing):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
    monkeypatch.setattr(audit, "STDOUT", writing)
    it = Audit(None)
    count = 3000

    def write_all() -> None:
        for number in range(count):
            it.write("a", "done", "", NOW, number=number)
        it.close()

    writer = threading.Thread(target=write_all)
    writer.start()
    os.set_blocking(reading, True)
    with os.fdopen(reading, "r") as f:
        numbers = [json.loads(f.readline())["number"] for _ in range(count)]
    writer.join()
    os.close(writing)
    assert numbers == list(range(count))

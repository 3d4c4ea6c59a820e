"""f3-v1-ours.json: fresh, right by a second reckoning that calls no code of ours, and taken by both ends."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tests.support import f3, vectors
from tests.vectors import make_f3_ours

from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.entropy import scripted
from cubeauth.exchange import TicketGrant
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes


@cache
def _file() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(make_f3_ours.FILE.read_bytes())
    return value


SESSIONS = [session["name"] for session in _file()["sessions"]]


def _session(name: str) -> dict[str, Any]:
    (found,) = [session for session in _file()["sessions"] if session["name"] == name]
    return dict(found)


def test_the_file_is_fresh() -> None:
    assert make_f3_ours.FILE.read_text("utf-8") == make_f3_ours.text(), "run: python -m tests.vectors.make_f3_ours"


@pytest.mark.parametrize("name", [name for name in SESSIONS if "key_c2s" in _session(name)])
def test_keys_numbers_and_records_are_right_by_cryptography_alone(name: str) -> None:
    session = _session(name)
    session_key = bytes.fromhex(session["session_key"])
    frames = [bytes.fromhex(step["frame"]) for step in session["steps"][:4]]
    s_n, s_c = bytes.fromhex(session["draws"]["S"][0]), bytes.fromhex(session["draws"]["C"][0])
    assert vectors.stock_open(session_key, frames[1][12:].decode()).plaintext == s_n
    assert vectors.stock_open(session_key, frames[2][12:].decode()).plaintext == s_c + _plus_one(s_n)
    if "altered" not in session["steps"][3]:
        assert vectors.stock_open(session_key, frames[3][12:].decode()).plaintext == _plus_one(s_c)
        assert hashlib.sha256(b"".join(frames)).hexdigest() == session["transcript_sha256"]
    for side, info in (("C", b"cubeauth f3 c2s"), ("S", b"cubeauth f3 s2c")):
        hkdf = HKDF(SHA256(), 32, s_n + s_c, info + bytes.fromhex(session["transcript_sha256"]))
        key = hkdf.derive(session_key)
        assert key.hex() == session[{"C": "key_c2s", "S": "key_s2c"}[side]]
        _check_records(key, [step for step in session["steps"] if step["from"] == side and "plaintext" in step])


def _plus_one(number: bytes) -> bytes:
    return ((int.from_bytes(number, "little") + 1) % (1 << 64)).to_bytes(8, "little")


def _check_records(key: bytes, steps: list[dict[str, Any]]) -> None:
    assert [step["record"] for step in steps] == list(range(len(steps)))
    for step in steps:
        sealed = AESGCM(key).encrypt(step["record"].to_bytes(12, "big"), bytes.fromhex(step["plaintext"]), _header(step))
        assert (_header(step) + sealed).hex() == step["frame"]


def _header(step: dict[str, Any]) -> bytes:
    return f3.frame_bytes(step["type"], bytes(len(step["plaintext"]) // 2 + 16))[:12]


@pytest.mark.parametrize("feeding", f3.FEEDINGS)
@pytest.mark.parametrize("name", [name for name in SESSIONS if name != "the largest record; a long write"])
def test_each_end_alone_reports_what_the_file_says_in_any_cut(name: str, feeding: str) -> None:
    session = _session(name)
    mode = Mode(session["mode"])
    holder = TicketGrant(
        session["client_id"],
        session["service_id"],
        session["ticket"],
        SecretBytes(bytes.fromhex(session["session_key"])),
        0,
        session["exp"],
    )
    draws = {side: scripted(*(bytes.fromhex(drawn) for drawn in session["draws"][side])) for side in "CS"}
    client = ClientChannel(holder, mode, draws["C"], f3.NOW)
    key = SecretBytes(bytes.fromhex(session["service_key"]))
    listener = f3.acceptor(mode=mode, service_keys=lambda: (key,), requirement=session["requirement"])
    ends = {"C": f3.End(client), "S": f3.End(ServerChannel(listener, draws["S"], f3.NOW))}
    client.start()
    for step in session["steps"]:
        end = ends["S" if step["from"] == "C" else "C"]
        data = bytes.fromhex(step.get("frame") or step["raw"])
        before = len(end.events)
        for piece in f3.FEEDINGS[feeding](data) if "frame" in step else [data]:
            end.feed(piece, step.get("now", f3.NOW))
        assert [make_f3_ours._reported(event) for event in end.events[before:]] == step["reported"]


def test_the_largest_record_and_a_long_write_are_as_told() -> None:
    session = _session("the largest record; a long write")
    key = AESGCM(bytes.fromhex(session["key_c2s"]))
    pattern = make_f3_ours.pattern
    write = pattern(600_000)
    plaintexts = [pattern(1024 * 1024 - 16), write[:262_144], write[262_144:524_288], write[524_288:]]
    for number, (plaintext, step) in enumerate(zip(plaintexts, session["steps"][6:], strict=True), start=1):
        header = f3.frame_bytes(6, bytes(len(plaintext) + 16))[:12]
        frame = header + key.encrypt(number.to_bytes(12, "big"), plaintext, header)
        assert (len(frame), hashlib.sha256(frame).hexdigest()) == (step["length"], step["sha256"])
        assert (frame[:12].hex(), frame[-16:].hex()) == (step["first"], step["last"])

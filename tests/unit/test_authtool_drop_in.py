"""Our authtool in the place of cfs-authtool: every recorded command line of stock's, run in the order of recording."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import vectors
from tests.support.command_line import CommandLine, Ran, modes
from tests.support.fake_authnode import FakeAuthnode

from cubeauth import ids, strictjson
from cubeauth.keys import KeyFile, KeyRecord
from cubeauth.secret import SecretBytes

RECORDED_HOST = "-host=127.0.0.1:8499"
REFUSED_HERE = {
    "bad role": "d.json: role: 'root' is no role; write client or service",
    "bad caps": 'd.json: caps: not JSON; write {"API": ["node:object:action"]}',
    "bad id": "d.json: id: '1x' is not an id; an id has 1 to 21 letters, digits or _, a letter first",
    "object node: bad access key": "d.json: access_key: not 16 letters and digits; copy the member access_key from a key file",
}
"""What stock's tool sends for the server to refuse; ours names the file's member and sends nothing."""


def created() -> dict[str, KeyRecord]:
    """Every key that the recorded Authnode made."""
    made: dict[str, KeyRecord] = {}
    for exchange in vectors.exchanges():
        if exchange.path == "/admin/createkey" and exchange.stock_answer == "granted":
            info = exchange.granted["key_info"]
            made[info["id"]] = KeyRecord(
                id=info["id"],
                kvno=1,
                role=ids.Role(info["role"]),
                auth_key=SecretBytes(strictjson.b64decode(info["auth_key"])),
                access_key=info["access_key"],
                secret_key=SecretBytes(info["secret_key"].encode()),
                create_ts=info["create_ts"],
                caps=strictjson.b64decode(info["caps"]).decode(),
            )
    return made


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAuthnode]:
    monkeypatch.chdir(tmp_path)
    server = FakeAuthnode(vectors.auth_service_key(), stock=True, prepared=created())
    await server.start()
    yield server
    await server.stop()


def data_file(request: dict[str, Any]) -> str:
    """The -data file behind a recorded request: its payload as a person writes it."""
    (payload,) = (value for name, value in request.items() if name != "api_req")
    members = {name: value for name, value in payload.items() if value}
    if "caps" in members:
        members["caps"] = strictjson.b64decode(members["caps"]).decode()
    return json.dumps(members)


def without_proof(request: dict[str, Any]) -> dict[str, Any]:
    """A request less what differs each time: verifier and ticket."""
    members = {name: value for name, value in request.items() if name not in ("verifier", "ticket")}
    if "api_req" in members:
        members["api_req"] = without_proof(members["api_req"])
    return members


def as_file(record: KeyRecord) -> dict[str, Any]:
    info = KeyFile(
        record.id, record.auth_key, record.access_key, record.secret_key, record.create_ts, record.role.value, record.caps
    )
    value: dict[str, Any] = json.loads(info.to_json())
    return value


async def test_every_recorded_command_line(fake: FakeAuthnode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = KeyFile(ids.AUTH_SERVICE, SecretBytes(vectors.auth_service_key()))
    (tmp_path / "authservice.json").write_text(service.to_json())
    command_line = CommandLine(capsys)
    entries = vectors.recording()["authtool"]
    for entry in entries:
        recorded = vectors.exchange(entry["name"])
        argv = [f"-host={fake.address}" if a == RECORDED_HOST else a for a in entry["argv"]]
        for argument in argv:
            if argument.startswith("-data="):
                (tmp_path / argument.removeprefix("-data=")).write_text(data_file(recorded.request))
        sent_before = len(fake.seen)
        ran = await command_line.run("authtool", *argv)
        if entry["name"] in REFUSED_HERE:
            assert ran.line() == REFUSED_HERE[entry["name"]]
            assert len(fake.seen) == sent_before, entry["name"]
            continue
        assert len(fake.seen) == sent_before + 1, entry["name"]
        path, request = fake.seen[-1]
        assert (path, without_proof(request)) == (recorded.path, without_proof(recorded.request)), entry["name"]
        check_outcome(entry, recorded, ran)
    for principal, name in (
        ("adm85000", "key_admin.json"),
        ("ltptest5000", "key_ltptest.json"),
        ("reader5001", "key_reader.json"),
    ):
        assert json.loads((tmp_path / name).read_text()) == as_file(created()[principal])
    assert not (tmp_path / "o.json").exists()  # stock writes -output for createkey and getticket only
    assert set(modes(tmp_path, "key_*.json").values()) == {"600"}


def check_outcome(entry: dict[str, Any], recorded: vectors.Exchange, ran: Ran) -> None:
    """Status as stock's, but for 1 in place of a panic's 2; what was asked for is printed."""
    if entry["exit"] != 0:
        assert "refused with code" in ran.line(), entry["name"]
        return
    assert ran.status == 0, (entry["name"], ran)
    if recorded.is_ticket_request or recorded.path == "/admin/createkey":
        assert ran.out.count("\n") == 1
        return
    printed = json.loads(ran.out)
    told = recorded.granted.get("key_info") or recorded.granted["access_key_caps"]
    assert printed["caps"] == strictjson.b64decode(told["caps"]).decode(), entry["name"]
    if "id" in told:
        assert printed["auth_id_key"] == recorded.granted["auth_id_key"], entry["name"]
    else:
        assert (printed["access_key"], printed["secret_key"], printed["id"]) == (
            told["access_key"],
            told["secret_key"],
            told["user_id"],
        )

"""The client library and authtool against the real Authnode: what a user relies on, with nothing stood in for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authnode import Authnode as Process
from tests.support.authnode import running_authnode
from tests.support.command_line import CommandLine, modes

from cubeauth import ids
from cubeauth.caps import Capabilities
from cubeauth_client.admin import AdminClient
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.errors import AuthnodeRefused
from cubeauth_client.tickets import TicketsOnDemand, get_ticket
from cubeauth_runtime.clock import Clock, OffsetClock, SystemClock


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running_authnode(tmp_path_factory.mktemp("authnode")) as running:
        yield running


def client(process: Process, clock: Clock | None = None) -> Authnode:
    return Authnode(EndpointSet(parse_endpoints(process.endpoint)), clock=clock or SystemClock())


def admin_of(process: Process) -> AdminClient:
    authnode = client(process)
    key = process.service_key_file
    return AdminClient(authnode, TicketsOnDemand(authnode, key.id, key.auth_key))


async def test_a_keys_whole_life(process: Process) -> None:
    admin = admin_of(process)
    made = (await admin.create_key("reader", ids.Role.CLIENT, '{"API":["a:b:c"]}')).key_file()
    assert (await admin.get_key("reader")).key_file() == made
    assert (await admin.add_caps("reader", '{"API":["d:e:f"]}')).capabilities() == Capabilities(api=("a:b:c", "d:e:f"))
    assert (await admin.delete_caps("reader", '{"API":["a:b:c"]}')).capabilities() == Capabilities(api=("d:e:f",))
    assert (await admin.set_caps("reader", Capabilities(api=("g:h:i",)))).capabilities() == Capabilities(api=("g:h:i",))
    told = await admin.get_caps("reader")
    assert (told.capabilities(), told.auth_key, told.secret_key) == (Capabilities(api=("g:h:i",)), None, None)
    assert (await admin.os_get_caps(made.access_key)).user_id == "reader"
    assert "vol1" in (await admin.os_add_caps(made.access_key, '{"OwnerVOL":["master:vol1:*"]}')).caps
    assert "vol1" not in (await admin.os_delete_caps(made.access_key, '{"OwnerVOL":["master:vol1:*"]}')).caps
    await admin.delete_key("reader")
    with pytest.raises(AuthnodeRefused, match="code 35"):
        await admin.get_key("reader")
    with pytest.raises(AuthnodeRefused, match="the key is wrong or was deleted"):
        await get_ticket(client(process), "reader", made.auth_key, ids.AUTH_SERVICE)


async def test_state_and_a_list_in_pages(process: Process) -> None:
    admin = admin_of(process)
    before = await admin.state()
    for i in range(5):
        await admin.create_key(f"page{i}", ids.Role.SERVICE, "{}")
    after = await admin.state()
    assert (after.keys, after.keystore_id) == (before.keys + 5, before.keystore_id)
    assert after.sequence > before.sequence
    listed = [key async for key in admin.list_keys(limit=2)]
    assert [key.id for key in listed if key.id.startswith("page")] == [f"page{i}" for i in range(5)]
    assert all(key.kvno >= 1 and key.auth_key is None for key in listed)


async def test_a_deleted_administrators_ticket_ends_and_is_told_as_that(process: Process) -> None:
    made = await admin_of(process).create_key("second", ids.Role.CLIENT, '{"API":["auth:*:*"]}')
    assert made.auth_key is not None
    authnode = client(process)
    second = AdminClient(authnode, TicketsOnDemand(authnode, "second", made.auth_key))
    assert (await second.get_caps("second")).id == "second"
    await admin_of(process).delete_key("second")
    with pytest.raises(AuthnodeRefused):
        await second.get_caps("second")


async def test_a_clock_that_is_off_is_among_the_causes(process: Process) -> None:
    key = process.service_key_file
    with pytest.raises(AuthnodeRefused, match="or this host's clock differs"):
        await get_ticket(client(process, OffsetClock(60)), key.id, key.auth_key, ids.AUTH_SERVICE)


async def test_authtool_from_the_first_ticket_to_a_deleted_key(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command_line = CommandLine(capsys)
    host = f"-host={process.endpoint}"
    (tmp_path / "service.json").write_text(process.service_key_file.to_json())
    (tmp_path / "data.json").write_text('{"id":"tool","role":"client","caps":"{\\"API\\":[\\"auth:*:*\\"],\\"Vol\\":[]}"}')
    for argv in (
        ["ticket", host, "-keyfile=service.json", "getticket", "AuthService"],
        ["api", host, "-output=tool.json", "AuthService", "createkey"],
        ["ticket", host, "-keyfile=tool.json", "-output=tool_ticket.json", "getticket", "AuthService"],
        ["ticket", host, "-keyfile=tool.json", "-output=meta.json", "getticket", "MetaService"],
    ):
        if argv[-1] == "MetaService":
            (tmp_path / "meta_data.json").write_text('{"id":"MetanodeService","role":"service","caps":"{}"}')
            created = await command_line.run(
                "authtool", "api", host, "-data=meta_data.json", "-output=m.json", "AuthService", "createkey"
            )
            assert created.status == 0, created
        ran = await command_line.run("authtool", *argv)
        assert ran.status == 0, ran
    assert set(modes(tmp_path, "tool*.json").values()) == {"600"}
    for word in ("getkey", "getcaps", "addcaps"):
        ran = await command_line.run("authtool", "api", host, "-ticketfile=tool_ticket.json", "AuthService", word)
        assert ran.status == 0, ran
        assert json.loads(ran.out)["id"] == "tool"
    ran = await command_line.run("authtool", "api", host, "-ticketfile=tool_ticket.json", "AuthService", "deletekey")
    assert ran.status == 0
    ran = await command_line.run("authtool", "api", host, "-ticketfile=tool_ticket.json", "AuthService", "getkey")
    assert "refused with code" in ran.line()

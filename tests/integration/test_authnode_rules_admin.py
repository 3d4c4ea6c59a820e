"""Rules 7, 8, 9 and 13 of protocol-v1.md section 11 at a running Authnode: each test fails without its rule."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support import vectors
from tests.support.authnode import Authnode, encoded_caps, prepare, running_authnode
from tests.support.replaying import seal
from tests.support.rules import (
    FAILED,
    GRANTED,
    form,
    now_verifier,
    opened_ticket,
    refused_code,
    ticket_form,
)
from tests.support.waiting import wait_for
from tests.support.workers import Kept, connections_to_every_worker, ticket_request

from cubeauth import entropy, exchange, messages, strictjson
from cubeauth.errors import ServerRefused
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.messages import ADMIN_ROUTES, ROUTE_OF_WORD, TICKET_PATH
from cubeauth.secret import SecretBytes

# 7, 8: what admin requests must fit.


def crafted(authnode: Authnode, client: str, **changes: Any) -> TicketGrant:
    """A ticket for AuthService that only the Authnode could have made, with `changes`."""
    session_key = os.urandom(32)
    now = int(time.time())
    members = {
        "version": 1,
        "service_id": "AuthService",
        "session_key": {"c_time": now, "key": base64.b64encode(session_key).decode()},
        "exp": now + 60,
        "ip": "127.0.0.1",
        "caps": base64.b64encode(b'{"API":["*:*:*"]}').decode(),
        "client_id": client,
        "jti": "0" * 32,
        "kvno": 0,
    } | changes
    text = seal(authnode.service_key_file.auth_key.reveal(), json.dumps(members).encode())
    return TicketGrant(client, "AuthService", text, SecretBytes(session_key), now, now + 60)


def test_rule_7_the_opener_of_a_ticket_checks_all_of_it(authnode: Authnode, client: KeyFile, service: KeyFile) -> None:
    assert authnode.admin(crafted(authnode, "AuthService"), "state", {})["state"]["keys"] >= 2

    def code(**changes: Any) -> int:
        return refused_code(lambda: authnode.admin(crafted(authnode, "AuthService", **changes), "state", {}))

    assert code(version=2) == 2
    assert code(version=True) == 2
    assert code(service_id="MasterService") == 2
    assert code(client_id="ltptest") == 2
    assert code(client_id="") == 2
    assert code(exp=int(time.time()) - 1) == 43
    assert code(kvno=1) == 41
    assert refused_code(lambda: authnode.admin(crafted(authnode, "ltptest", kvno=7), "state", {})) == 41
    # A ticket of ours for another service, at AuthService.
    other = authnode.ticket(client, "MasterService")
    assert refused_code(lambda: authnode.admin(other, "state", {})) == 2


def test_rule_8_path_and_type_must_agree(authnode: Authnode, admin: TicketGrant, client: KeyFile) -> None:
    for route in ADMIN_ROUTES:
        for other in ADMIN_ROUTES:
            if other is route or other.payload != route.payload:
                continue
            body = exchange.ask_access(
                admin, route.type, {route.payload: {"id": "ltptest"}}, now=time.time(), entropy=entropy.system
            ).body
            assert authnode.request(other.path, body)[1] == FAILED, (route.word, other.word)
    for kind in (0, 0x120000, 0x151000, "x", True, None, 0x110000 + (1 << 32)):
        members = messages.decode_form(ticket_form(client, now_verifier()))
        assert authnode.request(TICKET_PATH, form(members | {"type": kind}))[1] == FAILED


def test_rule_8_auth_service_is_reserved_and_getcaps_tells_no_secret(
    authnode: Authnode, admin: TicketGrant, client: KeyFile
) -> None:
    for word in ("getkey", "getcaps", "deletekey", "createkey", "addcaps", "deletecaps", "setcaps"):
        payload = {"id": "AuthService", "role": "service", "caps": encoded_caps("a:b:c")}
        assert refused_code(partial(authnode.admin, admin, word, payload)) == 2, word
    told = strictjson.dumps(authnode.admin(admin, "getcaps", {"id": "ltptest"}))
    for secret in (base64.b64encode(client.auth_key.reveal()).decode(), client.secret_key.reveal().decode(), client.access_key):
        assert secret not in told


# 9: deletion.


def test_rule_9_a_deleted_key_is_dead_at_once_on_every_worker(authnode: Authnode, admin: TicketGrant, service: KeyFile) -> None:
    kept = [Kept(authnode) for _ in range(40)]
    try:
        for number in range(8):
            victim = authnode.create(admin, f"victim{number}", "client")
            bodies = [ticket_request(victim, "MasterService").body for _ in kept]
            assert kept[0].ask(ticket_request(victim, "MasterService").body)["code"] == GRANTED
            authnode.admin(admin, "deletekey", {"id": victim.id})
            for connection, body in zip(kept, bodies, strict=True):
                connection.send(TICKET_PATH, body)
            assert [connection.receive() for connection in kept] == [json.loads(FAILED)] * len(kept)
    finally:
        for connection in kept:
            connection.close()


def test_rule_9_a_request_that_waited_while_the_key_was_deleted_gets_nothing(
    authnode: Authnode, admin: TicketGrant, service: KeyFile
) -> None:
    """A stopped worker stands in for one that the news of the write reaches late: the request is the first that it looks at."""
    workers = connections_to_every_worker(authnode)
    stopped, other = workers
    victim = authnode.create(admin, "latecomer", "client")
    route = ROUTE_OF_WORD["deletekey"]
    deletion = exchange.ask_access(admin, route.type, {"key_info": {"id": victim.id}}, now=time.time(), entropy=entropy.system)
    os.kill(stopped, signal.SIGSTOP)
    try:
        workers[stopped].send(TICKET_PATH, ticket_request(victim, "MasterService").body)
        assert workers[other].ask(deletion.body, route.path)["code"] == GRANTED
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert workers[stopped].receive() == json.loads(FAILED)
    for kept in workers.values():
        kept.close()


def test_rule_9_capability_changes_are_in_the_next_ticket_of_every_worker(
    authnode: Authnode, admin: TicketGrant, service: KeyFile
) -> None:
    changing = authnode.create(admin, "changing", "client", "master:first:access")
    kept = [Kept(authnode) for _ in range(40)]
    try:
        for number in range(8):
            wanted = [f"master:n{number}:access", f"master:m{number}:access"]
            sents = [ticket_request(changing, "MasterService") for _ in kept]
            authnode.admin(admin, "setcaps", {"id": "changing", "caps": encoded_caps(*wanted)})
            for connection, sent in zip(kept, sents, strict=True):
                connection.send(TICKET_PATH, sent.body)
            for connection, sent in zip(kept, sents, strict=True):
                grant = exchange.accept_ticket(sent, strictjson.dumps(connection.receive()).encode())
                held = json.loads(base64.b64decode(opened_ticket(service, grant)["caps"]))
                assert held["API"] == wanted
    finally:
        for connection in kept:
            connection.close()


def test_rule_9_nothing_of_a_deleted_id_works_again_made_anew_or_restarted(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as it:
        admin = it.admin_grant()
        it.create(admin, "MasterService", "service")
        old = it.create(admin, "adm", "client", "auth:*:*")
        old_grant = it.ticket(old, "AuthService")
        it.admin(old_grant, "state", {})
        it.admin(admin, "deletekey", {"id": "adm"})
        assert refused_code(lambda: it.admin(old_grant, "state", {})) == 41
        assert refused_code(lambda: it.ticket(old, "AuthService")) == 2
        it.stop()
        it.start()
        assert refused_code(lambda: it.admin(old_grant, "state", {})) == 41
        assert refused_code(lambda: it.ticket(old, "AuthService")) == 2
        new = it.create(admin, "adm", "client", "auth:*:*")
        assert new.auth_key != old.auth_key
        assert new.create_ts > old.create_ts
        for _ in range(2):
            assert refused_code(lambda: it.admin(old_grant, "state", {})) == 41
            assert refused_code(lambda: it.ticket(old, "AuthService")) == 2
            it.admin(it.ticket(new, "AuthService"), "state", {})
            it.kill()
            it.start()


@pytest.mark.parametrize(("settings", "lifetime"), [({}, 3600), ({"ticket": {"lifetime": "5m"}}, 300)])
def test_rule_9_a_ticket_ends_after_its_lifetime(tmp_path: Path, settings: dict[str, Any], lifetime: int) -> None:
    with running_authnode(tmp_path, **settings) as it:
        grant = it.admin_grant()
        opened = vectors.stock_open_json(it.service_key_file.auth_key.reveal(), grant.ticket)
        assert opened["exp"] - opened["session_key"]["c_time"] == lifetime
        assert abs(opened["session_key"]["c_time"] - time.time()) < 5


def test_rule_9_a_stock_configuration_gives_stock_s_lifetime(tmp_path: Path) -> None:
    it = prepare(tmp_path)
    root = json.loads((tmp_path / "root.json").read_text())["auth_key"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    members = {
        "role": "authnode",
        "ip": "127.0.0.1",
        "port": str(port),
        "prof": "10088",
        "id": "1",
        "peers": f"1:127.0.0.1:{port}",
        "retainLogs": "2",
        "logDir": str(tmp_path / "new" / "log"),
        "logLevel": "INFO",
        "walDir": str(tmp_path / "raft"),
        "storeDir": str(tmp_path / "rocksdbstore"),
        "clusterName": "test",
        "authServiceKey": base64.b64encode(it.service_key_file.auth_key.reveal()).decode(),
        "authRootKey": root,
    }
    it.config.write_text(json.dumps(members))
    it.start()
    try:
        grant = it.admin_grant()
        assert grant.exp - grant.c_time == 86400
        said = it.log
        for word in ("prof, retainLogs, clusterName, id", "the root key lies in the configuration"):
            assert all(piece in said for piece in word.split(", "))
        wait_for("the audit in stock's log folder", lambda: (tmp_path / "new/log/audit.log").read_text().strip() or None)
    finally:
        assert it.stop() == 0


# 13: routes for the operator.


def test_rule_13_state_list_and_setcaps_need_ticket_and_capability(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as it:
        admin = it.admin_grant()
        first = it.admin(admin, "state", {})["state"]
        it.create(admin, "MasterService", "service")
        state = it.admin(admin, "state", {})["state"]
        assert state == first | {"sequence": first["sequence"] + 1, "keys": 1}
        assert len(state["keystore_id"]) == 32
        reader = it.create(admin, "reader", "client", "auth:state:access")
        grant = it.ticket(reader, "AuthService")
        assert it.admin(grant, "state", {})["state"]["keys"] == 2
        for word, payload in (("listkeys", {}), ("setcaps", {"id": "reader", "caps": encoded_caps("*:*:*")}), ("getkey", {})):
            with pytest.raises(ServerRefused) as caught:
                it.admin(grant, word, payload)
            assert (caught.value.server_code, "no capability" in caught.value.detail) == (2, True)
        assert [key["id"] for key in it.admin(admin, "listkeys", {})["keys"]] == ["MasterService", "reader"]
        for route in ADMIN_ROUTES:
            assert it.request(route.path, b"Token=e30%3D")[1] == FAILED, "nothing without a ticket"


def test_rule_13_setcaps_is_one_write(authnode: Authnode, admin: TicketGrant) -> None:
    authnode.create(admin, "whole", "client", "a:b:c", owner_vol=("master:vol1:*",))
    before = authnode.admin(admin, "state", {})["state"]["sequence"]
    authnode.admin(admin, "setcaps", {"id": "whole", "caps": encoded_caps("d:e:f")})
    assert authnode.admin(admin, "state", {})["state"]["sequence"] == before + 1
    held = authnode.admin(admin, "getcaps", {"id": "whole"})["key_info"]["caps"]
    assert json.loads(base64.b64decode(held)) == {"API": ["d:e:f"], "OwnerVOL": [], "NoneOwnerVOL": []}

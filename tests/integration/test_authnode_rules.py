"""The rules of protocol-v1.md section 11 at a running Authnode: each test fails when its rule is taken out."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.support import vectors
from tests.support.authnode import Authnode, encoded_caps, new_key_file, prepare, running_authnode
from tests.support.replaying import seal
from tests.support.waiting import wait_for
from tests.support.workers import Kept, connections_to_every_worker, ticket_request

from cubeauth import entropy, exchange, messages, strictjson
from cubeauth.errors import ServerRefused
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.messages import ADMIN_ROUTES, ROUTE_OF_WORD, TICKET_PATH
from cubeauth.secret import SecretBytes

FAILED = b'{"code":2,"msg":"authentication failed","data":null}'
GRANTED = 0
INT64 = (-(1 << 63), (1 << 63) - 1)


@pytest.fixture(scope="module")
def authnode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authnode]:
    with running_authnode(tmp_path_factory.mktemp("rules")) as it:
        yield it


@pytest.fixture(scope="module")
def admin(authnode: Authnode) -> TicketGrant:
    return authnode.admin_grant()


@pytest.fixture(scope="module")
def service(authnode: Authnode, admin: TicketGrant) -> KeyFile:
    return authnode.create(admin, "MasterService", "service")


@pytest.fixture(scope="module")
def client(authnode: Authnode, admin: TicketGrant, service: KeyFile) -> KeyFile:
    return authnode.create(admin, "ltptest", "client", "master:getvol:access")


def form(members: dict[str, Any]) -> bytes:
    token = base64.b64encode(json.dumps(members).encode()).decode()
    return f"Token={quote(token, safe='')}".encode()


def ticket_form(key_file: KeyFile, verifier: bytes, service_id: str = "AuthService", **more: Any) -> bytes:
    """A stock ticket request whose verifier seals `verifier`."""
    sealed = seal(key_file.auth_key.reveal(), verifier)
    return form({"type": 0x110000, "client_id": key_file.id, "service_id": service_id, "verifier": sealed} | more)


def now_verifier(offset: int = 0) -> bytes:
    return struct.pack("<q", int(time.time()) + offset)


def code_of(authnode: Authnode, body: bytes, path: str = TICKET_PATH) -> int:
    status, answer = authnode.request(path, body)
    assert status == 200
    code = json.loads(answer)["code"]
    assert isinstance(code, int)
    return code


def refused_code(act: Callable[[], object]) -> int:
    with pytest.raises(ServerRefused) as caught:
        act()
    return caught.value.server_code


def opened_ticket(service: KeyFile, grant: TicketGrant) -> dict[str, Any]:
    return vectors.stock_open_json(service.auth_key.reveal(), grant.ticket)


def reasons(authnode: Authnode, start: int) -> list[str]:
    """The reasons of refusals audited after the first `start` lines."""
    return [line["reason"] for line in authnode.audit_lines[start:] if line["outcome"] == "refused"]


def wait_for_reason(authnode: Authnode, start: int, reason: str, count: int = 1) -> None:
    wait_for(f"{count} audit lines with {reason}", lambda: reasons(authnode, start).count(reason) >= count)


# 1, 2: what a ticket is.


def test_rule_1_session_keys_are_random(authnode: Authnode, service: KeyFile, client: KeyFile) -> None:
    grants = [authnode.ticket(client, "MasterService") for _ in range(20)]
    assert len({grant.session_key.reveal() for grant in grants}) == 20
    assert len({grant.c_time for grant in grants}) < 20, "several were of one second, where stock's are the same"


def test_rule_2_tickets_carry_more_and_stock_can_read_them(authnode: Authnode, service: KeyFile, client: KeyFile) -> None:
    tickets = [opened_ticket(service, authnode.ticket(client, "MasterService")) for _ in range(2)]
    stock = vectors.recording()["ticket_plaintext_example"]
    for opened in tickets:
        assert {name: type(value) for name, value in opened.items() if name in stock} == {
            name: type(value) for name, value in stock.items()
        }
        assert (opened["version"], opened["service_id"], opened["ip"]) == (1, "MasterService", "127.0.0.1")
        assert (opened["client_id"], opened["kvno"]) == ("ltptest", 1)
    assert len({opened["jti"] for opened in tickets}) == 2


# 3 to 6: what proves a caller.


def test_rule_3_a_verifier_is_8_bytes_or_41(authnode: Authnode, client: KeyFile) -> None:
    good = now_verifier()
    for length in (1, 4, 7, 9, 16, 40, 41, 42, 100):
        assert code_of(authnode, ticket_form(client, (good + bytes(100))[:length])) == 2, length
    assert code_of(authnode, ticket_form(client, good)) == GRANTED


def test_rule_3_a_verifier_is_of_now_in_both_directions_and_does_not_overflow(authnode: Authnode, client: KeyFile) -> None:
    for seconds in (0, -8, 8):
        assert code_of(authnode, ticket_form(client, now_verifier(seconds))) == GRANTED, seconds
    for seconds in (-10, -11, 11, 12, 3600, -3600, 10 << 32):
        assert code_of(authnode, ticket_form(client, now_verifier(seconds))) == 2, seconds
    for time_ in (*INT64, 0, -1, int(time.time()) - (1 << 62), int(time.time()) + (1 << 62)):
        assert code_of(authnode, ticket_form(client, struct.pack("<q", time_))) == 2, time_


def test_rule_4_a_verifier_is_good_once_on_whichever_worker(authnode: Authnode, client: KeyFile) -> None:
    workers = connections_to_every_worker(authnode)
    assert len(workers) == 2
    start = len(authnode.audit_lines)
    asked = 0
    for first in workers.values():
        body = ticket_request(client).body
        assert first.ask(body)["code"] == GRANTED
        for kept in workers.values():
            assert kept.ask(body) == json.loads(FAILED)
            asked += 1
    wait_for_reason(authnode, start, "verifier_replayed", asked)
    for kept in workers.values():
        kept.close()


def test_rule_4_it_is_the_proof_that_counts_not_the_request_around_it(authnode: Authnode, client: KeyFile) -> None:
    verifier = now_verifier()
    body = ticket_form(client, verifier, extra=1)
    members = messages.decode_form(body)
    assert code_of(authnode, body) == GRANTED
    assert code_of(authnode, form(members | {"extra": 2})) == 2
    assert code_of(authnode, form(members | {"service_id": "MasterService"})) == 2
    raw = base64.b64decode(members["verifier"])
    last = members["verifier"].rstrip("=")[-1]
    spelt = members["verifier"].replace(f"{last}=", f"{chr(ord(last) + 1)}=")
    assert base64.b64decode(spelt) == raw, "another spelling of the same bytes"
    assert code_of(authnode, form(members | {"verifier": spelt})) == 2
    assert code_of(authnode, form(members | {"verifier": members["verifier"] + "\n"})) == 2
    assert code_of(authnode, form(members | {"verifier": seal(client.auth_key.reveal(), verifier)})) == GRANTED, "another proof"


def test_rule_4_admin_requests_too(authnode: Authnode, admin: TicketGrant) -> None:
    route = ROUTE_OF_WORD["state"]
    sent = exchange.ask_access(admin, route.type, {"page": {}}, now=time.time(), entropy=entropy.system)
    assert code_of(authnode, sent.body, route.path) == GRANTED
    for _ in range(4):
        assert authnode.request(route.path, sent.body)[1] == FAILED


def test_rule_4_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as it:
        for end in (it.stop, it.kill):
            body = ticket_request(it.service_key_file).body
            assert code_of(it, body) == GRANTED
            end()
            it.start()
            for kept in connections_to_every_worker(it).values():
                assert kept.ask(body)["code"] == 2
                kept.close()
            assert code_of(it, ticket_request(it.service_key_file).body) == GRANTED


def test_rule_4_a_lost_table_refuses_what_it_may_have_held(tmp_path: Path) -> None:
    with running_authnode(tmp_path, ticket={"skew": "2s"}) as it:
        it.create(it.admin_grant(), "MasterService", "service")
        body = ticket_request(it.service_key_file).body
        assert code_of(it, body) == GRANTED
        it.kill()
        (tmp_path / "store" / "replay.cache").unlink()
        it.start()
        assert code_of(it, body) == 2
        assert "replay table begun anew (there was none)" in it.log
        wait_for("proofs that are newer", lambda: code_of(it, ticket_request(it.service_key_file).body) == GRANTED or None)
        assert code_of(it, body) == 2


def test_rule_4_full_means_refuse(tmp_path: Path) -> None:
    with running_authnode(tmp_path, replayEntries=1024) as it:
        kept = Kept(it)
        began = int(time.time())
        taken: list[bytes] = []
        refused = 0
        while refused < 20 and len(taken) < 5000:
            body = ticket_form(it.service_key_file, struct.pack("<q", began + 5))
            if kept.ask(body)["code"] == GRANTED:
                taken.append(body)
            else:
                refused += 1
        assert 500 < len(taken) <= 1024
        assert all(kept.ask(body)["code"] == 2 for body in taken), "it forgot"
        assert it.metric("cubeauth_authnode_replay_table_full_total") >= 20
        assert it.metric("cubeauth_authnode_replays_total") == len(taken)
        wait_for_reason(it, 0, "replay_table_full", 20)
        kept.close()


def _failures(authnode: Authnode, client: KeyFile, service: KeyFile) -> dict[str, tuple[str, bytes]]:
    wrong = KeyFile("ltptest", new_key_file("x").auth_key)
    good = messages.decode_form(ticket_form(client, now_verifier()))
    flipped = bytearray(base64.b64decode(good["verifier"]))
    flipped[-17] ^= 1
    route = ROUTE_OF_WORD["getkey"]
    nobody = {
        "type": int(route.type),
        "client_id": "ltptest",
        "service_id": "AuthService",
        "verifier": good["verifier"],
        "ticket": seal(os.urandom(32), b'{"version":1}'),
    }
    return {
        "unknown id": (TICKET_PATH, ticket_form(new_key_file("nosuch"), now_verifier())),
        "wrong key": (TICKET_PATH, ticket_form(wrong, now_verifier())),
        "bad padding": (TICKET_PATH, form(good | {"verifier": base64.b64encode(flipped).decode()})),
        "verifier of 4 bytes": (TICKET_PATH, ticket_form(client, b"1234")),
        "late": (TICKET_PATH, ticket_form(client, now_verifier(-60))),
        "no token": (TICKET_PATH, b""),
        "no JSON": (TICKET_PATH, b"Token=aGVsbG8%3D"),
        "an admin ticket of another key": (route.path, form({"api_req": nobody, "key_info": {"id": "x"}})),
        "an admin ticket that is none": (route.path, form({"api_req": nobody | {"ticket": "!"}, "key_info": {"id": "x"}})),
        "an admin request without payload": (route.path, form({"api_req": nobody})),
    }


def test_rule_5_every_failure_looks_alike_and_no_connection_is_dropped(
    authnode: Authnode, client: KeyFile, service: KeyFile
) -> None:
    answers = set()
    with socket.create_connection((authnode.host, authnode.port), timeout=20) as raw:
        for path, body in _failures(authnode, client, service).values():
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            answers.add(_whole_answer(raw))
    (answer,) = answers
    assert answer.endswith(FAILED)


def _whole_answer(raw: socket.socket) -> bytes:
    """One response from a connection that stays open, head and all."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += raw.recv(65536) or pytest.fail("the connection was dropped")
    length = int(got.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(got.partition(b"\r\n\r\n")[2]) < length:
        got += raw.recv(65536) or pytest.fail("the connection was dropped")
    return got


def test_rule_6_a_bound_verifier_is_good_for_its_request_only(authnode: Authnode, client: KeyFile) -> None:
    sent = ticket_request(client, "MasterService")
    members = messages.decode_form(sent.body)
    assert code_of(authnode, form(members | {"service_id": "AuthService"})) == 2
    assert code_of(authnode, form(members | {"extra": 1})) == 2
    reordered = dict(reversed(members.items()))
    assert code_of(authnode, form(reordered)) == GRANTED, "the order of members is nobody's business"


def test_rule_6_a_bound_verifier_may_be_required_of_a_client(tmp_path: Path) -> None:
    with running_authnode(tmp_path, requireBoundVerifier=["AuthService"]) as it:
        assert code_of(it, ticket_form(it.service_key_file, now_verifier())) == 2
        wait_for_reason(it, 0, "verifier_unbound")
        admin = it.admin_grant()
        other = it.create(admin, "stocktool", "client")
        assert code_of(it, ticket_form(other, now_verifier())) == GRANTED


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


# 10 to 12: the outside.


def granted_ip(authnode: Authnode, headers: dict[str, str]) -> str:
    sent = ticket_request(authnode.service_key_file)
    grant = exchange.accept_ticket(sent, authnode.request(TICKET_PATH, sent.body, headers=headers)[1])
    return str(vectors.stock_open_json(authnode.service_key_file.auth_key.reveal(), grant.ticket)["ip"])


def test_rule_10_headers_about_addresses_count_from_nobody(authnode: Authnode) -> None:
    for name in ("X-Real-Ip", "X-Forwarded-For"):
        assert granted_ip(authnode, {name: "192.0.2.1"}) == "127.0.0.1"


def test_rule_10_headers_about_addresses_count_from_configured_proxies(tmp_path: Path) -> None:
    with running_authnode(tmp_path, trustedProxies=["127.0.0.0/8"]) as it:
        assert granted_ip(it, {}) == "127.0.0.1"
        assert granted_ip(it, {"X-Real-Ip": "192.0.2.1"}) == "192.0.2.1"
        assert granted_ip(it, {"X-Forwarded-For": "6.6.6.6, 192.0.2.1"}) == "192.0.2.1"
        assert granted_ip(it, {"X-Forwarded-For": "192.0.2.1", "X-Real-Ip": "6.6.6.6"}) == "127.0.0.1"
        assert granted_ip(it, {"X-Real-Ip": 'fe80::1%","exp":9999999999,"x":"'}) == "127.0.0.1"
        wait_for("the audit of it", lambda: any(line["from"] == "192.0.2.1" for line in it.audit_lines) or None)


def test_rule_12_the_ticket_port_is_bound_in_size_time_and_number(tmp_path: Path) -> None:
    limits = {"connections": 6, "requestTime": "1s", "idleTime": "3s"}
    with running_authnode(tmp_path, limits=limits, workers=1) as it:
        assert it.request(TICKET_PATH, b"A" * (messages.MAX_TICKET_REQUEST + 1))[0] == 413
        assert it.request(f"/{'a' * 30_000}", b"")[0] == 413
        assert it.request("/admin/getkey", b"A" * (messages.MAX_ADMIN_REQUEST + 1))[0] == 413
        wait_for("connections to be forgotten", lambda: it.metric("cubeauth_authnode_connections_open") == 0)

        held = [socket.create_connection((it.host, it.port), timeout=20) for _ in range(6)]
        wait_for("six connections", lambda: it.metric("cubeauth_authnode_connections_open") == 6)
        with socket.create_connection((it.host, it.port), timeout=20) as over:
            over.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert _until_end(over) in (b"", b"too many connections\n")
        assert it.metric("cubeauth_authnode_connections_refused_total") == 1
        slow, idle = held[:3], held[3:]
        for raw in slow:
            raw.sendall(b"POST /client/getticket HTTP/1.1\r\nHost:")
        for raw in (*slow, *idle):
            assert _until_end(raw) == b""
            raw.close()
        assert it.metric("cubeauth_authnode_timeouts_total") == len(slow)
        assert it.metric("cubeauth_authnode_connections_open") == 0
        assert code_of(it, ticket_request(it.service_key_file).body) == GRANTED


def _until_end(raw: socket.socket) -> bytes:
    """The body of what comes until the other side ends."""
    got = b""
    try:
        while piece := raw.recv(65536):
            got += piece
    except ConnectionError:
        return b""
    return got.partition(b"\r\n\r\n")[2]


def test_rule_12_metrics_and_tickets_are_on_ports_of_their_own(authnode: Authnode) -> None:
    for path in ("/metrics", "/livez", "/readyz", "/healthz", "/debug/pprof/"):
        assert authnode.request(path, b"", method="GET")[0] == 404
    there = Authnode(authnode.folder, authnode.service_key_file, {}, port=authnode.metrics_port)
    for path in (TICKET_PATH, *(route.path for route in ADMIN_ROUTES)):
        assert there.request(path, b"Token=")[0] == 404
    assert there.request("/metrics", b"A" * 100_000, method="POST")[0] in (404, 405)
    assert there.request("/readyz", b"", method="GET") == (200, b"ok\n")


def test_rule_12_the_metrics_port_is_bound_in_number_and_size(authnode: Authnode) -> None:
    with socket.create_connection((authnode.host, authnode.metrics_port), timeout=20) as raw:
        raw.sendall(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"\nHTTP/1.1 200" not in b"\n" + raw.recv(100)
    held = [socket.create_connection((authnode.host, authnode.metrics_port), timeout=20) for _ in range(64)]
    with socket.create_connection((authnode.host, authnode.metrics_port), timeout=20) as over:
        over.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _until_end(over) == b""
    for raw in held:
        raw.close()
    wait_for("room on the metrics port", lambda: _answers(authnode))


def _answers(authnode: Authnode) -> bool:
    try:
        return authnode.metric("cubeauth_authnode_workers_ready") == 2
    except OSError:
        return False


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

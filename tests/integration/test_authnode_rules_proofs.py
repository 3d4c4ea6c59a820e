"""Rules 1 to 6 of protocol-v1.md section 11 at a running Authnode, tickets and proofs: each test fails without its rule."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from pathlib import Path

import pytest
from tests.support import vectors
from tests.support.authnode import Authnode, new_key_file, running_authnode
from tests.support.replaying import seal
from tests.support.rules import (
    FAILED,
    GRANTED,
    INT64,
    code_of,
    form,
    now_verifier,
    opened_ticket,
    ticket_form,
    wait_for_reason,
)
from tests.support.waiting import wait_for
from tests.support.workers import Kept, connections_to_every_worker, ticket_request

from cubeauth import entropy, exchange, messages
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.messages import ROUTE_OF_WORD, TICKET_PATH

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

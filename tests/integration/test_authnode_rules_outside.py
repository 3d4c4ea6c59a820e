"""Rules 10 and 12 of protocol-v1.md section 11 at a running Authnode, addresses and limits: each test fails without its rule."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support import vectors
from tests.support.authnode import Authnode, running_authnode
from tests.support.rules import (
    GRANTED,
    code_of,
)
from tests.support.waiting import wait_for
from tests.support.workers import ticket_request

from cubeauth import exchange, messages
from cubeauth.messages import ADMIN_ROUTES, TICKET_PATH

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

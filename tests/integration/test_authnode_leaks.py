"""Rule 11: no key, ticket, session key or verifier is in anything that a run of the Authnode wrote or shows."""

from __future__ import annotations

import base64
import os
import resource
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.authnode import Authnode, encoded_caps, running_authnode
from tests.support.waiting import wait_for

from cubeauth import entropy, exchange, messages
from cubeauth.exchange import Sent, TicketGrant
from cubeauth.keys import KeyFile, parse_key_file
from cubeauth.messages import ADMIN_ROUTES, ROUTE_OF_WORD, TICKET_PATH

PIECE = 12
"""Bytes of a secret that are looked for: a part of it is a leak too."""


def in_base64(value: bytes) -> list[bytes]:
    """What shows of `value` in the base64 of anything that it is a part of: one text for each place among three."""
    texts = []
    for before in range(3):
        text = base64.b64encode(bytes(before) + value)
        first = (8 * before + 5) // 6  # letters that also depend on what stands before
        last = len(text.rstrip(b"=")) - 1  # and one that may depend on what comes after
        texts.append(text[first:last])
    return texts


class Secrets:
    """Every secret of a run, and the forms that it could be found in."""

    def __init__(self) -> None:
        self.forms: dict[bytes, str] = {}

    def add(self, name: str, value: bytes) -> None:
        pieces = {value, value[:PIECE], value[-PIECE:]}
        for piece in pieces:
            for form in (piece, *in_base64(piece), piece.hex().encode(), piece.hex().upper().encode()):
                self.forms[form] = name
        for text in in_base64(base64.b64encode(value)):
            self.forms[text] = name

    def add_text(self, name: str, value: str) -> None:
        """A text that is a secret as it stands: a ticket, a verifier, a request."""
        self.add(name, value.encode())
        for start in range(0, len(value) - 40, 200):
            self.forms[value[start : start + 40].encode()] = name

    def add_key_file(self, key_file: KeyFile) -> None:
        self.add(f"auth_key of {key_file.id}", key_file.auth_key.reveal())
        if key_file.secret_key:
            self.add(f"secret_key of {key_file.id}", key_file.secret_key.reveal())

    def add_grant(self, grant: TicketGrant) -> None:
        self.add(f"session key of {grant.client_id}", grant.session_key.reveal())
        self.add_text(f"ticket of {grant.client_id}", grant.ticket)

    def add_sent(self, sent: Sent) -> None:
        members = messages.decode_form(sent.body)
        verifier = members.get("api_req", members)["verifier"]
        self.add_text("a verifier", verifier)
        self.add("a verifier, decoded", base64.b64decode(verifier))

    def found_in(self, data: bytes) -> set[str]:
        return {name for form, name in self.forms.items() if form in data}


class Run:
    """Requests of every kind, good and bad, each secret noted."""

    def __init__(self, authnode: Authnode) -> None:
        self.authnode = authnode
        self.secrets = Secrets()
        self.secrets.add_key_file(authnode.service_key_file)

    def ticket(self, key_file: KeyFile, service: str = "AuthService") -> TicketGrant | None:
        sent = exchange.ask_ticket(key_file.id, key_file.auth_key, service, now=time.time(), entropy=entropy.system)
        self.secrets.add_sent(sent)
        reply = self.authnode.request(TICKET_PATH, sent.body)[1]
        self.authnode.request(TICKET_PATH, sent.body)
        self.authnode.request(f"{TICKET_PATH}?{sent.body.decode()}", b"", method="GET")
        self.authnode.request(TICKET_PATH, sent.body[:-20])
        if b'"code":0' not in reply:
            return None
        grant = exchange.accept_ticket(sent, reply)
        self.secrets.add_grant(grant)
        return grant

    def admin(self, grant: TicketGrant, word: str, payload: dict[str, Any]) -> None:
        route = ROUTE_OF_WORD[word]
        sent = exchange.ask_access(grant, route.type, {route.payload: payload}, now=time.time(), entropy=entropy.system)
        self.secrets.add_sent(sent)
        reply = self.authnode.request(route.path, sent.body)[1]
        for path in (route.path, "/admin/getkey", TICKET_PATH):
            self.authnode.request(path, sent.body)
        if b'"code":0' in reply:
            self._note(exchange.accept_access(sent, reply))

    def _note(self, members: dict[str, Any]) -> None:
        told = members.get("key_info", {}) | members.get("access_key_caps", {})
        if told.get("auth_key"):
            self.secrets.add(f"auth_key of {told['id']}", base64.b64decode(told["auth_key"]))
            self.secrets.add_text("an auth_id_key", members["auth_id_key"])
        if told.get("secret_key"):
            self.secrets.add_text("a secret_key", told["secret_key"])

    def whole(self) -> None:
        authnode = self.authnode
        admin = self.ticket(authnode.service_key_file)
        assert admin is not None
        service = authnode.create(admin, "MasterService", "service", "*:*:*")
        client = authnode.create(admin, "ltptest", "client", "master:getvol:access")
        for key_file in (service, client):
            self.secrets.add_key_file(key_file)
        payload = {
            "id": "ltptest",
            "role": "client",
            "caps": encoded_caps("a:b:c"),
            "access_key": client.access_key,
            "addr": "x",
        }
        for number in range(3):
            self.ticket(client, "MasterService")
            self.ticket(client, "nosuch")
            self.ticket(KeyFile("nosuch", client.auth_key))
            limited = self.ticket(client)
            assert limited is not None
            for route in ADMIN_ROUTES:
                if route.word != "deletekey":
                    self.admin(admin, route.word, payload)
                    self.admin(limited, route.word, payload)
            self.admin(admin, "createkey", payload | {"id": f"k{number}"})
            self.admin(admin, "deletekey", payload | {"id": f"k{number}"})
            self.admin(TicketGrant("ltptest", "AuthService", admin.ticket, admin.session_key, 0, 0), "getkey", payload)
        for spoilt in (b"Token=" + b"A" * 20_000, b"Token=%ff%fe", b"\0" * 100):
            authnode.request(TICKET_PATH, spoilt)


def at_rest(authnode: Authnode) -> dict[str, bytes]:
    """All files that a run wrote, by name; not what the test itself put there, keys, configuration and certificate."""
    ours = {"service.json", "root.json", "authnode.yaml"}
    files = [path for path in authnode.folder.rglob("*") if path.is_file() and path.name not in ours]
    return {str(path.relative_to(authnode.folder)): path.read_bytes() for path in files}


def running(authnode: Authnode) -> dict[str, bytes]:
    """What its processes show, and its metrics port."""
    found = {}
    for path in ("metrics", "readyz", "livez"):
        with urllib.request.urlopen(f"http://{authnode.host}:{authnode.metrics_port}/{path}", timeout=20) as response:
            found[path] = response.read()
    assert authnode.process is not None
    for pid in (authnode.process.pid, *authnode.worker_pids()):
        for name in ("cmdline", "environ", "comm"):
            found[f"/proc/{pid}/{name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    return found


def leaks(secrets: Secrets, seen: dict[str, bytes]) -> dict[str, set[str]]:
    return {where: found for where, data in seen.items() if (found := secrets.found_in(data))}


def test_rule_11_nothing_that_a_run_wrote_or_shows_holds_a_secret(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))  # who starts it may allow core files
    with running_authnode(tmp_path, logLevel="debug", trustedProxies=["127.0.0.1"]) as authnode:
        run = Run(authnode)
        run.secrets.add_key_file(parse_key_file((tmp_path / "root.json").read_text()))
        run.whole()
        workers = authnode.worker_pids()
        assert authnode.process is not None
        authnode.process.send_signal(signal.SIGHUP)
        assert "Max core file size        0" in Path(f"/proc/{workers[0]}/limits").read_text()
        os.kill(workers[0], signal.SIGSEGV)
        wait_for("a worker in the place of the one that crashed", lambda: len({*workers, *authnode.worker_pids()}) == 3)
        wait_for("it to serve", lambda: authnode.metric("cubeauth_authnode_workers_ready") == 2)
        run.ticket(authnode.service_key_file)
        wait_for("the audit of it all", lambda: len(authnode.audit_lines) > 200)
        seen = running(authnode) | at_rest(authnode)
        assert {"stderr.log", "audit.log", "store/keystore.db", "store/replay.cache", "witness/witness.json"} <= seen.keys()
        assert len(run.secrets.forms) > 1000
        assert leaks(run.secrets, seen) == {}
        authnode.kill()
        assert leaks(run.secrets, at_rest(authnode)) == {}
        authnode.start()
        authnode.stop()
        assert leaks(run.secrets, at_rest(authnode)) == {}


def test_the_search_finds_what_it_looks_for() -> None:
    secrets = Secrets()
    secrets.add("key", bytes(range(32)))
    secrets.add_text("ticket", "T" + "icke" * 100)
    key = bytes(range(32))
    for leak in (key, base64.b64encode(key), key.hex().encode(), key[:16], b'{"key":"' + base64.b64encode(key) + b'"}'):
        assert secrets.found_in(b"before" + leak + b"after") == {"key"}
    inside = base64.b64encode(b'{"id":"x","auth_key":"' + base64.b64encode(key) + b'"}')
    assert secrets.found_in(inside) == {"key"}, "base64 in base64"
    assert secrets.found_in(b"a cut ticket: T" + b"icke" * 12) == {"ticket"}
    assert secrets.found_in(b"nothing at all") == set()

"""The Authnode's processes when they are killed, stopped, or told to end."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tests.support.authnode import Authnode, encoded_caps, prepare, running_authnode
from tests.support.certs import Authority
from tests.support.load import under_load
from tests.support.processes import (
    FAILED,
    are_gone,
    assert_all_refused,
    exists,
    has_connections,
    has_replaced,
    recent,
    serves,
    wait_for_workers,
)
from tests.support.waiting import PATIENCE, wait_for
from tests.support.workers import Kept, connections_to_every_worker, ticket_request

from cubeauth import entropy, exchange
from cubeauth.errors import ServerRefused
from cubeauth.keys import parse_key_file
from cubeauth.messages import ROUTE_OF_WORD, TICKET_PATH
from cubeauth_authnode.replay import STRIPES
from cubeauth_authnode.supervisor import RESTARTS

KILLING_SECONDS = 6.0


# Killed.


def test_workers_killed_at_random_under_load_are_replaced_and_no_proof_is_good_twice(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    kills = 0
    with running_authnode(tmp_path, replayEntries=1 << 18) as authnode:
        with under_load(authnode, authnode.service_key_file) as load:
            end = time.monotonic() + KILLING_SECONDS
            while time.monotonic() < end and kills < RESTARTS - 1:
                wait_for("tickets", load.goes_on())
                time.sleep(chance.uniform(0, 0.3))  # the random instant that is the test
                os.kill(chance.choice(authnode.worker_pids()), signal.SIGKILL)
                kills += 1
                wait_for("the dead worker to be replaced", partial(has_replaced, authnode, kills))
            granted = recent(load.granted)
            lost = recent(load.lost)
        assert kills >= 3
        assert load.wrong == []
        assert load.refused == 0, "a proof of its own was refused"
        assert_all_refused(authnode, granted)
        for body in lost:  # its worker died with it: taken or not, it is good at most once
            authnode.request(TICKET_PATH, body)
            assert_all_refused(authnode, [body])
        granted_now = authnode.metric("cubeauth_authnode_tickets_granted_total")
        assert len(load.granted) <= granted_now <= len(load.granted) + 3 * len(load.lost)
        assert authnode.metric("cubeauth_authnode_replay_table_full_total") == 0
        wait_for("connections to be counted down", partial(has_connections, authnode, 0))
        assert authnode.stop() == 0


def test_a_worker_that_starts_while_writes_go_on_has_all_of_them(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        made: list[str] = []
        for kills in range(1, 4):
            (killed, lost), (_, kept) = connections_to_every_worker(authnode).items()
            os.kill(killed, signal.SIGKILL)
            while not has_replaced(authnode, kills):
                for _ in range(20):
                    made.append(f"k{len(made)}")
                    assert kept.ask(create_request(authnode, made[-1], kept), CREATE)["code"] == 0
            for each in (lost, kept):
                each.close()
        admin = authnode.admin_grant()
        keys = [parse_key_file(json.dumps(authnode.admin(admin, "getkey", {"id": name})["key_info"])) for name in made]
        for kept in connections_to_every_worker(authnode).values():
            assert [kept.ask(ticket_request(key_file).body)["code"] for key_file in keys] == [0] * len(keys)
            kept.close()


def test_the_parent_killed_takes_its_workers_along_and_comes_back_with_all_keys_and_proofs(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        client = authnode.create(admin, "ltptest", "client")
        granted: list[bytes] = []
        for number in range(3):
            with under_load(authnode, client) as load:
                wait_for("tickets", load.goes_on(50))
                workers = authnode.worker_pids()
                assert authnode.process is not None
                authnode.process.kill()
                authnode.process.wait()
                wait_for("the workers to end", partial(are_gone, workers))
            assert load.wrong == []
            granted += recent(load.granted, 20)
            authnode.start()
            assert_all_refused(authnode, granted)
            assert authnode.ticket(client, "AuthService").client_id == "ltptest"
            assert len(authnode.admin(admin, "listkeys", {})["keys"]) == number + 1
            authnode.create(admin, f"k{number}", "client")


def test_too_many_dead_workers_end_the_parent_with_status_1(tmp_path: Path) -> None:
    authnode = prepare(tmp_path)
    authnode.start()
    assert authnode.process is not None
    try:
        end = time.monotonic() + PATIENCE
        while authnode.process.poll() is None and time.monotonic() < end:
            for pid in authnode.worker_pids():
                if exists(pid):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        assert authnode.process.poll() == 1
    finally:
        authnode.process.kill()
    assert f"the Authnode ends: {RESTARTS + 1} workers ended within 60 s" in authnode.log
    assert "Traceback" not in authnode.log
    authnode.start()
    assert authnode.stop() == 0


def test_a_keystore_that_cannot_be_written_any_more_ends_the_parent_with_status_1_and_loses_nothing(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        kept = authnode.create(admin, "kept", "client")
        (tmp_path / "witness").rename(tmp_path / "away")
        with pytest.raises(ServerRefused) as caught:
            authnode.create(admin, "lost", "client")
        assert (caught.value.server_code, caught.value.detail) == (35, "the keystore cannot be written")
        assert authnode.process is not None
        assert authnode.process.wait(30) == 1
        assert "the Authnode ends: the witness" in authnode.log
        assert "Traceback" not in authnode.log
        (tmp_path / "away").rename(tmp_path / "witness")
        authnode.start()
        assert authnode.ticket(kept, "AuthService").client_id == "kept"


# Stopped.


def test_a_stopped_worker_holds_nobody_up_who_reached_another(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        client = authnode.create(admin, "ltptest", "client")
        connections = connections_to_every_worker(authnode)
        stopped, other = connections
        create = create_request(authnode, "another", connections[other])
        os.kill(stopped, signal.SIGSTOP)
        try:
            for _ in range(200):
                assert connections[other].ask(ticket_request(client).body)["code"] == 0
            sent = ticket_request(client)
            connections[stopped].send(TICKET_PATH, sent.body)
            assert connections[other].ask(create, CREATE)["code"] == 0, "writes do not wait for it either"
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert connections[stopped].receive()["code"] == 0
        assert connections[other].ask(sent.body) == FAILED
        for kept in connections.values():
            kept.close()


def create_request(authnode: Authnode, principal: str, kept: Kept) -> bytes:
    """A request for a new key, with a ticket asked for on the same connection."""
    route = ROUTE_OF_WORD["createkey"]
    payload = {"id": principal, "role": "client", "caps": encoded_caps()}
    asked = ticket_request(authnode.service_key_file)
    grant = exchange.accept_ticket(asked, json.dumps(kept.ask(asked.body)).encode())
    return exchange.ask_access(grant, route.type, {"key_info": payload}, now=time.time(), entropy=entropy.system).body


CREATE = ROUTE_OF_WORD["createkey"].path


def test_a_process_stopped_with_the_replay_table_locked_costs_refusals_of_what_is_there_only(tmp_path: Path) -> None:
    """A worker stopped at the one instant when it holds a stripe; here another process stands in for it."""
    with running_authnode(tmp_path) as authnode:
        kept = Kept(authnode)
        with (tmp_path / "store" / "replay.cache").open("r+b") as table:
            fcntl.lockf(table, fcntl.LOCK_EX, STRIPES // 8, 0)
            codes = [kept.ask(ticket_request(authnode.service_key_file).body)["code"] for _ in range(60)]
        assert {0, 2} == set(codes)
        assert authnode.metric("cubeauth_authnode_replay_table_full_total") == codes.count(2)
        assert [kept.ask(ticket_request(authnode.service_key_file).body)["code"] for _ in range(100)] == [0] * 100
        kept.close()


# Told to end.


def test_told_to_end_under_load_it_ends_with_0_and_every_answer_is_whole(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        client = authnode.create(admin, "ltptest", "client")
        with under_load(authnode, client, threads=8) as load:
            wait_for("tickets", load.goes_on(200))
            assert authnode.stop() == 0
        assert load.wrong == []
        assert load.refused == 0
        granted = {line["jti"] for line in authnode.audit_lines if line["outcome"] == "granted"}
        assert len(granted) >= len(load.granted) + 1, "an answer without its line in the audit"
        assert "Traceback" not in authnode.log


def test_told_to_end_it_does_not_wait_for_who_says_nothing(tmp_path: Path) -> None:
    files = Authority(tmp_path).server()
    for tls in ({}, {"certFile": str(files.certificate), "keyFile": str(files.key)}):
        with running_authnode(tmp_path / ("tls" if tls else "plain"), tls=tls) as authnode:
            silent = [socket.create_connection((authnode.host, authnode.port)) for _ in range(20)]
            wait_for("20 connections", partial(has_connections, authnode, 20))
            assert authnode.stop() == 0
            for raw in silent:
                raw.close()


def test_an_admin_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        kept = [Kept(authnode) for _ in range(10)]
        bodies = [create_request(authnode, f"k{number}", connection) for number, connection in enumerate(kept)]
        for connection, body in zip(kept, bodies, strict=True):
            connection.send(CREATE, body)
        assert authnode.process is not None
        authnode.process.terminate()
        answered = 0
        for connection in kept:
            try:
                answered += connection.receive()["code"] == 0
            except (OSError, http.client.RemoteDisconnected):
                continue
        assert authnode.stop() == 0
        authnode.start()
        keys = authnode.admin(authnode.admin_grant(), "listkeys", {})["keys"]
        assert answered <= len(keys) <= len(kept)


def test_a_request_whose_worker_dies_gets_no_answer_rather_than_a_wrong_one(tmp_path: Path) -> None:
    with running_authnode(tmp_path, workers=1) as authnode:
        kept = Kept(authnode)
        kept.ask(b"")
        (pid,) = authnode.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        kept.send(TICKET_PATH, ticket_request(authnode.service_key_file).body)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            kept.receive()
        kept.close()
        wait_for_workers(authnode, 1)
        serves(authnode)

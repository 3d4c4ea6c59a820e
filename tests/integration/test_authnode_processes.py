"""The Authnode's processes when they are killed, stopped, crowded out, told to end or to read anew."""

from __future__ import annotations

import fcntl
import http.client
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.authnode import Authnode, encoded_caps, prepare, running_authnode
from tests.support.certs import Authority, ServerFiles
from tests.support.load import Load, under_load
from tests.support.waiting import PATIENCE, wait_for
from tests.support.workers import Kept, connections_to_every_worker, ticket_request

from cubeauth import entropy, exchange
from cubeauth.errors import ServerRefused
from cubeauth.messages import ROUTE_OF_WORD, TICKET_PATH
from cubeauth_authnode.replay import STRIPES
from cubeauth_authnode.supervisor import RESTARTS

KILLING_SECONDS = 6.0
SAMPLE = 60
FAILED = {"code": 2, "msg": "authentication failed", "data": None}


def exists(pid: int) -> bool:
    """Whether a process runs: one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def are_gone(pids: list[int]) -> bool:
    return not any(map(exists, pids))


def has_other_workers(authnode: Authnode, pids: list[int]) -> bool:
    return authnode.worker_pids() != pids


def has_connections(authnode: Authnode, count: int) -> bool:
    return authnode.metric("cubeauth_authnode_connections_open") == count


def serves(authnode: Authnode) -> None:
    assert authnode.admin_grant().client_id == "AuthService"


def wait_for_workers(authnode: Authnode, count: int = 2) -> list[int]:
    def serving() -> list[int] | None:
        pids = authnode.worker_pids()
        return pids if len(pids) == count and authnode.metric("cubeauth_authnode_workers_ready") == count else None

    return wait_for(f"{count} workers that serve", serving)


def assert_all_refused(authnode: Authnode, bodies: list[bytes]) -> None:
    """On every worker."""
    for kept in connections_to_every_worker(authnode).values():
        for body in bodies:
            assert kept.ask(body) == FAILED
        kept.close()


def recent(bodies: list[bytes], count: int = SAMPLE) -> list[bytes]:
    return bodies[-count:]


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
                pids = wait_for_workers(authnode)
                wait_for("tickets", load.goes_on())
                time.sleep(chance.uniform(0, 0.3))  # the random instant that is the test
                os.kill(chance.choice(pids), signal.SIGKILL)
                kills += 1
                wait_for("the dead worker to be gone", partial(has_other_workers, authnode, pids))
            wait_for_workers(authnode)
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
        assert authnode.metric("cubeauth_authnode_worker_restarts") == kills
        assert authnode.metric("cubeauth_authnode_replay_table_full_total") == 0
        wait_for("connections to be counted down", partial(has_connections, authnode, 0))
        assert authnode.stop() == 0


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
        create = create_request(authnode, "another")
        stopped, other = connections
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


def create_request(authnode: Authnode, principal: str) -> bytes:
    route = ROUTE_OF_WORD["createkey"]
    payload = {"id": principal, "role": "client", "caps": encoded_caps()}
    grant = authnode.ticket(authnode.service_key_file, "AuthService")
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
        bodies = [create_request(authnode, f"k{number}") for number in range(len(kept))]
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


# Started where there is one already.


def end_of(authnode: Authnode) -> tuple[int, str]:
    """Exit status and what it wrote of an Authnode that is expected not to start."""
    done = subprocess.run(
        [sys.executable, "-m", "cubeauth_authnode", "-c", str(authnode.config)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(errors) == 1, done.stderr
    return done.returncode, errors[0]


def test_a_second_authnode_on_the_store_or_the_port_gets_one_line(tmp_path: Path) -> None:
    with running_authnode(tmp_path / "first") as first:
        same_store = prepare(tmp_path / "second", storeDir=str(tmp_path / "first" / "store"))
        status, line = end_of(same_store)
        assert status == 1
        assert line.startswith(f"cubeauth authnode: error: {tmp_path}/first/store")
        same_port = prepare(tmp_path / "third", listen=f"127.0.0.1:{first.port}")
        status, line = end_of(same_port)
        assert (status, "Address already in use" in line, str(same_port.config) in line) == (1, True, True)
        same_metrics = prepare(tmp_path / "fourth", metrics=f"127.0.0.1:{first.metrics_port}")
        status, line = end_of(same_metrics)
        assert (status, "metrics: cannot listen" in line, str(same_metrics.config) in line) == (1, True, True)
        serves(first)


@pytest.mark.parametrize(
    ("settings", "piece"),
    [
        ({"auditFile": "/proc/nosuch/audit.log"}, "auditFile: the folder /proc/nosuch cannot be made"),
        ({"auditFile": "/"}, "auditFile: cannot be opened: Is a directory"),
        ({"storeDir": "/proc/nosuch"}, "/proc/nosuch"),
        ({"listen": "192.0.2.99:0"}, "listen: cannot listen on 192.0.2.99:0"),
        ({"workers": 65}, "workers: 65 is not a whole number"),
    ],
)
def test_what_refuses_a_start_is_one_line(tmp_path: Path, settings: dict[str, Any], piece: str) -> None:
    status, line = end_of(prepare(tmp_path, **settings))
    assert status == 1
    assert piece in line


def test_a_certificate_that_is_not_its_key_s_refuses_the_start(tmp_path: Path) -> None:
    files, other = Authority(tmp_path).server(), Authority(tmp_path, "other CA").server("127.0.0.2")
    status, line = end_of(prepare(tmp_path, tls={"certFile": str(files.certificate), "keyFile": str(other.key)}))
    assert status == 1
    assert "certificate and key cannot be used" in line


# Told to read anew.


def test_sighup_opens_the_audit_file_anew_on_parent_and_workers(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        path = tmp_path / "audit.log"
        wait_for("the first line", lambda: authnode.audit_lines or None)
        path.rename(tmp_path / "audit.log.1")
        assert authnode.process is not None
        authnode.process.send_signal(signal.SIGHUP)
        wait_for("a new file", path.exists)

        def both() -> bool:
            authnode.create(admin, f"k{time.monotonic_ns() % 10**9}", "client")
            for kept in connections_to_every_worker(authnode).values():
                kept.ask(ticket_request(authnode.service_key_file).body)
                kept.close()
            events = {line["event"] for line in authnode.audit_lines}
            return {"ticket", "createkey"} <= events

        wait_for("lines of parent and workers in it", both)
        old = (tmp_path / "audit.log.1").stat().st_size
        assert both()
        assert (tmp_path / "audit.log.1").stat().st_size == old


def test_an_audit_file_that_cannot_be_opened_anew_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with running_authnode(tmp_path, auditFile=str(folder / "audit.log")) as authnode:
        workers = authnode.worker_pids()
        folder.rename(tmp_path / "moved")
        assert authnode.process is not None
        authnode.process.send_signal(signal.SIGHUP)
        wait_for("all three to say so", lambda: authnode.log.count("audit file not reopened") == 3 or None)
        serves(authnode)
        assert authnode.worker_pids() == workers


# TLS.


@contextmanager
def tls_authnode(folder: Path, **settings: Any) -> Iterator[tuple[Authnode, ServerFiles]]:
    authority = Authority(folder)
    files = authority.server()
    tls = {"certFile": str(files.certificate), "keyFile": str(files.key)}
    with running_authnode(folder, tls=tls, **settings) as authnode:
        authnode.tls = ssl.create_default_context(cafile=str(authority.ca_file))
        yield authnode, files


def test_tls_1_2_and_1_3_are_spoken_and_1_1_is_not(tmp_path: Path) -> None:
    with tls_authnode(tmp_path) as (authnode, _):
        context = authnode.tls
        assert context is not None
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = context.maximum_version = version
            assert authnode.admin_grant().client_id == "AuthService"
        assert authnode.admin(authnode.admin_grant(), "state", {})["state"]["keys"] == 0
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((authnode.host, authnode.port), timeout=20) as raw, pytest.raises((ssl.SSLError, OSError)):
            old.wrap_socket(raw)
        wait_for("the failure to be counted", lambda: authnode.metric("cubeauth_authnode_tls_failed_total") == 1)


def test_what_is_no_tls_is_cut_off_and_counted_out(tmp_path: Path) -> None:
    with tls_authnode(tmp_path, limits={"requestTime": "1s", "connections": 40}, workers=1) as (authnode, _):
        for opening in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"", b"\xff" * 300):
            raws = [socket.create_connection((authnode.host, authnode.port), timeout=20) for _ in range(5)]
            for raw in raws:
                raw.sendall(opening)
            for raw in raws:
                assert b"HTTP" not in _to_the_end(raw)
                raw.close()
        for _ in range(5):  # gone in the middle of it
            raw = socket.create_connection((authnode.host, authnode.port), timeout=20)
            raw.sendall(b"\x16\x03\x01\x02\x00\x01")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        wait_for("25 failures", lambda: authnode.metric("cubeauth_authnode_tls_failed_total") == 25)
        assert authnode.metric("cubeauth_authnode_connections_open") == 0
        serves(authnode)
        wait_for("it to be counted out", partial(has_connections, authnode, 0))
        assert "Traceback" not in authnode.log
        assert authnode.metric("cubeauth_authnode_worker_restarts") == 0


def _to_the_end(raw: socket.socket) -> bytes:
    got = b""
    try:
        while piece := raw.recv(65536):
            got += piece
    except ConnectionError:
        pass
    return got


def test_a_new_certificate_is_used_without_a_restart_and_nobody_notices(tmp_path: Path) -> None:
    with tls_authnode(tmp_path) as (authnode, files):
        workers = authnode.worker_pids()
        (tmp_path / "next").mkdir()
        authority = Authority(tmp_path / "next", "next CA")
        context = authnode.tls
        assert context is not None
        context.load_verify_locations(cafile=str(authority.ca_file))
        load = Load(authnode, authnode.service_key_file, threads=2)
        before = serial_of(authnode)
        load.start()
        try:
            renewed = authority.server()
            renewed.certificate.replace(files.certificate)
            renewed.key.replace(files.key)
            wait_for("the new certificate on every worker", lambda: {serial_of(authnode) for _ in range(20)} - {before} or None)
            assert authnode.process is not None
            authnode.process.send_signal(signal.SIGHUP)
            wait_for("no old one", lambda: before not in {serial_of(authnode) for _ in range(20)} or None)
            wait_for("tickets", load.goes_on(50))
        finally:
            load.stop()
        assert (load.wrong, load.lost, load.refused) == ([], [], 0)
        assert authnode.worker_pids() == workers
        serves(authnode)


def serial_of(authnode: Authnode) -> str:
    assert authnode.tls is not None
    with (
        socket.create_connection((authnode.host, authnode.port), timeout=20) as raw,
        authnode.tls.wrap_socket(raw, server_hostname=authnode.host) as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


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

"""An Authnode that starts where it cannot, one that is told to read its files anew, and when its audit is written."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.authnode import Authnode, prepare, running_authnode
from tests.support.certs import Authority
from tests.support.processes import (
    serves,
)
from tests.support.waiting import wait_for
from tests.support.workers import connections_to_every_worker, ticket_request

from cubeauth.errors import ServerRefused

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
        (
            {"auditFile": "/proc/nosuch/audit.log"},
            "auditFile: the folder /proc/nosuch cannot be made: No such file",
        ),
        ({"auditFile": "/"}, "auditFile: / cannot be opened: Is a directory; name a file"),
        ({"storeDir": "/proc/nosuch"}, "storeDir: /proc/nosuch cannot be made: No such file or directory; make it, or"),
        ({"witnessDir": "/proc/nosuch"}, "witnessDir: /proc/nosuch cannot be made: No such file or directory; make it, or"),
        ({"metrics": "192.0.2.99:0"}, "metrics: cannot listen on 192.0.2.99:0: Cannot assign requested address; free"),
        ({"listen": "192.0.2.99:0"}, "listen: cannot listen on 192.0.2.99:0: Cannot assign requested address; free the address"),
        ({"workers": 65}, "workers: 65 is not a whole number"),
    ],
)
def test_what_refuses_a_start_is_one_line(tmp_path: Path, settings: dict[str, Any], piece: str) -> None:
    authnode = prepare(tmp_path, **settings)
    status, line = end_of(authnode)
    assert status == 1
    assert piece in line
    assert line.startswith(f"cubeauth authnode: error: {authnode.config}: ")


def test_a_certificate_that_is_not_its_key_s_refuses_the_start(tmp_path: Path) -> None:
    files, other = Authority(tmp_path).server(), Authority(tmp_path, "other CA").server("127.0.0.2")
    status, line = end_of(prepare(tmp_path, tls={"certFile": str(files.certificate), "keyFile": str(other.key)}))
    assert status == 1
    assert f"tls: certificate and key cannot be used: {other.key} is not the key of {files.certificate}; the key must" in line


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


def test_an_admin_request_is_in_the_audit_when_it_is_answered(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        authnode.create(admin, "ltptest", "client")
        assert [line["outcome"] for line in authnode.audit_lines if line["event"] == "createkey"] == ["done"]
        with pytest.raises(ServerRefused):
            authnode.create(admin, "ltptest", "client")
        (last,) = [line for line in authnode.audit_lines if line["event"] == "createkey" and line["outcome"] == "refused"]
        assert (last["reason"], last["client"], last["target"], last["from"]) == (
            "key_exists",
            "AuthService",
            "ltptest",
            "127.0.0.1",
        )

"""HTTPS on the ticket port, by real workers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.authnode import Authnode, running_authnode
from tests.support.certs import Authority
from tests.support.waiting import wait_for

QUICK = 200
"""Handshakes; where one in five is lost, all of so many never succeed."""


@pytest.fixture
def authnode(tmp_path: Path) -> Iterator[Authnode]:
    authority = Authority(tmp_path)
    files = authority.server()
    tls = {"certFile": str(files.certificate), "keyFile": str(files.key)}
    with running_authnode(tmp_path / "authnode", tls=tls, limits={"connections": 16}) as running:
        running.tls = ssl.create_default_context(cafile=str(authority.ca_file))
        yield running


def test_a_client_that_begins_at_once_is_heard(authnode: Authnode) -> None:
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: authnode.request("/nowhere", b"")[0], range(QUICK)))
    assert statuses == [404] * QUICK
    assert authnode.metric("cubeauth_authnode_tls_failed_total") == 0


def test_what_is_no_handshake_is_counted_and_gone(authnode: Authnode) -> None:
    secure, authnode.tls = authnode.tls, None
    with pytest.raises(OSError):
        authnode.request("/nowhere", b"")
    authnode.tls = secure
    wait_for("the failure to be counted", lambda: authnode.metric("cubeauth_authnode_tls_failed_total") == 1)
    assert authnode.admin_grant().client_id == "AuthService"
    wait_for("all to be gone", lambda: authnode.metric("cubeauth_authnode_connections_open") == 0)

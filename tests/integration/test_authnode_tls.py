"""HTTPS on the ticket port: versions, what is no TLS, new certificates."""

from __future__ import annotations

import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.authnode import Authnode, running_authnode
from tests.support.certs import Authority, ServerFiles
from tests.support.load import Load
from tests.support.processes import (
    has_connections,
    serves,
)
from tests.support.waiting import wait_for


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

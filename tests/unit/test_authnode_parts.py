"""The smaller parts of the Authnode: directory, board and metrics, certificates, listening sockets."""

from __future__ import annotations

import dataclasses
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.exposition import generate_latest
from tests.support.certs import Authority
from tests.support.ticketing import RECORD

from cubeauth.errors import InputError, LocalMisuse
from cubeauth.keys import KeyRecord
from cubeauth_authnode import metrics, supervisor
from cubeauth_authnode.config import TlsFiles
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.keystore.base import Change, ChangeKind
from cubeauth_authnode.shared import BLOCK_WORDS, MAX_WORKERS, Board, Counter
from cubeauth_authnode.tls import Reloader, make_context

# Directory.


def record(principal: str, access_key: str = "") -> KeyRecord:
    return dataclasses.replace(RECORD, id=principal, access_key=access_key or f"{principal:x<16}")


def put(directory: Directory, it: KeyRecord) -> None:
    directory.apply(Change(directory.sequence + 1, ChangeKind.PUT, it))


def test_a_directory_follows_the_changes() -> None:
    directory = Directory([RECORD], 5)
    assert (len(directory), directory.get(RECORD.id), directory.find_access_key(RECORD.access_key)) == (1, RECORD, RECORD)
    put(directory, record("a"))
    directory.apply(Change(7, ChangeKind.DELETE, RECORD))
    assert (directory.sequence, len(directory), directory.get(RECORD.id)) == (7, 1, None)
    assert directory.find_access_key(RECORD.access_key) is None
    put(directory, record("a", "B" * 16))
    assert directory.find_access_key("a" + "x" * 15) is None
    assert directory.find_access_key("B" * 16) == directory.get("a")


@pytest.mark.parametrize("sequence", [5, 4, 7, 0])
def test_a_change_that_is_not_the_next_is_refused_and_not_taken_in(sequence: int) -> None:
    directory = Directory([RECORD], 5)
    with pytest.raises(LocalMisuse):
        directory.apply(Change(sequence, ChangeKind.DELETE, RECORD))
    assert (directory.sequence, directory.get(RECORD.id)) == (5, RECORD)


def test_pages_are_in_order_and_after_the_last_one() -> None:
    directory = Directory((), 0)
    for name in ("b", "B", "a", "a_", "c1", "c"):
        put(directory, record(name))
    pages = []
    after = ""
    while page := directory.after(after, 2):
        pages.append([each.id for each in page])
        after = page[-1].id
    assert pages == [["B", "a"], ["a_", "b"], ["c", "c1"]]


# Board and metrics.


@pytest.fixture
def board() -> Iterator[Board]:
    it, _ = Board.create()
    yield it
    it.close()


def test_every_worker_has_its_own_counters_and_none_is_the_sequence(board: Board) -> None:
    board.publish(77)
    for worker in range(MAX_WORKERS):
        block = board.block(worker)
        assert len(block) == BLOCK_WORDS > max(Counter)
        for counter in range(BLOCK_WORDS):
            assert block[counter] == 0
            block[counter] = worker + 1
        block.release()
    assert board.published == 77


def test_metrics_are_the_workers_sums_and_what_the_parent_knows(board: Board) -> None:
    registry = metrics.make_registry(board, 2, lambda: {"keys": ("keys in the store", 12)})
    for worker in (0, 1, 2):
        block = board.block(worker)
        block[Counter.TICKETS_GRANTED] = 10 + worker
        block[Counter.CONNECTIONS_OPEN] = 3
        block.release()
    text = generate_latest(registry).decode()
    assert "cubeauth_authnode_tickets_granted_total 21.0" in text, "the third is no worker of ours"
    assert "cubeauth_authnode_connections_open 6.0" in text
    assert "cubeauth_authnode_keys 12.0" in text
    for counter in Counter:
        assert f"cubeauth_authnode_{counter.name.lower()}".replace("admin_forwarded", "admin_requests") in text


# Certificates.


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    made = Authority(tmp_path).server()
    return TlsFiles(made.certificate, made.key)


def replace_files(files: TlsFiles, folder: Path) -> None:
    folder.mkdir()
    made = Authority(folder).server()
    made.certificate.replace(files.certificate)
    made.key.replace(files.key)


def test_new_files_are_taken_and_the_same_ones_are_not_read_again(files: TlsFiles, tmp_path: Path) -> None:
    reloader = Reloader(files)
    first = reloader.context
    reloader.check()
    assert reloader.context is first
    replace_files(files, tmp_path / "next")
    reloader.check()
    second = reloader.context
    assert second is not first
    reloader.check(force=True)
    assert reloader.context is not second


def test_a_pair_that_does_not_fit_is_said_and_the_one_before_stays(
    files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reloader = Reloader(files)
    first = reloader.context
    (tmp_path / "next").mkdir()
    other = Authority(tmp_path / "next").server()
    other.certificate.replace(files.certificate)
    with caplog.at_level(logging.ERROR):
        reloader.check()
        reloader.check()
    assert reloader.context is first
    assert len(caplog.records) == 1, "once for each change of the files"
    other.key.replace(files.key)
    reloader.check()
    assert reloader.context is not first
    files.key.unlink()
    now = reloader.context
    reloader.check()
    reloader.check(force=True)
    assert reloader.context is now, "a file that is away for a moment changes nothing"


@pytest.mark.parametrize("spoil", ["certificate", "key"])
def test_files_that_cannot_be_used_are_named(files: TlsFiles, spoil: str) -> None:
    getattr(files, spoil).write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(InputError) as caught:
        make_context(files)
    line = str(caught.value.located("authnode.yaml"))
    assert line.startswith("authnode.yaml: tls: certificate and key cannot be used: ")
    assert f"{files.certificate} is no certificate in PEM form, or {files.key} no key in PEM form" in line
    assert "_ssl.c" not in line
    with pytest.raises(InputError) as caught:
        make_context(TlsFiles(files.certificate, files.key, "enableHTTPS"))
    assert caught.value.field == "enableHTTPS"


def test_a_key_of_another_certificate_is_named(files: TlsFiles, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other CA").server("127.0.0.2")
    with pytest.raises(InputError) as caught:
        make_context(TlsFiles(files.certificate, other.key))
    assert f"{other.key} is not the key of {files.certificate}" in caught.value.problem


def test_a_certificate_that_is_gone_is_named(files: TlsFiles) -> None:
    files.certificate.unlink()
    with pytest.raises(InputError) as caught:
        make_context(files)
    assert f"{files.certificate}: No such file or directory" in caught.value.problem


def test_a_key_with_a_passphrase_is_refused_and_asks_nobody(files: TlsFiles) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"passphrase")
        )
    )
    failed: list[InputError] = []

    def make() -> None:
        try:
            make_context(files)
        except InputError as e:
            failed.append(e)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(20)
    assert len(failed) == 1


# Listening.


def test_as_many_sockets_as_workers_on_one_port() -> None:
    sockets = supervisor.listen("127.0.0.1", 0, 3)
    names = {each.getsockname() for each in sockets}
    assert len(sockets) == 3
    assert len(names) == 1
    for each in sockets:
        each.listen()
    with pytest.raises(InputError) as caught:
        supervisor.listen("127.0.0.1", sockets[0].getsockname()[1], 2)
    assert caught.value.field == "listen"
    assert "Address already in use" in caught.value.problem
    for each in sockets:
        each.close()


@pytest.mark.parametrize(("host", "piece"), [("192.0.2.99", "192.0.2.99:0: "), ("no host", "no host:0: "), ("::99", "::99:0: ")])
def test_an_address_that_cannot_be_had_is_named(host: str, piece: str) -> None:
    with pytest.raises(InputError) as caught:
        supervisor.listen(host, 0, 2)
    assert piece in str(caught.value)
    assert caught.value.remedy == "free the address, or choose another of this host"


def test_no_host_means_all_addresses_of_both_kinds() -> None:
    (each,) = supervisor.listen("", 0, 1)
    each.listen()
    port = each.getsockname()[1]
    for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
        socket.create_connection((host, port), timeout=20).close()
    each.close()

"""The Authnode's configuration: stock's JSON unchanged, and our YAML."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.support.authnode_configs import ABSENT, encoded, load, our_members, stock_members, write_keys

from cubeauth.errors import InputError
from cubeauth_authnode import config, settings
from cubeauth_authnode.config import AuthnodeConfig, Limits, TlsFiles

ROOT, SERVICE = bytes(range(32)), bytes(range(100, 132))


@pytest.fixture
def stock(tmp_path: Path) -> Callable[..., AuthnodeConfig]:
    return lambda **changes: load(tmp_path, stock_members(tmp_path), changes, as_json=True)


@pytest.fixture
def ours(tmp_path: Path) -> Callable[..., AuthnodeConfig]:
    write_keys(tmp_path)
    return lambda **changes: load(tmp_path, our_members(tmp_path), changes, as_json=False)


# Stock's.


def test_a_stock_file_is_read_unchanged(stock: Callable[..., AuthnodeConfig], tmp_path: Path) -> None:
    read = stock()
    assert (read.host, read.port) == ("", 8080)
    assert (read.store, read.witness) == (tmp_path / "rocksdbstore", tmp_path / "raft")
    assert (read.root_key.reveal(), read.service_key.reveal()) == (ROOT, SERVICE)
    assert read.metrics == ("", 9510)
    assert read.audit == tmp_path / "log" / "audit.log"
    assert (read.lifetime, read.skew) == (24 * 3600, 10)
    assert read.workers >= 2
    assert read.root_key_beside_store
    assert read.tls is None
    assert set(read.without_meaning) == {"id", "prof", "retainLogs", "consulAddr", "clusterName"}


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"port": 8443}, "port", 8443),
        ({"exporterPort": "9511"}, "metrics", ("", 9511)),
        ({"exporterPort": ABSENT}, "metrics", None),
        ({"exporterPort": 0}, "metrics", None),
        ({"logDir": ABSENT}, "audit", None),
        ({"enableHTTPS": "false"}, "tls", None),
        ({"enableHTTPS": ABSENT}, "tls", None),
        ({"logLevel": "DEBUG"}, "log_level", "debug"),
        ({"logLevel": "warning"}, "log_level", "warn"),
        ({"logLevel": "critical"}, "log_level", "error"),
        ({"logLevel": ABSENT}, "log_level", "info"),
        ({"peers": "1:192.168.0.14:8080,"}, "port", 8080),
        ({"peers": "1:authnode-0.cubefs_x:8080"}, "port", 8080),
        ({"peers": "1:[fd00::1]:8080"}, "port", 8080),
    ],
)
def test_a_stock_file_s_varieties(
    stock: Callable[..., AuthnodeConfig], changes: dict[str, Any], attribute: str, value: object
) -> None:
    assert getattr(stock(**changes), attribute) == value


def test_stock_s_raft_settings_are_known_and_mean_nothing(stock: Callable[..., AuthnodeConfig]) -> None:
    raft = {"heartbeatPort": "5901", "replicaPort": 5902, "tickInterval": 500, "electionTick": 5, "warnLogDir": "/x"}
    assert set(raft) < set(stock(**raft).without_meaning)


def test_stock_s_https_reads_stock_s_certificate(
    stock: Callable[..., AuthnodeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = (tmp_path / "server.crt", tmp_path / "server.key")
    monkeypatch.setattr(config, "STOCK_CERTIFICATE", files[0])
    monkeypatch.setattr(config, "STOCK_CERTIFICATE_KEY", files[1])
    for path in files:
        path.write_text("x")
    assert stock(enableHTTPS="true").tls == TlsFiles(*files)
    files[1].unlink()
    with pytest.raises(InputError) as caught:
        stock(enableHTTPS=True)
    assert caught.value.field == "enableHTTPS"
    assert str(files[1]) in caught.value.problem


# Ours.


def test_our_file_with_nothing_but_what_must_be_there(ours: Callable[..., AuthnodeConfig], tmp_path: Path) -> None:
    read = ours()
    assert (read.host, read.port) == ("127.0.0.1", 8080)
    assert (read.store, read.witness) == (tmp_path / "store", tmp_path / "store-witness")
    assert (read.root_key.reveal(), read.service_key.reveal()) == (ROOT, SERVICE)
    assert (read.lifetime, read.skew, read.require_bound) == (3600, 10, frozenset())
    assert (read.tls, read.metrics, read.audit, read.trusted_proxies, read.without_meaning) == (None, None, None, (), ())
    assert read.limits == Limits()
    assert not read.root_key_beside_store


def test_the_metrics_port_may_be_the_same_on_another_address_or_whichever_is_free(ours: Callable[..., AuthnodeConfig]) -> None:
    assert ours(metrics="127.0.0.2:8080").metrics == ("127.0.0.2", 8080)
    assert ours(listen=":0", metrics=":0").metrics == ("", 0)


def test_our_file_with_everything(ours: Callable[..., AuthnodeConfig], tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    read = ours(
        listen="[::1]:0",
        metrics=":9100",
        witnessDir=str(tmp_path / "w"),
        auditFile="/var/log/a.log",
        logLevel="debug",
        workers=64,
        replayEntries=1024,
        ticket={"lifetime": "7d", "skew": "5m"},
        limits={"connections": 1, "requestTime": "1s", "idleTime": "1h"},
        trustedProxies=["10.0.0.0/8", "fd00::1"],
        requireBoundVerifier=["ltptest", "adm"],
        tls={"certFile": str(tmp_path / "c.pem"), "keyFile": str(tmp_path / "k.pem")},
    )
    assert (read.host, read.port, read.metrics) == ("::1", 0, ("", 9100))
    assert (read.lifetime, read.skew) == (7 * 86400, 300)
    assert read.limits == Limits(connections=1, request_seconds=1.0, idle_seconds=3600)
    assert read.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::1/128"))
    assert read.require_bound == frozenset({"ltptest", "adm"})
    assert read.tls == TlsFiles(tmp_path / "c.pem", tmp_path / "k.pem")
    assert ours(requireBoundVerifier=["*"]).require_bound is None
    assert ours(rootKeyFile=str(tmp_path / "root.json"), storeDir=str(tmp_path)).root_key_beside_store


def test_what_workers_are_told_is_all_of_it_but_the_root_key(ours: Callable[..., AuthnodeConfig], tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    everything = ours(
        auditFile="/var/log/a.log",
        trustedProxies=["10.0.0.0/8", "fd00::1"],
        requireBoundVerifier=["ltptest"],
        limits={"connections": 7, "requestTime": "1s"},
        tls={"certFile": str(tmp_path / "c.pem"), "keyFile": str(tmp_path / "k.pem")},
    )
    for told in (
        settings.of_config(everything),
        settings.of_config(ours()),
        settings.of_config(ours(requireBoundVerifier=["*"])),
    ):
        encoded_settings = settings.encode(told)
        assert settings.decode(encoded_settings) == told
        assert encoded(ROOT).encode() not in encoded_settings
        assert encoded(SERVICE) not in repr(told)

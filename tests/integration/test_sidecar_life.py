"""A sidecar's life: starting, what refuses a start, limits, an Authnode that goes away, tickets that end, kill and drain."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.sidecar import (
    CLIENT,
    SERVICE,
    Daemon,
    Middleman,
    SidecarProcess,
    Site,
    dial,
    is_reset,
    present,
    read_all,
    running_site,
    turned_away,
)
from tests.support.waiting import wait_for

from cubeauth import strictjson


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("life")) as made:
        yield made


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.close()


@contextlib.contextmanager
def short_lived(folder: Path, lifetime: str) -> Iterator[Site]:
    """A site of its own, whose tickets live no longer than this."""
    with running_site(folder, ticket={"lifetime": lifetime}) as made:
        yield made


# What refuses a start.


def run(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cubeauth_sidecar", "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_an_address_that_is_taken_refuses_the_start_and_nothing_else_listens(site: Site, daemon: Daemon, tmp_path: Path) -> None:
    other = free_port()
    entry = {"forward": "127.0.0.1:1", "service": SERVICE, "capability": "data:write:access"}
    accept = [
        {"name": "one", "listen": f"127.0.0.1:{other}", **entry},
        {"name": "two", "listen": f"127.0.0.1:{daemon.port}", **entry},
    ]
    config = tmp_path / "sidecar.yaml"
    config.write_text(yaml.safe_dump(site.settings(SERVICE, ".", accept=accept) | {"auditFile": str(tmp_path / "audit.log")}))
    ended = run(config)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"cubeauth sidecar: error: {config}: accept[1].listen: cannot listen on 127.0.0.1:{daemon.port}: "
        "Address already in use; free the address or choose another\n"
    )
    assert ended.stdout == ""
    with pytest.raises(ConnectionRefusedError):
        dial(other)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"helth": "127.0.0.1:1"}, "helth: unknown setting; did you mean health?"),
        ({"keyFile": "/nowhere/key.json"}, "keyFile: /nowhere/key.json: cannot be read: No such file or directory"),
        (
            {"auditFile": "/nowhere/audit.log"},
            "sidecar.yaml: auditFile: /nowhere/audit.log cannot be opened: No such file",
        ),
        ({"authnode": {"endpoints": ["127.0.0.1:1"], "https": True, "caFile": "/nowhere/ca"}}, "/nowhere/ca: cannot be read"),
        ({"accept": []}, "accept: nothing to do"),
    ],
    ids=["typo", "key", "audit", "ca", "empty"],
)
def test_a_wrong_configuration_is_one_line_and_status_1(site: Site, tmp_path: Path, change: dict[str, Any], told: str) -> None:
    accept = [{"name": "a", "listen": ":0", "forward": "127.0.0.1:1", "service": SERVICE, "capability": "data:write:access"}]
    config = tmp_path / "sidecar.yaml"
    members = site.settings(SERVICE, ".", accept=accept) | {"auditFile": str(tmp_path / "audit.log")}
    config.write_text(yaml.safe_dump(members | change))
    ended = run(config)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("cubeauth sidecar: error: ")
    assert told in line
    assert ended.stdout == ""


# Readiness, and an Authnode that goes away.


def test_an_authnode_that_is_away_at_the_start_is_waited_for(tmp_path: Path, daemon: Daemon) -> None:
    with running_site(tmp_path) as site:
        authnode = site.authnode
        authnode.stop()
        acceptor = site.acceptor(daemon.port, ready=False)
        connector = site.connector(acceptor.ports["guard"], ready=False)
        assert acceptor.ready() == (503, f"no word of the Authnode about {SERVICE} yet\n")
        assert connector.ready() == (503, f"no ticket for {SERVICE}\n")
        assert connector.get("/livez")[0] == 200
        assert turned_away(connector.ports["out"])
        assert connector.metric("connections_total", outcome="failed", reason="no_ticket_held") == 1
        authnode.config.write_text(yaml.safe_dump(authnode.settings | {"listen": authnode.endpoint}))
        authnode.start()
        for sidecar in (acceptor, connector):
            wait_for("readiness", lambda sidecar=sidecar: sidecar.ready()[0] == 200)  # type: ignore[misc]  # bound now
        assert connector.metric("ticket_refresh_failures_total", service=SERVICE) >= 1
        with dial(connector.ports["out"]) as client, daemon.accept():
            client.close()


def test_while_the_authnode_is_away_the_ticket_held_serves(tmp_path: Path, daemon: Daemon) -> None:
    with running_site(tmp_path) as site:
        acceptor = site.acceptor(daemon.port)
        connector = site.connector(acceptor.ports["guard"])
        site.authnode.stop()
        for _ in range(3):
            with dial(connector.ports["out"]) as client, daemon.accept() as behind:
                client.sendall(b"still here")
                assert behind.recv(100) == b"still here"
        assert connector.ready()[0] == 200
        assert acceptor.ready()[0] == 200


def test_a_service_key_that_the_authnode_does_not_have_is_told_by_readiness(tmp_path: Path) -> None:
    with running_site(tmp_path) as site:
        stale = site.key_path(SERVICE).read_text()
        grant = site.authnode.admin_grant()
        site.authnode.admin(grant, "deletekey", {"id": SERVICE})
        site.make(SERVICE, "service")
        (tmp_path / "stale.json").write_text(stale)
        acceptor = site.acceptor(1, name="stale", ready=False, entry={"serviceKeyFile": str(tmp_path / "stale.json")})
        problem = f"the Authnode has another key for {SERVICE} than this sidecar\n"
        wait_for("the problem to be known", lambda: acceptor.ready() == (503, problem))


# Tickets that end.


def test_a_connection_outlives_its_first_tickets_by_renewal(tmp_path: Path, daemon: Daemon) -> None:
    with short_lived(tmp_path, "6s") as site:
        acceptor = site.acceptor(daemon.port)
        connector = site.connector(acceptor.ports["guard"])
        with dial(connector.ports["out"]) as client, daemon.accept() as behind:
            wait_for("two renewals", lambda: acceptor.metric("renewals_total", listener="guard") >= 2)
            client.sendall(b"still here")
            assert behind.recv(100) == b"still here"
            wait_for("the audit to tell", lambda: len(acceptor.audit) >= 3)
            jtis = [line["jti"] for line in acceptor.audit if line["outcome"] in ("accepted", "renewed")]
            assert len(set(jtis)) == len(jtis) >= 3
        assert connector.metric("renewals_total", listener="out") >= 2


def test_grace_carries_connections_over_an_outage_and_takes_nobody_new(tmp_path: Path, daemon: Daemon) -> None:
    with short_lived(tmp_path, "8s") as site:
        acceptor = site.acceptor(daemon.port)
        connector = site.connector(acceptor.ports["guard"])
        with dial(connector.ports["out"]) as client, daemon.accept() as behind:
            site.authnode.stop()
            for sidecar in (acceptor, connector):
                wait_for("grace", lambda sidecar=sidecar: sidecar.metric("connections_in_grace") == 1)  # type: ignore[misc]  # bound now
                assert sidecar.metric("authnode_silent") == 1
            acceptor.audited(outcome="grace", client=CLIENT)
            client.sendall(b"still here")
            assert behind.recv(100) == b"still here"
            assert turned_away(connector.ports["out"])
            assert connector.ready()[0] == 503


def test_the_ticket_that_ends_an_outage_ends_grace_and_not_the_connection(tmp_path: Path, daemon: Daemon) -> None:
    with short_lived(tmp_path, "8s") as site:
        authnode = site.authnode
        way = Middleman(authnode.port, lambda _direction, data: data)
        acceptor = site.acceptor(daemon.port, authnode={"endpoints": [f"127.0.0.1:{way.port}"]})
        connector = site.connector(acceptor.ports["guard"])
        with dial(connector.ports["out"]) as client, daemon.accept() as behind:
            authnode.stop()
            way.close()  # for good: an acceptor that hears of the Authnode first ends its grace
            for sidecar in (acceptor, connector):
                wait_for("grace", lambda sidecar=sidecar: sidecar.metric("connections_in_grace") == 1)  # type: ignore[misc]  # bound now
            authnode.config.write_text(yaml.safe_dump(authnode.settings | {"listen": authnode.endpoint}))
            authnode.start()
            acceptor.audited(outcome="renewed")
            for sidecar in (acceptor, connector):
                wait_for("the end of grace", lambda sidecar=sidecar: sidecar.metric("connections_in_grace") == 0)  # type: ignore[misc]  # bound now
            client.sendall(b"still here")
            assert behind.recv(100) == b"still here"


def test_without_grace_a_connection_ends_with_its_ticket(tmp_path: Path, daemon: Daemon) -> None:
    with short_lived(tmp_path, "4s") as site:
        acceptor = site.acceptor(daemon.port, grace="0s")
        connector = site.connector(acceptor.ports["guard"], grace="0s")
        with dial(connector.ports["out"]) as client, daemon.accept() as behind:
            site.authnode.stop()
            assert is_reset(client)
            assert is_reset(behind)
        acceptor.audited(outcome="failed", client=CLIENT)
        assert acceptor.audit[-1]["reason"] in ("ticket_expired", "refused_by_peer")


# Limits.


def test_silent_strangers_have_few_places_and_are_counted(site: Site, daemon: Daemon) -> None:
    acceptor = site.acceptor(daemon.port, name="handshakes", limits={"handshakes": 2, "handshakesPerPeer": 2})
    port = acceptor.ports["guard"]
    with dial(port), dial(port) as second:
        wait_for("both to be in", lambda: acceptor.metric("connections_opening") == 2)
        assert turned_away(port)
        assert acceptor.metric("connections_total", outcome="over_limit", reason="handshakes") == 1
        second.close()
        wait_for("a place to be free", lambda: acceptor.metric("connections_opening") == 1)
        grant = site.authnode.ticket(site.keys[CLIENT], SERVICE)
        present(port, grant)
        daemon.accept().close()


def test_one_address_has_its_share(site: Site, daemon: Daemon) -> None:
    acceptor = site.acceptor(daemon.port, name="share", limits={"perPeer": 2})
    connector = site.connector(acceptor.ports["guard"], name="share-connector")
    port = connector.ports["out"]
    with dial(port), dial(port), daemon.accept(), daemon.accept():
        assert turned_away(port)
        assert acceptor.metric("connections_total", outcome="over_limit", reason="per_peer") == 1
    wait_for("the two to end", lambda: acceptor.metric("connections_open") == 0)
    with dial(port), daemon.accept():
        pass


def test_the_whole_has_its_limit(site: Site, daemon: Daemon) -> None:
    acceptor = site.acceptor(daemon.port, name="whole")
    connector = site.connector(acceptor.ports["guard"], name="whole-connector", limits={"connections": 1})
    port = connector.ports["out"]
    with dial(port), daemon.accept():
        assert turned_away(port)
        assert connector.metric("connections_total", outcome="over_limit", reason="connections") == 1


def test_an_idle_connection_is_closed_where_the_configuration_says_so(site: Site, daemon: Daemon) -> None:
    acceptor = site.acceptor(daemon.port, name="idle", limits={"idle": "1s"})
    connector = site.connector(acceptor.ports["guard"], name="idle-connector")
    with dial(connector.ports["out"]) as client, daemon.accept() as behind:
        assert is_reset(behind)
        assert is_reset(client)
    acceptor.audited(outcome="closed", reason="idle")


# Ends.


class Pair:
    """Two sidecars of their own, to be ended, and one connection through them."""

    def __init__(self, site: Site, daemon: Daemon, name: str, **members: Any) -> None:
        self.acceptor = site.acceptor(daemon.port, name=f"{name}-acceptor", **members)
        self.connector = site.connector(self.acceptor.ports["guard"], name=f"{name}-connector", **members)
        self.client = dial(self.connector.ports["out"])
        self.behind = daemon.accept()
        self.client.sendall(b"x")
        assert self.behind.recv(1) == b"x"

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.behind.close()


def test_a_connector_that_is_killed_is_no_clean_end_for_the_daemon(site: Site, daemon: Daemon) -> None:
    with Pair(site, daemon, "kill-connector") as pair:
        pair.connector.send(signal.SIGKILL)
        assert is_reset(pair.behind)
        line = pair.acceptor.audited(client=CLIENT, from_peer=1)
        assert (line["outcome"], line["reason"]) == ("failed", "truncated")
        wait_for("its end", lambda: pair.acceptor.metric("connections_open") == 0)


def test_an_acceptor_that_is_killed_is_no_clean_end_for_the_client(site: Site, daemon: Daemon) -> None:
    with Pair(site, daemon, "kill-acceptor") as pair:
        pair.acceptor.send(signal.SIGKILL)
        assert is_reset(pair.client)
        wait_for("its end", lambda: pair.connector.metric("connections_open") == 0)


def stops_accepting(sidecar: SidecarProcess, listener: str) -> None:
    wait_for("the word that it stops", lambda: "stopping" in sidecar.log)
    assert sidecar.ready() == (503, "stopping\n")
    with pytest.raises(ConnectionRefusedError):
        dial(sidecar.ports[listener])


@pytest.mark.parametrize("which", ["acceptor", "connector"])
def test_told_to_stop_it_takes_nobody_new_and_lets_connections_finish(site: Site, daemon: Daemon, which: str) -> None:
    with Pair(site, daemon, f"drain-{which}") as pair:
        sidecar, listener = (pair.acceptor, "guard") if which == "acceptor" else (pair.connector, "out")
        sidecar.send(signal.SIGTERM)
        stops_accepting(sidecar, listener)
        pair.client.sendall(b"last words")
        assert pair.behind.recv(100) == b"last words"
        pair.client.shutdown(socket.SHUT_WR)
        pair.behind.sendall(b"and an answer")
        pair.behind.close()
        assert read_all(pair.client) == b"and an answer"
        pair.client.close()
        assert sidecar.ended() == 0


def test_when_the_time_to_drain_is_over_what_is_left_is_reset(site: Site, daemon: Daemon) -> None:
    with Pair(site, daemon, "cut", drain="1s") as pair:
        pair.acceptor.send(signal.SIGTERM)
        assert is_reset(pair.behind)
        assert is_reset(pair.client)
        assert pair.acceptor.ended() == 0
        assert pair.acceptor.audit[-1]["reason"] == "stopped"


def test_told_twice_it_waits_no_longer(site: Site, daemon: Daemon) -> None:
    with Pair(site, daemon, "twice", drain="1h") as pair:
        pair.acceptor.send(signal.SIGTERM)
        stops_accepting(pair.acceptor, "guard")
        pair.acceptor.send(signal.SIGTERM)
        assert pair.acceptor.ended() == 0


def test_a_rotated_audit_file_is_opened_anew(site: Site, daemon: Daemon) -> None:
    with Pair(site, daemon, "rotate") as pair:
        path = pair.acceptor.folder / "audit.log"
        pair.acceptor.audited(outcome="accepted")
        path.rename(path.with_suffix(".1"))
        pair.acceptor.send(signal.SIGHUP)
        wait_for("the new file", path.exists)
        pair.client.close()
        pair.behind.close()
        pair.acceptor.audited(outcome="closed", reason="complete")


def test_no_secret_is_in_anything_that_was_written(site: Site, daemon: Daemon) -> None:
    acceptor = site.acceptor(daemon.port, name="secrets-acceptor", logLevel="debug")
    connector = site.connector(acceptor.ports["guard"], name="secrets-connector", logLevel="debug")
    grant = site.authnode.ticket(site.keys[CLIENT], SERVICE)
    present(acceptor.ports["guard"], grant)
    daemon.accept().close()
    with dial(connector.ports["out"]), daemon.accept():
        pass
    acceptor.audited(outcome="closed")
    secrets = [key.auth_key.reveal() for key in site.keys.values()] + [grant.session_key.reveal()]
    forms = [form for raw in secrets for form in (raw, raw.hex().encode(), strictjson.b64encode(raw).encode())]
    forms += [grant.ticket[:40].encode(), *(key.secret_key.reveal() for key in site.keys.values())]
    written = [sidecar.get("/metrics")[1].encode() for sidecar in (acceptor, connector)]
    for folder in (sidecar.folder for sidecar in site.sidecars):
        written += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(b"".join(written)) > 10_000
    assert not [form for form in forms if any(form in text for text in written)]
    for sidecar in (acceptor, connector):
        assert sidecar.process is not None
        for part in ("cmdline", "environ"):
            text = Path(f"/proc/{sidecar.process.pid}/{part}").read_bytes()
            assert not [form for form in forms if form in text]
    assert os.stat(acceptor.folder / "audit.log").st_mode & 0o077 == 0

"""Who has no right, or a way that tampers: what the wire says, what the audit says, and that the daemon gets nothing."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.f3 import UNIFORM_ERROR
from tests.support.sidecar import (
    CAPABILITY,
    CLIENT,
    SERVICE,
    Cut,
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

from cubeauth import entropy, ticket
from cubeauth.errors import Reason
from cubeauth.events import ChannelFailed, HandshakeCompleted
from cubeauth.exchange import TicketGrant
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes


class Guarded:
    """A daemon behind an acceptor, and its Authnode."""

    def __init__(self, site: Site, daemon: Daemon, acceptor: SidecarProcess) -> None:
        self.site = site
        self.daemon = daemon
        self.acceptor = acceptor
        self.port = acceptor.ports["guard"]

    def refused(self, seen: int) -> dict[str, Any]:
        """The one audit line after the first `seen`, waited for; and nobody reached the daemon."""
        wait_for("the audit to tell", lambda: len(self.acceptor.audit) > seen)
        (line,) = self.acceptor.audit[seen:]
        assert not self.daemon.waiting()
        return line


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    daemon = Daemon()
    with running_site(tmp_path_factory.mktemp("refusals")) as site:
        site.make("reader", "client", "data:read:access")
        site.make("MasterService", "service")
        yield Guarded(site, daemon, site.acceptor(daemon.port))
    daemon.close()


def own_ticket(guarded: Guarded, **changes: Any) -> TicketGrant:
    """A ticket of our own making, sealed with the service's real key."""
    now = int(time.time())
    made = ticket.Ticket(
        service_id=SERVICE,
        session_key=SecretBytes(entropy.system(32)),
        c_time=now - 100,
        exp=now + 100,
        ip="127.0.0.1",
        caps=f'{{"API":["{CAPABILITY}"]}}',
        client_id=CLIENT,
        jti="ab" * 16,
        kvno=1,
    )
    made = dataclasses.replace(made, **changes)
    text = ticket.seal(guarded.site.keys[SERVICE].auth_key.reveal(), made, entropy.system)
    return TicketGrant(CLIENT, SERVICE, text, made.session_key, made.c_time, made.exp)


def test_the_forgers_good_ticket_is_taken_so_that_the_bad_ones_fail_for_their_own_reason(guarded: Guarded) -> None:
    events, _ = present(guarded.port, own_ticket(guarded))
    assert isinstance(events[0], HandshakeCompleted)
    guarded.daemon.accept().close()
    guarded.acceptor.audited(outcome="accepted", client=CLIENT, jti="ab" * 16)
    wait_for("the connection's end", lambda: guarded.acceptor.audit[-1]["outcome"] != "accepted")


def refusals(guarded: Guarded) -> dict[str, TicketGrant]:
    real = guarded.site.authnode
    keys = guarded.site.keys
    for_master = real.ticket(keys[CLIENT], "MasterService")
    good = own_ticket(guarded)
    return {
        "other_service": for_master,
        "bad_envelope": dataclasses.replace(for_master, service_id=SERVICE),
        "capability_missing": real.ticket(keys["reader"], SERVICE),
        "ticket_expired": own_ticket(guarded, exp=int(time.time()) - 1),
        "other_client": dataclasses.replace(good, client_id="reader"),
        "bad_ticket": own_ticket(guarded, caps="not a list"),
    }


@pytest.mark.parametrize(
    "reason", ["other_service", "bad_envelope", "capability_missing", "ticket_expired", "other_client", "bad_ticket"]
)
def test_the_wire_says_one_thing_to_all_and_the_audit_says_why(guarded: Guarded, reason: str) -> None:
    grant = refusals(guarded)[reason]
    seen = len(guarded.acceptor.audit)
    events, came = present(guarded.port, grant)
    assert isinstance(events[0], ChannelFailed)
    assert came == UNIFORM_ERROR
    line = guarded.refused(seen)
    assert (line["event"], line["outcome"], line["listener"]) == ("connection", "refused", "guard")
    assert (line["reason"], line["claimed"]) == (reason, grant.client_id)
    assert "client" not in line
    assert line["from"].startswith("127.0.0.1:")
    assert guarded.acceptor.metric("connections_total", outcome="refused", reason=reason) >= 1


def test_a_plain_client_at_the_secured_port_has_no_ticket(guarded: Guarded) -> None:
    seen = len(guarded.acceptor.audit)
    with dial(guarded.port) as client:
        client.sendall(b"\x00\x01 a packet of CubeFS, or HTTP, or what you like")
        assert read_all(client) == UNIFORM_ERROR
    line = guarded.refused(seen)
    assert (line["outcome"], line["reason"]) == ("refused", "no_ticket")
    assert "claimed" not in line


def test_a_stolen_ticket_without_its_session_key_opens_nothing(guarded: Guarded) -> None:
    seen = len(guarded.acceptor.audit)
    stolen = dataclasses.replace(own_ticket(guarded), session_key=SecretBytes(entropy.system(32)))
    events, _ = present(guarded.port, stolen)
    assert isinstance(events[0], ChannelFailed)
    line = guarded.refused(seen)
    assert (line["outcome"], line["claimed"]) == ("refused", CLIENT)


def test_a_client_of_the_other_mode_is_refused(guarded: Guarded) -> None:
    seen = len(guarded.acceptor.audit)
    _, came = present(guarded.port, own_ticket(guarded), mode=Mode.CLEAR)
    assert came == UNIFORM_ERROR
    assert guarded.refused(seen)["reason"] == "mode_differs"


def test_a_connector_that_is_refused_resets_its_client_and_says_so(guarded: Guarded) -> None:
    connector = guarded.site.connector(guarded.port, name="reader-connector", principal="reader")
    assert turned_away(connector.ports["out"])
    assert connector.metric("connections_total", outcome="refused", reason="refused_by_peer") == 1
    assert '"reason": "refused_by_peer"' in connector.log


# A man in the middle.


def until_reset(sock: socket.socket) -> bytes:
    """What comes before the reset, and a reset must come."""
    came = bytearray()
    try:
        while data := sock.recv(100):
            came += data
    except ConnectionResetError:
        return bytes(came)
    raise AssertionError("a clean end")


class Tamper:
    """What to do to the bytes of one direction once `armed`."""

    def __init__(self, direction: str, act: str) -> None:
        self.direction = direction
        self.act = act
        self.armed = False

    def __call__(self, direction: str, data: bytes) -> bytes:
        if not self.armed or direction != self.direction:
            return data
        if self.act == "cut":
            raise Cut
        if self.act == "repeat":
            return data + data
        flipped = bytearray(data)
        flipped[-1] ^= 0x10
        return bytes(flipped)


@pytest.fixture
def tampered(guarded: Guarded, request: pytest.FixtureRequest) -> Iterator[tuple[Tamper, SidecarProcess]]:
    tamper = Tamper(*request.param)
    middleman = Middleman(guarded.port, tamper)
    connector = guarded.site.connector(middleman.port, name="-".join(request.param))
    yield tamper, connector
    connector.kill()
    middleman.close()


@pytest.mark.parametrize(
    ("tampered", "reason"),
    [(("c2s", "flip"), "bad_record"), (("c2s", "repeat"), "bad_record"), (("c2s", "cut"), "truncated")],
    indirect=["tampered"],
    ids=["flip", "repeat", "cut"],
)
def test_no_wrong_byte_reaches_the_daemon_and_no_false_end(
    guarded: Guarded, tampered: tuple[Tamper, SidecarProcess], reason: str
) -> None:
    tamper, connector = tampered
    before, seen = guarded.acceptor.metric("truncations_total"), len(guarded.acceptor.audit)
    with dial(connector.ports["out"]) as client, guarded.daemon.accept() as daemon:
        client.sendall(b"good")
        assert daemon.recv(100) == b"good"
        tamper.armed = True
        client.sendall(b"touched on the way")
        came = until_reset(daemon)
        assert came in (b"", b"touched on the way" if tamper.act == "repeat" else b"")
        assert is_reset(client)
    wait_for("the audit to tell", lambda: len(guarded.acceptor.audit) >= seen + 2)
    line = guarded.acceptor.audit[-1]
    assert (line["outcome"], line["reason"], line["client"]) == ("failed", reason, CLIENT)
    assert line["from_peer"] == (22 if tamper.act == "repeat" else 4)
    assert guarded.acceptor.metric("truncations_total") == before + (reason == Reason.TRUNCATED)


@pytest.mark.parametrize("tampered", [("s2c", "flip"), ("s2c", "cut")], indirect=True, ids=["flip", "cut"])
def test_no_wrong_byte_reaches_the_client_and_no_false_end(guarded: Guarded, tampered: tuple[Tamper, SidecarProcess]) -> None:
    tamper, connector = tampered
    with dial(connector.ports["out"]) as client, guarded.daemon.accept() as daemon:
        daemon.sendall(b"good")
        assert client.recv(100) == b"good"
        tamper.armed = True
        daemon.sendall(b"touched on the way")
        assert until_reset(client) == b""
        assert is_reset(daemon)
    reason = "truncated" if tamper.act == "cut" else "bad_record"
    wait_for("the connector's word", lambda: connector.metric("connections_total", outcome="failed", reason=reason) == 1)


@pytest.mark.parametrize("tampered", [("c2s", "flip"), ("s2c", "flip")], indirect=True, ids=["c2s", "s2c"])
def test_a_handshake_that_was_touched_reaches_nobody(guarded: Guarded, tampered: tuple[Tamper, SidecarProcess]) -> None:
    tamper, connector = tampered
    seen = len(guarded.acceptor.audit)
    tamper.armed = True
    assert turned_away(connector.ports["out"])
    assert guarded.refused(seen)["outcome"] == "refused"

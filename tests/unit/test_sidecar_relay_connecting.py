"""The connecting relay, as scripts: what a local process dials goes out under our ticket, and the ticket is kept fresh."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import NOW
from tests.support.relays import DAEMON, PEER, SEALED_RULES, Script, connected, connecting, sent

from cubeauth import entropy
from cubeauth.errors import LocalMisuse
from cubeauth.events import Renewed
from cubeauth.exchange import TicketGrant
from cubeauth.frames import FrameType
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes
from cubeauth_sidecar.commands import (
    AskAuthnode,
    Close,
    CloseWriting,
    Command,
    Dial,
    FetchTicket,
    Hold,
    Record,
    Release,
    Reset,
    Send,
)
from cubeauth_sidecar.events import (
    DeadlinePassed,
    Dialed,
    DialFailed,
    EndOfStream,
    Event,
    Lost,
    Received,
    Stopped,
    TicketFailed,
    TicketReady,
)
from cubeauth_sidecar.relay_connecting import OPENING_SECONDS, RENEW_AT, RENEW_SPREAD
from cubeauth_sidecar.relay_tcp import Rules, Stage

GRANT = f3.grant()
LIFE = GRANT.exp - GRANT.c_time


def kinds(commands: list[Command]) -> list[type[Command]]:
    return [type(command) for command in commands]


def later_grant(by: int = 3600, **changes: Any) -> TicketGrant:
    """The next ticket of the same client."""
    made = f3.ticket_of(c_time=GRANT.c_time + by, exp=GRANT.exp + by, session_key=SecretBytes(entropy.system(32)), **changes)
    return f3.grant(made, label=f"later {by}")


# Opening.


def test_ticket_then_peer_then_handshake_and_only_then_the_local_bytes() -> None:
    script = connecting()
    assert script.commands == [Hold(DAEMON), FetchTicket()]
    assert script.on(TicketReady(GRANT)) == [Dial()]
    assert kinds(script.on(Dialed())) == [Send]
    commands = script.carry()
    assert [kind for kind in kinds(commands) if kind is not Send] == [Record, Release]
    assert script.relay.stage is Stage.OPEN
    assert (script.last.peer, script.last.proven) == (f3.SERVICE, True)
    assert script.far.channel.peer == f3.CLIENT


def test_without_a_ticket_the_local_process_is_reset_and_nobody_is_dialed() -> None:
    script = connecting()
    assert kinds(script.on(TicketFailed("no Authnode"))) == [AskAuthnode, Reset, Reset, Record]
    assert script.of(Dial) == []
    assert script.records == [("failed", "no_ticket_held")]
    assert script.last.detail == "no Authnode"


def test_a_peer_that_is_down_resets_the_local_process() -> None:
    script = connecting()
    script.on(TicketReady(GRANT))
    assert Reset(DAEMON) in script.on(DialFailed("Connection refused"))
    assert script.records == [("failed", "peer_down")]


def test_ticket_and_dial_have_their_time_and_the_handshake_its_own() -> None:
    script = connecting()
    assert script.relay.next_deadline() == NOW + OPENING_SECONDS
    script.on(TicketReady(GRANT))
    assert script.at(NOW + OPENING_SECONDS).on(DeadlinePassed())[:2] == [Reset(PEER), Reset(DAEMON)]
    assert script.records == [("failed", "slow_start")]

    script = connecting()
    script.at(NOW + 9).on(TicketReady(GRANT), Dialed())
    assert script.relay.next_deadline() == NOW + 19
    script.at(NOW + 19).on(DeadlinePassed())
    assert script.records == [("refused", "deadline")]


def test_a_ticket_too_large_for_a_handshake_is_a_clear_end() -> None:
    script = connecting()
    large = TicketGrant(GRANT.client_id, GRANT.service_id, "x" * 70_000, GRANT.session_key, GRANT.c_time, GRANT.exp)
    script.on(TicketReady(large))
    assert kinds(script.on(Dialed())) == [Reset, Reset, Record]
    assert script.records == [("failed", "ticket_too_large")]


def test_a_refusal_resets_the_local_process_and_asks_for_a_ticket_of_the_services_present_key() -> None:
    script = connecting(acceptor={"service_keys": lambda: (SecretBytes(entropy.system(32)),)})
    script.on(TicketReady(GRANT), Dialed())
    commands = script.carry()
    assert kinds(commands)[-4:] == [AskAuthnode, Close, Reset, Record]
    assert script.records == [("refused", "refused_by_peer")]


def test_a_server_without_the_services_key_is_no_service_of_ours() -> None:
    script = connecting()
    script.on(TicketReady(GRANT), Dialed())
    foreign = SecretBytes(entropy.system(32))
    impostor = f3.grant(f3.ticket_of(session_key=foreign))
    other = f3.new_pair(grant_=impostor)
    other.server.feed(other.client.take())
    script.feed(other.server.take())
    assert script.records == [("refused", "bad_envelope")]
    assert script.of(Release) == []


@pytest.mark.parametrize("gone", [EndOfStream(PEER), Lost(PEER, "reset")], ids=["end", "reset"])
def test_a_peer_that_leaves_during_the_handshake(gone: Event) -> None:
    script = connecting()
    script.on(TicketReady(GRANT), Dialed())
    assert Reset(DAEMON) in script.on(gone)
    assert script.records == [("refused", "truncated")]


def test_a_local_process_that_leaves_while_we_fetch_dial_or_shake_hands() -> None:
    for events in ([], [TicketReady(GRANT)], [TicketReady(GRANT), Dialed()]):
        script = connecting()
        script.on(*events)
        assert Reset(PEER) in script.on(Lost(DAEMON, "reset"))
        assert script.records == [("failed", "daemon_lost")]


# Bytes.


@pytest.mark.parametrize("mode", Mode, ids=str)
@pytest.mark.parametrize("feeding", f3.FEEDINGS, ids=str)
def test_bytes_and_ends_pass_both_ways(mode: Mode, feeding: str) -> None:
    script = connected(rules=Rules(mode, 3600.0))
    script.from_daemon(b"a ")
    script.from_daemon(b"question")
    script.carry()
    assert script.far.received == b"a question"
    script.far.channel.send(b"an answer")
    script.feed(*f3.FEEDINGS[feeding](script.far.take()))
    assert script.to_daemon() == b"an answer"
    assert script.on(EndOfStream(DAEMON))[-1] == CloseWriting(PEER)
    script.carry()
    if mode is Mode.SEALED:
        script.far.channel.close()
        commands = script.feed(script.far.take())
    else:
        commands = script.on(EndOfStream(PEER))
    assert commands[:3] == [CloseWriting(DAEMON), Close(PEER), Close(DAEMON)]
    assert script.records[-1] == ("closed", "complete")
    assert (script.last.from_peer, script.last.to_peer) == (9, 10)


@pytest.mark.parametrize("cut", [EndOfStream(PEER), Lost(PEER, "Connection reset by peer")], ids=["end", "reset"])
def test_a_stream_cut_short_resets_the_local_process(cut: Event) -> None:
    script = connected()
    commands = script.on(cut)
    assert Reset(DAEMON) in commands
    assert CloseWriting(DAEMON) not in commands
    assert script.records[-1] == ("failed", "truncated")


def test_a_reset_of_the_local_process_resets_the_peer_without_a_close_record() -> None:
    script = connected()
    commands = script.on(Lost(DAEMON, "Connection reset by peer"))
    assert commands[0] == Reset(PEER)
    assert script.of(Send)[-1].buffers  # the handshake's; nothing after it
    assert sent(commands, PEER) == b""


# Renewal.


def renewal_due(script: Script) -> float:
    deadline = script.relay.next_deadline()
    assert deadline is not None
    return deadline


def test_a_ticket_is_renewed_in_the_last_fifth_of_its_life() -> None:
    script = connected(grant=GRANT)
    due = renewal_due(script)
    assert GRANT.c_time + LIFE * RENEW_AT <= due < GRANT.c_time + LIFE * (RENEW_AT + RENEW_SPREAD)
    assert script.at(due).on(DeadlinePassed()) == [FetchTicket()]
    commands = script.on(TicketReady(later_grant()))
    assert [kind for kind in kinds(commands) if kind is not Send] == [Record]
    script.carry()
    assert [event.exp for event in script.far.of(Renewed)] == [GRANT.exp + 3600]
    assert script.records[-1] == ("renewed", "")
    assert renewal_due(script) > due + 1800
    assert script.at(GRANT.exp + 1).from_daemon(b"past the first ticket's end")
    script.carry()
    assert script.far.received == b"past the first ticket's end"


def test_many_connections_of_one_ticket_do_not_renew_in_the_same_instant() -> None:
    dues = set()
    for n in range(20):
        script = connecting()
        script.relay._entropy = f3.chance(f"relay {n}")  # type: ignore[attr-defined]  # the connecting role's
        script.on(TicketReady(GRANT), Dialed())
        script.carry()
        dues.add(renewal_due(script))
    assert len(dues) == 20


def test_while_there_is_no_later_ticket_we_look_again_and_again_until_the_end() -> None:
    script = connected(grant=GRANT, rules=Rules(Mode.SEALED, 0.0))
    looks = []
    while not script.relay.closed:
        due = renewal_due(script)
        for command in script.at(due).on(DeadlinePassed()):
            if command == FetchTicket():
                looks.append(due)
                script.on(TicketReady(GRANT) if len(looks) % 2 else TicketFailed("silence"))
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert len(looks) > 10
    assert min(gaps) >= 10
    assert max(gaps) <= 30
    assert script.records[-1] == ("failed", "ticket_expired")
    assert script.now == GRANT.exp


def test_a_look_that_nobody_answers_is_not_repeated_meanwhile() -> None:
    script = connected(grant=GRANT, rules=Rules(Mode.SEALED, 0.0))
    script.at(renewal_due(script)).on(DeadlinePassed())
    assert renewal_due(script) == GRANT.exp


def test_a_connection_made_late_in_a_tickets_life_is_renewed_soon() -> None:
    old = f3.grant(f3.ticket_of(c_time=int(NOW) - 3500, exp=int(NOW) + 100))
    script = connected(grant=old, rules=Rules(Mode.SEALED, 0.0))
    assert NOW < renewal_due(script) <= NOW + 30


def test_a_refused_renewal_ends_the_connection() -> None:
    script = connected(grant=GRANT)
    script.at(renewal_due(script)).on(DeadlinePassed(), TicketReady(later_grant(caps='{"API":[]}')))
    commands = script.carry()
    assert kinds(commands) == [AskAuthnode, Close, Reset, Record]
    assert script.records[-1] == ("failed", "refused_by_peer")
    assert "capability_missing" in script.last.detail


def test_after_our_direction_ended_nothing_is_renewed() -> None:
    script = connected(grant=GRANT, rules=Rules(Mode.SEALED, 0.0))
    script.on(EndOfStream(DAEMON))
    script.at(renewal_due(script)).on(DeadlinePassed())
    assert script.on(TicketReady(later_grant())) == []
    assert renewal_due(script) == GRANT.exp


def test_a_later_ticket_too_large_for_a_frame_leaves_the_connection_alone() -> None:
    script = connected(grant=GRANT)
    script.at(renewal_due(script)).on(DeadlinePassed())
    fresh = later_grant()
    large = TicketGrant(fresh.client_id, fresh.service_id, "x" * 2_000_000, fresh.session_key, fresh.c_time, fresh.exp)
    assert script.on(TicketReady(large)) == []
    assert renewal_due(script) > script.now


def test_clear_mode_is_never_renewed_and_ends_with_its_ticket() -> None:
    script = connected(grant=GRANT, rules=Rules(Mode.CLEAR, 3600.0))
    assert renewal_due(script) == GRANT.exp
    script.at(GRANT.exp).on(DeadlinePassed())
    assert script.records[-1] == ("failed", "ticket_expired")


def test_grace_takes_our_own_unanswered_try_too_and_a_later_ticket_ends_it() -> None:
    silent: list[float | None] = [None]
    script = connected(grant=GRANT, acceptor={"unanswered_try": lambda: silent[0]}, unanswered_try=lambda: silent[0])
    asked = False
    while script.now < GRANT.exp:
        for command in script.at(renewal_due(script)).on(DeadlinePassed()):
            asked = asked or command == AskAuthnode()
            if command == FetchTicket():
                script.on(TicketFailed("silence"))
        silent[0] = script.now
    assert asked
    assert grace_of(script)
    assert ("grace", "") in script.records
    while not script.of(FetchTicket) or script.commands[-1] != FetchTicket():
        silent[0] = script.now
        script.at(renewal_due(script)).on(DeadlinePassed())
    script.on(TicketReady(later_grant()))
    script.carry()
    assert not grace_of(script)
    assert not script.relay.closed


def grace_of(script: Script) -> bool:
    return script.relay.in_grace


# Every stage, every event.

EVENTS: list[Event] = [
    TicketReady(GRANT),
    TicketFailed("no"),
    Dialed(),
    DialFailed("no"),
    Received(PEER, b"x"),
    EndOfStream(PEER),
    Lost(PEER, "gone"),
    Lost(DAEMON, "gone"),
    DeadlinePassed(),
    Stopped(),
]

ALWAYS = {Lost, DeadlinePassed, Stopped}
LEGAL = {
    Stage.FETCHING: ALWAYS | {TicketReady, TicketFailed},
    Stage.DIALING: ALWAYS | {Dialed, DialFailed},
    Stage.HANDSHAKING: ALWAYS | {Received, EndOfStream},
    Stage.OPEN: ALWAYS | {Received, EndOfStream, TicketReady, TicketFailed},
}


def fetching() -> Script:
    return connecting()


def dialing() -> Script:
    script = connecting()
    script.on(TicketReady(GRANT))
    return script


def handshaking() -> Script:
    script = dialing()
    script.on(Dialed())
    return script


CASES = [
    (make, event)
    for make in (fetching, dialing, handshaking, connected)
    for event in EVENTS
    if not (event == Lost(PEER, "gone") and make in (fetching, dialing))  # there is no such socket yet
]


@pytest.mark.parametrize(("make", "event"), CASES, ids=lambda part: getattr(part, "__name__", repr(part)))
def test_every_event_in_every_stage_is_dealt_with_or_a_bug_of_ours(make: Any, event: Event) -> None:
    script = make()
    before = len(script.of(Record))
    if type(event) not in LEGAL[script.relay.stage]:
        with pytest.raises(LocalMisuse):
            script.on(event)
        return
    commands = script.on(event)
    final = [record for record in script.of(Record)[before:] if record.outcome in ("closed", "refused", "failed")]
    assert len(final) == (1 if script.relay.closed else 0)
    if script.relay.closed:
        assert {command.side for command in commands if isinstance(command, Close | Reset)} == {PEER, DAEMON}
        assert script.on(*EVENTS) == []


def test_local_bytes_before_the_handshake_would_be_a_bug_of_whoever_reads_them() -> None:
    script = handshaking()
    with pytest.raises(LocalMisuse):
        script.from_daemon(b"early")


def test_stock_error_frames_before_the_handshake_are_a_refusal() -> None:
    script = handshaking()
    script.feed(f3.frame_bytes(int(FrameType.ERROR), b'{"code":2,"msg":"authentication failed","data":null}'))
    assert script.records == [("refused", "refused_by_peer")]


def test_the_rules_of_the_scripts_are_those_of_the_default() -> None:
    assert SEALED_RULES.grace == f3.acceptor().grace

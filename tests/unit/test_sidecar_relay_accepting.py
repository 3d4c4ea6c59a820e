"""The accepting relay, as scripts: a peer comes in with a ticket, and goes on to the daemon once it is known."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import NOW
from tests.support.relays import DAEMON, PEER, accepted, accepting, sent

from cubeauth import entropy
from cubeauth.errors import CODE_EXPIRED_TICKET, RefusedByPeer
from cubeauth.exchange import TicketGrant
from cubeauth.frames import FrameType
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes
from cubeauth_sidecar.commands import AskAuthnode, Close, CloseWriting, Command, Dial, Record, Reset, Send
from cubeauth_sidecar.events import (
    DeadlinePassed,
    Dialed,
    DialFailed,
    EndOfStream,
    Event,
    Lost,
    Stopped,
)
from cubeauth_sidecar.relay_tcp import ASK_AHEAD, ASK_EVERY, Stage

EXP = f3.ticket_of().exp
OTHER_KEY = SecretBytes(entropy.system(32))


def kinds(commands: list[Command]) -> list[type[Command]]:
    return [type(command) for command in commands]


# Before the peer is known.


@pytest.mark.parametrize("feeding", f3.FEEDINGS, ids=str)
def test_the_daemon_is_dialed_when_the_first_record_opened_and_not_before(feeding: str) -> None:
    script = accepting()
    cut = f3.FEEDINGS[feeding]
    for _flight in ("TICKET", "RESPONSE"):
        commands = script.feed(*cut(script.far.take()))
        assert kinds(commands) == [Send]
        script.far.feed(sent(commands, PEER))
    assert script.records == []
    assert kinds(script.feed(*cut(script.far.take()))) == [Record, Dial]
    assert script.relay.stage is Stage.DIALING
    assert script.to_daemon() == b""


def test_who_came_in_is_on_record_with_the_ticket_that_did_it() -> None:
    script = accepting()
    script.now += 0.25
    script.carry()
    record = script.last
    assert (record.peer, record.proven, record.jti) == (f3.CLIENT, True, f3.ticket_of().jti)
    assert record.seconds == 0.25


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "other service": ({"grant": f3.grant(f3.ticket_of(service_id="MasterService"))}, "other_service", f3.CLIENT),
    "other service's key": ({"grant": f3.grant(key=OTHER_KEY)}, "bad_envelope", f3.CLIENT),
    "capability": ({"grant": f3.grant(f3.ticket_of(caps='{"API":["data:read:nothing"]}'))}, "capability_missing", f3.CLIENT),
    "expired": ({"grant": f3.grant(f3.ticket_of(exp=int(NOW) - 1))}, "ticket_expired", f3.CLIENT),
    "no client in it": ({"grant": f3.grant(f3.ticket_of(client_id=""))}, "other_client", f3.CLIENT),
    "clear peer": ({"client_mode": Mode.CLEAR}, "mode_differs", f3.CLIENT),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_who_has_no_right_is_told_nothing_and_reaches_nothing(name: str) -> None:
    options, reason, claimed = REFUSALS[name]
    script = accepting(**options)
    commands = script.carry()
    assert sent(commands, PEER) == f3.UNIFORM_ERROR
    assert kinds(commands) == [Send, Close, Reset, Record]
    assert script.records == [("refused", reason)]
    assert (script.last.peer, script.last.proven, script.last.jti) == (claimed, False, "")


def test_a_ticket_of_somebody_else_is_refused_under_the_name_claimed() -> None:
    stolen = f3.grant()
    thief = TicketGrant("thief", stolen.service_id, stolen.ticket, stolen.session_key, stolen.c_time, stolen.exp)
    script = accepting(grant=thief)
    script.carry()
    assert script.records == [("refused", "other_client")]
    assert script.last.peer == "thief"


def test_a_ticket_without_its_session_key_is_refused() -> None:
    stolen = f3.grant()
    script = accepting(grant=TicketGrant(f3.CLIENT, stolen.service_id, stolen.ticket, OTHER_KEY, stolen.c_time, stolen.exp))
    script.carry()
    assert script.of(Dial) == []
    assert script.far.reason == "bad_envelope"
    assert script.records == [("refused", "refused_by_peer")]


def test_a_plain_client_is_refused_for_want_of_a_ticket() -> None:
    script = accepting()
    assert kinds(script.feed(b"GET / HTTP/1.1\r\n")) == [Send, Close, Reset, Record]
    assert script.records == [("refused", "no_ticket")]


@pytest.mark.parametrize("gone", [EndOfStream(PEER), Lost(PEER, "reset")], ids=["end", "reset"])
def test_a_peer_that_leaves_without_a_word_had_no_ticket(gone: Event) -> None:
    script = accepting()
    script.on(gone)
    assert script.records == [("refused", "no_ticket")]


def test_a_peer_that_leaves_in_the_middle_of_the_handshake_is_on_record_as_that() -> None:
    script = accepting()
    script.feed(script.far.take())
    script.on(EndOfStream(PEER))
    assert script.records == [("refused", "truncated")]


def test_a_handshake_has_its_time() -> None:
    script = accepting()
    deadline = script.relay.next_deadline()
    assert deadline == NOW + 10
    assert script.at(deadline - 0.1).on(DeadlinePassed()) == []
    commands = script.at(deadline).on(DeadlinePassed())
    assert sent(commands, PEER) == f3.UNIFORM_ERROR
    assert script.records == [("refused", "deadline")]
    assert script.relay.next_deadline() is None


# The daemon.


def test_what_comes_while_the_daemon_is_dialed_is_sent_to_it_in_order() -> None:
    script = accepting()
    script.carry()
    for part in (b"one ", b"two ", b"three"):
        script.far.channel.send(part)
    assert kinds(script.feed(script.far.take())) == [Send]
    assert script.on(Dialed()) == []
    assert script.relay.stage is Stage.OPEN
    script.far.channel.send(b" four")
    script.feed(script.far.take())
    assert script.to_daemon() == b"one two three four"
    assert script.relay.from_peer == 18


def test_a_daemon_that_is_down_resets_the_peer() -> None:
    script = accepting()
    script.carry()
    assert kinds(script.on(DialFailed("Connection refused"))) == [Reset, Reset, Record]
    assert script.records[-1] == ("failed", "daemon_down")
    assert script.last.detail == "Connection refused"


def test_a_peer_that_is_done_before_the_daemon_is_there_is_heard_out() -> None:
    script = accepting()
    script.carry()
    script.far.channel.send(b"fire and forget")
    script.far.channel.close()
    assert kinds(script.feed(script.far.take())) == [Send, CloseWriting]
    script.on(EndOfStream(PEER), Dialed(), EndOfStream(DAEMON))
    assert script.records[-1] == ("closed", "complete")


# Bytes, half-closes, resets.


@pytest.mark.parametrize("mode", Mode, ids=str)
@pytest.mark.parametrize("feeding", f3.FEEDINGS, ids=str)
def test_bytes_pass_both_ways(mode: Mode, feeding: str) -> None:
    script = accepted(mode=mode)
    script.far.channel.send(b"to the daemon")
    script.feed(*f3.FEEDINGS[feeding](script.far.take()))
    assert script.to_daemon() == b"to the daemon"
    script.from_daemon(b"to ")
    script.from_daemon(b"the peer")
    script.carry()
    assert script.far.received == b"to the peer"
    assert (script.relay.from_peer, script.relay.to_peer) == (13, 11)


def test_the_end_of_the_peers_stream_is_the_end_of_what_the_daemon_reads_and_no_more() -> None:
    script = accepted()
    script.far.channel.close()
    assert kinds(script.feed(script.far.take())) == [CloseWriting]
    script.from_daemon(b"answer after the question's end")
    script.carry()
    assert script.far.received == b"answer after the question's end"
    assert kinds(script.on(EndOfStream(DAEMON))) == [Send, CloseWriting, Close, Close, Record]
    assert script.records[-1] == ("closed", "complete")
    assert (script.last.from_peer, script.last.to_peer) == (0, 31)


def test_the_end_of_the_daemons_stream_is_a_close_record_and_the_peer_may_go_on() -> None:
    script = accepted()
    assert kinds(script.on(EndOfStream(DAEMON))) == [Send, CloseWriting]
    script.carry()
    assert not script.relay.closed
    script.far.channel.send(b"more")
    script.far.channel.close()
    commands = script.feed(script.far.take())
    assert kinds(commands) == [Send, CloseWriting, Close, Close, Record]
    assert sent(commands, DAEMON) == b"more"


def test_the_end_of_a_clear_stream_is_a_half_close_too() -> None:
    script = accepted(mode=Mode.CLEAR)
    assert script.on(EndOfStream(PEER)) == [CloseWriting(DAEMON)]
    assert kinds(script.on(EndOfStream(DAEMON))) == [CloseWriting, Close, Close, Record]


def test_a_stream_cut_short_is_no_end_but_a_reset_of_the_daemon() -> None:
    script = accepted()
    script.far.channel.send(b"half of what was to ")
    script.feed(script.far.take())
    commands = script.on(EndOfStream(PEER))
    assert Reset(DAEMON) in commands
    assert CloseWriting(DAEMON) not in commands
    assert script.records[-1] == ("failed", "truncated")


@pytest.mark.parametrize(
    ("mode", "gone", "record"),
    [
        (Mode.SEALED, PEER, ("failed", "truncated")),
        (Mode.CLEAR, PEER, ("closed", "peer_lost")),
        (Mode.SEALED, DAEMON, ("closed", "daemon_lost")),
    ],
    ids=["sealed peer", "clear peer", "daemon"],
)
def test_a_reset_is_mirrored(mode: Mode, gone: Any, record: tuple[str, str]) -> None:
    script = accepted(mode=mode)
    commands = script.on(Lost(gone, "Connection reset by peer"))
    assert commands[:2] == [Reset(PEER), Reset(DAEMON)]
    assert sent(commands, PEER) == b""
    assert script.records[-1] == record
    assert script.last.detail == "Connection reset by peer"


def test_a_reset_after_the_peers_end_cuts_nothing_short() -> None:
    script = accepted()
    script.far.channel.send(b"all of it")
    script.far.channel.close()
    script.feed(script.far.take())
    assert script.on(Lost(PEER, "Connection reset by peer"))[:2] == [Reset(PEER), Reset(DAEMON)]
    assert script.to_daemon() == b"all of it"
    assert script.records[-1] == ("closed", "peer_lost")


def test_our_end_alone_does_not_make_a_reset_of_the_peer_an_end() -> None:
    script = accepted()
    script.on(EndOfStream(DAEMON))
    assert Reset(DAEMON) in script.on(Lost(PEER, "Connection reset by peer"))
    assert script.records[-1] == ("failed", "truncated")


@pytest.mark.parametrize("position", [0, 5, 11, 12, 20, -1])
def test_a_flipped_bit_delivers_nothing_and_ends_the_connection(position: int) -> None:
    script = accepted()
    script.far.channel.send(b"good")
    script.feed(script.far.take())
    script.far.channel.send(b"touched on the way")
    record = bytearray(script.far.take())
    record[position] ^= 1
    script.feed(bytes(record))
    script.on(EndOfStream(PEER))
    assert script.to_daemon() == b"good"
    assert script.commands.count(Reset(DAEMON)) == 1
    assert script.last.reason in ("bad_record", "malformed", "out_of_place", "truncated", "too_large")
    assert script.last.outcome == "failed"


def test_a_sealed_error_of_the_peer_ends_it_with_the_peers_reason_in_the_detail() -> None:
    script = accepted()
    script.feed(f3.sealed(script.far, FrameType.ERROR, b'{"code":2,"msg":"out_of_place","data":null}'))
    assert script.records[-1] == ("failed", "refused_by_peer")
    assert "out_of_place" in script.last.detail


# Time.


def test_an_expired_ticket_ends_the_connection_and_the_peer_is_told() -> None:
    script = accepted(grace=0.0)
    assert script.relay.next_deadline() == EXP
    commands = script.at(EXP).on(DeadlinePassed())
    assert kinds(commands) == [Send, Close, Reset, Record]
    script.far.feed(sent(commands, PEER), EXP - 1)
    assert isinstance(script.far.error, RefusedByPeer)
    assert script.far.error.peer_code == CODE_EXPIRED_TICKET
    assert script.records[-1] == ("failed", "ticket_expired")


def later_grant(**changes: Any) -> TicketGrant:
    return f3.grant(f3.ticket_of(exp=EXP + 3600, jti="fedcba9876543210" * 2, **changes), label="later")


def test_a_renewal_carries_the_connection_past_its_first_ticket() -> None:
    script = accepted(grace=0.0)
    assert script.far.channel.renewable  # type: ignore[attr-defined]  # a client's end
    script.far.channel.renew(later_grant())  # type: ignore[attr-defined]  # the same
    script.feed(script.far.take())
    assert script.records[-1] == ("renewed", "")
    assert (script.last.jti, script.last.peer) == (later_grant_jti(), f3.CLIENT)
    assert script.at(EXP).on(DeadlinePassed()) == []
    assert script.relay.next_deadline() == EXP + 3600


def later_grant_jti() -> str:
    return "fedcba9876543210" * 2


def test_a_renewal_without_the_right_ends_the_connection() -> None:
    script = accepted()
    script.far.channel.renew(later_grant(caps='{"API":[]}'))  # type: ignore[attr-defined]  # a client's end
    commands = script.feed(script.far.take())
    assert kinds(commands) == [Send, Close, Reset, Record]
    assert script.records[-1] == ("failed", "capability_missing")


def test_the_authnode_is_asked_before_a_ticket_ends_and_again_and_again_during_grace() -> None:
    silent_since: list[float | None] = [None]
    script = accepted(grace=300.0, unanswered_try=lambda: silent_since[0])
    assert script.relay.next_deadline() == EXP - ASK_AHEAD
    assert script.at(EXP - ASK_AHEAD).on(DeadlinePassed()) == [AskAuthnode()]
    silent_since[0] = EXP - 10
    assert script.relay.next_deadline() == EXP - ASK_AHEAD + ASK_EVERY
    commands = script.at(EXP).on(DeadlinePassed())
    assert kinds(commands) == [Record, AskAuthnode]
    assert script.records[-1] == ("grace", "")
    assert script.relay.in_grace
    asked_at = []
    while not script.relay.closed:
        deadline = script.relay.next_deadline()
        assert deadline is not None
        if AskAuthnode() in script.at(deadline).on(DeadlinePassed()):
            asked_at.append(deadline)
            silent_since[0] = deadline + 5
    assert asked_at == [EXP + n * ASK_EVERY for n in range(1, 10)]
    assert script.now == EXP + 300
    assert script.records[-1] == ("failed", "ticket_expired")


def test_there_is_no_grace_while_the_authnode_answers() -> None:
    script = accepted(grace=300.0)
    script.at(EXP).on(DeadlinePassed())
    assert script.records[-1] == ("failed", "ticket_expired")


def test_no_grace_and_no_question_where_grace_is_off_or_the_mode_clear() -> None:
    for options in ({"grace": 0.0}, {"mode": Mode.CLEAR}):
        script = accepted(unanswered_try=lambda: EXP, **options)
        assert script.relay.next_deadline() == EXP
        script.at(EXP).on(DeadlinePassed())
        assert script.of(AskAuthnode) == []
        assert script.records[-1] == ("failed", "ticket_expired")


def test_an_idle_connection_ends_only_where_a_limit_is_set_and_only_after_it() -> None:
    script = accepted(idle=90.0)
    script.at(NOW + 80).from_daemon(b"x")
    assert script.relay.next_deadline() == NOW + 170
    assert script.at(NOW + 169).on(DeadlinePassed()) == []
    assert script.at(NOW + 170).on(DeadlinePassed())[:2] == [Reset(PEER), Reset(DAEMON)]
    assert script.records[-1] == ("closed", "idle")
    assert accepted().relay.next_deadline() == EXP - ASK_AHEAD


def test_the_end_of_the_process_resets_both_sides_for_the_stream_is_not_whole() -> None:
    script = accepted()
    commands = script.on(Stopped())
    assert kinds(commands) == [Reset, Reset, Record]
    assert script.records[-1] == ("closed", "stopped")

"""The accepting relay: every stage times every event."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.relays import DAEMON, PEER, Script, accepted, accepting

from cubeauth.errors import LocalMisuse
from cubeauth_sidecar.commands import Close, Record, Reset
from cubeauth_sidecar.events import (
    Accepted,
    DeadlinePassed,
    Dialed,
    DialFailed,
    EndOfStream,
    Event,
    Lost,
    Received,
    Stopped,
    TicketFailed,
)
from cubeauth_sidecar.relay_tcp import Stage

EVENTS: list[Event] = [
    Accepted(),
    Dialed(),
    DialFailed("no"),
    TicketFailed("no"),
    Received(PEER, b"x"),
    EndOfStream(PEER),
    Lost(PEER, "gone"),
    Lost(DAEMON, "gone"),
    DeadlinePassed(),
    Stopped(),
]


def handshaking() -> Script:
    return accepting()


def dialing() -> Script:
    script = accepting()
    script.carry()
    return script


def closed() -> Script:
    script = accepted()
    script.on(Stopped())
    return script


LEGAL = {
    Stage.HANDSHAKING: {Received, EndOfStream, Lost, DeadlinePassed, Stopped},
    Stage.DIALING: {Received, EndOfStream, Lost, DeadlinePassed, Stopped, Dialed, DialFailed},
    Stage.OPEN: {Received, EndOfStream, Lost, DeadlinePassed, Stopped},
}


@pytest.mark.parametrize("event", EVENTS, ids=repr)
@pytest.mark.parametrize("make", [handshaking, dialing, accepted], ids=lambda make: make.__name__)
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


def test_nothing_matters_after_the_end() -> None:
    assert closed().on(*EVENTS) == []

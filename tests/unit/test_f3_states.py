"""Every phase of each end times every frame in every form: what is legal, by a table of this file, how the rest is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from tests.support import f3
from tests.support.f3 import End, Pair

from cubeauth import refusal, renewal
from cubeauth.errors import HandshakeRefused, Reason, RecordRefused
from cubeauth.events import ChannelFailed, DataReceived, HandshakeCompleted, PeerClosed, Renewed
from cubeauth.frames import FrameType
from cubeauth.phases import HANDSHAKING, STEPS, Mode, Phase, Role

T = FrameType
PLAIN, SEALED = "plain", "sealed"


def _stop(mode: Mode, *, to_client: int, to_server: int) -> Pair:
    """A pair that exchanged no more than so many frames each way."""
    pair = f3.new_pair(mode)
    left = {id(pair.client): to_client, id(pair.server): to_server}
    for _ in range(4):
        for source, target in ((pair.client, pair.server), (pair.server, pair.client)):
            frames = f3.cut(source.take())[: left[id(target)]]
            left[id(target)] -= len(frames)
            target.feed(b"".join(frames))
    return pair


def _idle() -> Pair:
    pair = f3.new_pair()
    pair.c.phase = Phase.IDLE
    pair.client.take()
    return pair


def _closed_by(closer: str) -> Pair:
    pair = f3.open_pair()
    getattr(pair, closer).channel.close()
    pair.flush()
    return pair


def _failed() -> Pair:
    pair = f3.open_pair()
    for end in pair:
        end.feed(b"ANF4")
        end.take()
    return pair


BRING: dict[tuple[Role, Phase], Callable[[], Pair]] = {
    (Role.CLIENT, Phase.IDLE): _idle,
    (Role.CLIENT, Phase.AWAIT_CHALLENGE): lambda: _stop(Mode.SEALED, to_client=0, to_server=1),
    (Role.CLIENT, Phase.AWAIT_CONFIRM): lambda: _stop(Mode.SEALED, to_client=1, to_server=2),
    (Role.CLIENT, Phase.AWAIT_RECORD): lambda: _stop(Mode.SEALED, to_client=2, to_server=2),
    (Role.CLIENT, Phase.OPEN): f3.open_pair,
    (Role.CLIENT, Phase.RAW): lambda: f3.open_pair(Mode.CLEAR),
    (Role.CLIENT, Phase.PEER_CLOSED): lambda: _closed_by("server"),
    (Role.CLIENT, Phase.FAILED): _failed,
    (Role.SERVER, Phase.AWAIT_TICKET): lambda: _stop(Mode.SEALED, to_client=0, to_server=0),
    (Role.SERVER, Phase.AWAIT_RESPONSE): lambda: _stop(Mode.SEALED, to_client=1, to_server=1),
    (Role.SERVER, Phase.AWAIT_RECORD): lambda: _stop(Mode.SEALED, to_client=3, to_server=2),
    (Role.SERVER, Phase.OPEN): f3.open_pair,
    (Role.SERVER, Phase.RAW): lambda: f3.open_pair(Mode.CLEAR),
    (Role.SERVER, Phase.PEER_CLOSED): lambda: _closed_by("client"),
    (Role.SERVER, Phase.FAILED): _failed,
}

Outcome = type | Reason | Phase
Outcomes = dict[tuple[FrameType, str], Outcome]
FIRST_RECORD: Outcomes = {
    (T.DATA, SEALED): HandshakeCompleted,
    (T.ERROR, SEALED): Reason.REFUSED_BY_PEER,
    (T.DATA, PLAIN): Reason.BAD_RECORD,
}
RECORDS: Outcomes = {
    (T.DATA, SEALED): DataReceived,
    (T.CLOSE, SEALED): PeerClosed,
    (T.ERROR, SEALED): Reason.REFUSED_BY_PEER,
    (T.DATA, PLAIN): Reason.BAD_RECORD,
    (T.CLOSE, PLAIN): Reason.BAD_RECORD,
    (T.ERROR, PLAIN): Reason.BAD_RECORD,
}
NOT_JSON: Outcomes = {(T.ERROR, PLAIN): Reason.REFUSED_BY_PEER, (T.ERROR, SEALED): Reason.MALFORMED}
OUTCOMES: dict[tuple[Role, Phase], Outcomes] = {
    (Role.CLIENT, Phase.IDLE): {},
    (Role.CLIENT, Phase.AWAIT_CHALLENGE): {
        (T.CHALLENGE, PLAIN): Phase.AWAIT_CONFIRM,
        (T.CHALLENGE, SEALED): Reason.BAD_ENVELOPE,
        **NOT_JSON,
    },
    (Role.CLIENT, Phase.AWAIT_CONFIRM): {
        (T.CONFIRM, PLAIN): Phase.AWAIT_RECORD,
        (T.CONFIRM, SEALED): Reason.BAD_ENVELOPE,
        **NOT_JSON,
    },
    (Role.CLIENT, Phase.AWAIT_RECORD): {**FIRST_RECORD, (T.ERROR, PLAIN): Reason.BAD_RECORD},
    (Role.CLIENT, Phase.OPEN): RECORDS,
    (Role.SERVER, Phase.AWAIT_TICKET): {(T.TICKET, PLAIN): Phase.AWAIT_RESPONSE, (T.TICKET, SEALED): Reason.MALFORMED},
    (Role.SERVER, Phase.AWAIT_RESPONSE): {
        (T.RESPONSE, PLAIN): Phase.AWAIT_RECORD,
        (T.RESPONSE, SEALED): Reason.BAD_ENVELOPE,
        **NOT_JSON,
    },
    # A client that refuses CONFIRM has no keys yet, one that refuses our first record has: either form is its ERROR.
    (Role.SERVER, Phase.AWAIT_RECORD): {**FIRST_RECORD, (T.ERROR, PLAIN): Reason.REFUSED_BY_PEER},
    (Role.SERVER, Phase.OPEN): {**RECORDS, (T.RENEW, SEALED): Renewed, (T.RENEW, PLAIN): Reason.BAD_RECORD},
    (Role.CLIENT, Phase.PEER_CLOSED): {},
    (Role.SERVER, Phase.PEER_CLOSED): {},
}
"""What is not here is out of place. RAW and FAILED know no frames: see the two tests of their own."""


def _good_payload(pair: Pair, role: Role, kind: FrameType) -> bytes:
    """What a good peer would put into this frame, so that only phase and form can be wrong with it."""
    whole = f3.new_pair(label="-another")
    if kind is T.RENEW:
        later = f3.grant(f3.ticket_of(exp=int(f3.NOW) + 7200))
        return renewal.request(later, pair.c._transcript)
    if kind is T.ERROR:
        return refusal.UNIFORM.payload()
    if kind is T.DATA and (pair.server if role is Role.SERVER else pair.client).channel.phase is Phase.OPEN:
        return b"data"
    return f3.cut(whole.client.take())[0][12:] if kind is T.TICKET else b""


def _kept(role: Role, phase: Phase, kind: FrameType) -> bytes | None:
    """The very handshake frame that is due in this phase, from a pair with the same chance that went on."""
    due = {
        (Role.CLIENT, Phase.AWAIT_CHALLENGE): (T.CHALLENGE, 0),
        (Role.CLIENT, Phase.AWAIT_CONFIRM): (T.CONFIRM, 1),
        (Role.SERVER, Phase.AWAIT_TICKET): (T.TICKET, 0),
        (Role.SERVER, Phase.AWAIT_RESPONSE): (T.RESPONSE, 1),
    }.get((role, phase))
    if due is None or due[0] is not kind:
        return None
    pair = f3.new_pair()
    sent: dict[int, list[bytes]] = {id(pair.client): [], id(pair.server): []}
    for _ in range(3):
        for source, target in ((pair.client, pair.server), (pair.server, pair.client)):
            frames = f3.cut(source.take())
            sent[id(source)] += frames
            target.feed(b"".join(frames))
    return sent[id(pair.client if role is Role.SERVER else pair.server)][due[1]]


def _frame(pair: Pair, role: Role, phase: Phase, kind: FrameType, form: str) -> bytes:
    """The frame as the peer would send it now; sealed by the peer's own sealer where it has one."""
    peer = pair.client if role is Role.SERVER else pair.server
    flags = 1 if kind in (T.TICKET, T.CHALLENGE) else 0
    if form == PLAIN:
        return _kept(role, phase, kind) or f3.frame_bytes(kind, _good_payload(pair, role, kind), flags)
    sealer = peer.channel._sealer
    if sealer is None:
        return f3.frame_bytes(kind, bytes(range(32)), flags)
    if phase is Phase.AWAIT_RECORD:
        sealer._counter.used = 0  # its first record was not delivered: this one takes its place
    return bytes(sealer.seal(kind, _good_payload(pair, role, kind)))


COMBINATIONS = list(itertools.product(OUTCOMES, FrameType, (PLAIN, SEALED)))


def _id(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0].value}-{value[1].value}"
    return value.name if isinstance(value, FrameType) else str(value)


@pytest.mark.parametrize(("at", "kind", "form"), COMBINATIONS, ids=_id)
def test_every_phase_times_every_frame(at: tuple[Role, Phase], kind: FrameType, form: str) -> None:
    role, phase = at
    pair = BRING[at]()
    end: End = pair.client if role is Role.CLIENT else pair.server
    assert end.channel.phase is phase, "the test reached the phase"
    frame = _frame(pair, role, phase, kind, form)
    expected = OUTCOMES[at].get((kind, form), Reason.OUT_OF_PLACE)
    end.events.clear()
    end.feed(frame)
    if isinstance(expected, Phase):
        assert end.channel.phase is expected
        assert end.events == []
    elif isinstance(expected, Reason):
        assert end.reason is expected
        assert len(end.events) == 1
        assert end.channel.phase is Phase.FAILED
        assert isinstance(end.error, HandshakeRefused) == (phase in HANDSHAKING)
    else:
        assert [type(event) for event in end.events] == [expected]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", FrameType)
@pytest.mark.parametrize("form", [PLAIN, SEALED])
def test_a_failed_end_reads_and_says_nothing_more(role: Role, kind: FrameType, form: str) -> None:
    pair = _failed()
    end = pair.client if role is Role.CLIENT else pair.server
    before = list(end.events)
    end.feed(_frame(pair, role, Phase.FAILED, kind, form))
    end.eof()
    assert end.events == before
    assert end.take() == b""
    assert end.channel.next_deadline() is None


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", FrameType)
@pytest.mark.parametrize("form", [PLAIN, SEALED])
def test_in_raw_mode_every_frame_is_just_bytes(role: Role, kind: FrameType, form: str) -> None:
    pair = f3.open_pair(Mode.CLEAR)
    end = pair.client if role is Role.CLIENT else pair.server
    frame = _frame(pair, role, Phase.RAW, kind, form)
    end.feed(frame)
    assert end.received == frame
    assert not end.of(ChannelFailed)


def test_the_table_of_the_product_has_just_what_is_legal_here() -> None:
    legal = {
        (role, phase, kind)
        for (role, phase), outcomes in OUTCOMES.items()
        for (kind, _), outcome in outcomes.items()
        if not isinstance(outcome, Reason) or outcome is Reason.REFUSED_BY_PEER
    }
    assert legal == set(STEPS)


def test_a_bad_record_after_the_handshake_is_a_record_refused() -> None:
    pair = f3.open_pair()
    pair.server.feed(f3.frame_bytes(T.DATA, bytes(40)))
    assert isinstance(pair.server.error, RecordRefused)

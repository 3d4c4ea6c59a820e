"""What both ends of a secured connection share: records, lifetime, half-close, failure (protocol-v1, section 7).

Bytes in, events out; bytes out when asked; nothing waits. Which frame is
legal when is the table in `phases`; what it does is a handler of `channel`
during the handshake, and a handler of this module after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from cubeauth import refusal
from cubeauth.errors import (
    ChannelError,
    ChannelExpired,
    HandshakeRefused,
    LocalMisuse,
    PeerError,
    Reason,
    RecordRefused,
    RefusedByPeer,
    StreamTruncated,
)
from cubeauth.events import ChannelFailed, DataReceived, Event, GraceStarted, HandshakeCompleted, PeerClosed
from cubeauth.frames import MAX_RECORD_PAYLOAD, Buffer, Frame, FrameReader, FrameType, encode
from cubeauth.lifetime import Lifetime
from cubeauth.phases import HANDSHAKING, STEPS, Form, Mode, Phase, Role
from cubeauth.records import Opener, Sealer
from cubeauth.schedule import ChannelKeys

HANDSHAKE_SECONDS = 10.0
"""For the whole handshake, the peer's first record included."""

DATA_BYTES = 256 * 1024
"""Plaintext of one DATA record: longer ones seal no faster, and hold back the receiver's first byte."""

PlainHandlers = Mapping[FrameType, Callable[[Any, Frame], list[Event]]]
SealedHandlers = Mapping[FrameType, Callable[[Any, bytes], list[Event]]]
"""By type, methods of a class; for every frame of the table in `phases`."""


class Connection(ABC):
    """One end. Times are unix seconds. phase, mode, peer (an id, "" until the handshake is complete) are to be read only."""

    role: ClassVar[Role]
    plain_handlers: ClassVar[PlainHandlers]

    def __init__(self, mode: Mode, phase: Phase, lifetime: Lifetime, now: float) -> None:
        self.mode = mode
        self.phase = phase
        self.peer = ""
        self._lifetime = lifetime
        self._now = now
        self._handshake_deadline = now + HANDSHAKE_SECONDS
        self._reader = FrameReader()
        self._out: list[Buffer] = []
        self._our_side_closed = False
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None

    @property
    def exp(self) -> float:
        """When the ticket ends; inf where that is not known."""
        return self._lifetime.exp

    @property
    def in_grace(self) -> bool:
        """Whether the channel lives past its ticket, for want of an answer from the Authnode."""
        return self._lifetime.in_grace

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of this channel: failed, or closed by both sides."""
        return self.phase is Phase.FAILED or (self.phase is Phase.PEER_CLOSED and self._our_side_closed)

    @property
    def can_send(self) -> bool:
        """Whether send may be called: after HandshakeCompleted, before close, not after a failure."""
        return self.phase in (Phase.OPEN, Phase.RAW, Phase.PEER_CLOSED) and not self._our_side_closed

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Take bytes of the peer; any cut of the stream gives the same events. After a failure nothing is read any more."""
        events = self.tick(now)
        if self.phase is Phase.FAILED or not data:
            return events
        if self.phase is Phase.RAW:
            return [*events, DataReceived(data)]
        self._reader.feed(data)
        try:
            self._now = now
            self._read_frames(events)
        except PeerError as e:
            events.append(self._fail(e))
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The peer's stream ended: truncation, unless CLOSE came before or the mode is clear."""
        events = self.tick(now)
        if self.phase in (Phase.FAILED, Phase.PEER_CLOSED):
            return events
        if self.phase is Phase.RAW:
            self.phase = Phase.PEER_CLOSED
            return [*events, PeerClosed()]
        return [*events, self._fail(self._truncation(), tell=False)]

    def send(self, data: Buffer) -> None:
        """Queue bytes for the peer: sealed at once, or in clear mode the very buffer, to be left alone until written.

        Raises LocalMisuse where not can_send; RecordRefused when the channel has sent all the records it may, and is dead.
        """
        self._must_be_able_to_send()
        if self.mode is Mode.CLEAR:
            self._out += [data] if data else []
            return
        with memoryview(data).cast("B") as view:
            for start in range(0, len(view), DATA_BYTES):
                self._seal(FrameType.DATA, view[start : start + DATA_BYTES])

    def close(self) -> None:
        """End our direction; the peer's stays open. A second time does nothing. Raises as send."""
        if self._our_side_closed:
            return
        self._must_be_able_to_send()
        if self.mode is Mode.SEALED:
            self._seal(FrameType.CLOSE, b"")
        self._our_side_closed = True

    def data_to_send(self) -> list[Buffer]:
        """What is to be written, in order; each call gives it once."""
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When to call `tick` next; it may move with every other call."""
        if self.ended:
            return None
        return self._handshake_deadline if self.phase in HANDSHAKING else self._lifetime.next_check()

    def tick(self, now: float) -> list[Event]:
        """What the time alone brings about."""
        if self.ended:
            return []
        if self.phase in HANDSHAKING:
            late = now >= self._handshake_deadline
            return [self._fail(HandshakeRefused("not complete in time", reason=Reason.DEADLINE))] if late else []
        had_grace = self._lifetime.in_grace
        if self._lifetime.over(now):
            return [self._fail(ChannelExpired("the ticket ended"))]
        return [GraceStarted(self.exp)] if self._lifetime.in_grace and not had_grace else []

    def _read_frames(self, events: list[Event]) -> None:
        while self.phase is not Phase.RAW:
            if self.phase is Phase.PEER_CLOSED and len(self._reader):
                raise RecordRefused("bytes after CLOSE", reason=Reason.OUT_OF_PLACE)
            if self.phase is Phase.AWAIT_TICKET and self._reader.is_foreign():
                raise HandshakeRefused("the peer does not speak F3", reason=Reason.NO_TICKET)
            frame = self._reader.next()
            if frame is None:
                return
            events += self._step(frame)

    def _step(self, frame: Frame) -> list[Event]:
        step = STEPS.get((self.role, self.phase, frame.type))
        if step is None:
            raise RecordRefused(f"{frame.type.name} in {self.phase}", reason=Reason.OUT_OF_PLACE)
        if step.form is Form.PLAIN:
            events = self.plain_handlers[frame.type](self, frame)
        else:
            events = self.sealed_handlers[frame.type](self, self._plaintext(frame, step.form))
        self.phase = step.after or self.phase
        return events

    def _plaintext(self, frame: Frame, form: Form) -> bytes:
        if form is Form.EITHER and refusal.is_payload(frame.payload):
            return bytes(frame.payload)
        assert self._opener is not None  # set by whatever led to a phase with sealed frames
        return self._opener.open_(frame)

    def _establish(self, keys: ChannelKeys) -> None:
        """From here on we seal; our first record goes out at once."""
        ours, theirs = (keys.c2s, keys.s2c) if self.role is Role.CLIENT else (keys.s2c, keys.c2s)
        self._sealer, self._opener = Sealer(ours), Opener(theirs)
        self._seal(FrameType.DATA, b"")

    def _on_data(self, plaintext: bytes) -> list[Event]:
        if self.phase is Phase.AWAIT_RECORD:
            return self._complete(plaintext)
        return [DataReceived(plaintext)] if plaintext else []

    def _complete(self, plaintext: bytes) -> list[Event]:
        """The peer's first record opened: both ends saw the same four frames."""
        completed = self._completed()
        if self._now >= self.exp:
            raise HandshakeRefused("the ticket ended meanwhile", reason=Reason.TICKET_EXPIRED)
        rest = plaintext
        if self.mode is Mode.SEALED:
            self.phase = Phase.OPEN
        elif plaintext:
            raise RecordRefused("a first record with data, in clear mode", reason=Reason.OUT_OF_PLACE)
        else:
            self.phase = Phase.RAW
            rest = self._reader.take_rest()
        self._reader.limit = MAX_RECORD_PAYLOAD
        self.peer = completed.peer
        return [completed, *([DataReceived(rest)] if rest else [])]

    @abstractmethod
    def _completed(self) -> HandshakeCompleted:
        """What is known of the peer now."""

    def _on_close(self, plaintext: bytes) -> list[Event]:
        if plaintext:
            raise RecordRefused("CLOSE with data", reason=Reason.OUT_OF_PLACE)
        return [PeerClosed()]

    def _on_error(self, payload: bytes) -> list[Event]:
        told = refusal.parse(payload)
        raise RefusedByPeer(told.code, told.text)

    def _on_plain_error(self, frame: Frame) -> list[Event]:
        return self._on_error(bytes(frame.payload))

    sealed_handlers: ClassVar[SealedHandlers] = {FrameType.DATA: _on_data, FrameType.CLOSE: _on_close, FrameType.ERROR: _on_error}

    def _must_be_able_to_send(self) -> None:
        if not self.can_send:
            raise LocalMisuse(f"nothing can be sent in {self.phase}, or after close")

    def _seal(self, kind: FrameType, plaintext: Buffer) -> None:
        assert self._sealer is not None  # set before any phase that can send
        try:
            self._out.append(self._sealer.seal(kind, plaintext))
        except RecordRefused:
            self.phase = Phase.FAILED
            raise

    def _truncation(self) -> ChannelError:
        if self.phase not in HANDSHAKING:
            return StreamTruncated("the stream ended without CLOSE")
        if self.phase is Phase.AWAIT_TICKET and not len(self._reader):
            return HandshakeRefused("the stream ended without a byte", reason=Reason.NO_TICKET)
        return HandshakeRefused("the stream ended in the handshake", reason=Reason.TRUNCATED)

    def _fail(self, cause: PeerError, *, tell: bool = True) -> ChannelFailed:
        """The channel is dead; the peer is told where there is a frame left to tell it in."""
        before = self.phase in HANDSHAKING
        error = _channel_error(cause, before)
        if tell and error.reason is not Reason.REFUSED_BY_PEER and self._can_tell(before):
            payload = (refusal.UNIFORM if before else refusal.for_known_peer(error.reason)).payload()
            self._out.append(self._sealer.seal(FrameType.ERROR, payload) if self._sealer else encode(FrameType.ERROR, payload))
        self.phase = Phase.FAILED
        return ChannelFailed(error)

    def _can_tell(self, before: bool) -> bool:
        if before:
            return self.phase is not Phase.IDLE
        spent = self._sealer is not None and self._sealer.spent
        return not (self.mode is Mode.CLEAR or self._our_side_closed or spent)


def _channel_error(cause: PeerError, before: bool) -> ChannelError:
    if before:
        if isinstance(cause, HandshakeRefused):
            return cause
        refused = HandshakeRefused(str(cause), reason=cause.reason)
        refused.__cause__ = cause
        return refused
    return cause if isinstance(cause, ChannelError) else RecordRefused(str(cause), reason=cause.reason)

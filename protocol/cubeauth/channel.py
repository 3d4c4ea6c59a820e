"""A secured connection as an object: bytes in, events out; bytes out when asked (protocol-v1, section 7).

A relay makes a ClientChannel or a ServerChannel, feeds it what its socket
reads, writes what `data_to_send` gives, and calls `tick` at `next_deadline`.
Which frame is legal when is the table in `phases`; nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cubeauth import handshake, ids, refusal, renewal
from cubeauth.admission import Acceptor, Admission
from cubeauth.caps import Capabilities
from cubeauth.entropy import Entropy
from cubeauth.errors import (
    ChannelError,
    ChannelExpired,
    HandshakeRefused,
    LocalMisuse,
    MalformedMessage,
    PeerError,
    Reason,
    RecordRefused,
    RefusedByPeer,
    RenewalRefused,
    StreamTruncated,
)
from cubeauth.events import ChannelFailed, DataReceived, Event, GraceStarted, HandshakeCompleted, PeerClosed, Renewed
from cubeauth.exchange import TicketGrant
from cubeauth.frames import MAX_RECORD_PAYLOAD, Buffer, Frame, FrameReader, FrameType, encode
from cubeauth.lifetime import DEFAULT_GRACE, Lifetime, UnansweredTry, always_answered
from cubeauth.phases import HANDSHAKING, STEPS, Form, Mode, Phase, Role
from cubeauth.records import Opener, Sealer

HANDSHAKE_SECONDS = 10.0
"""For the whole handshake, the peer's first record included."""

DATA_BYTES = 256 * 1024
"""Plaintext of one DATA record: longer ones seal no faster, and hold back the receiver's first byte."""


class Channel:
    """What both ends share. Times are unix seconds."""

    role: Role

    def __init__(self, mode: Mode, phase: Phase, lifetime: Lifetime, now: float) -> None:
        self.mode = mode
        self.phase = phase
        self._lifetime = lifetime
        self._handshake_deadline = now + HANDSHAKE_SECONDS
        self._reader = FrameReader()
        self._out: list[Buffer] = []
        self._our_side_closed = False
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._handlers: dict[FrameType, Callable[[bytes, float], list[Event]]] = {
            FrameType.DATA: self._on_data,
            FrameType.CLOSE: self._on_close,
            FrameType.ERROR: self._on_error,
        }

    @property
    def peer(self) -> str:
        """The peer's id, "" until the handshake is complete."""
        raise NotImplementedError

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
        """Whether nothing more will come out of this channel: failed, or closed by both sides."""
        return self.phase is Phase.FAILED or (self.phase is Phase.PEER_CLOSED and self._our_side_closed)

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Take bytes of the peer; any cut of the stream gives the same events. After a failure nothing is read any more."""
        events = self.tick(now)
        if self.phase is Phase.FAILED or not data:
            return events
        if self.phase is Phase.RAW:
            return [*events, DataReceived(data)]
        self._reader.feed(data)
        try:
            self._read_frames(events, now)
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
        return [*events, self._fail(self._truncation())]

    def send(self, data: Buffer) -> None:
        """Queue bytes for the peer: sealed at once, or in clear mode the very buffer, to be left alone until written.

        Raises LocalMisuse before HandshakeCompleted, after close and after a failure; RecordRefused when the channel has sent
        all the records it may, and is dead.
        """
        self._must_be_able_to_send()
        if self.mode is Mode.CLEAR:
            self._out.append(data)
            return
        with memoryview(data) as view:
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

    def _read_frames(self, events: list[Event], now: float) -> None:
        while self.phase is not Phase.RAW:
            if self.phase is Phase.PEER_CLOSED and len(self._reader):
                raise RecordRefused("bytes after CLOSE", reason=Reason.OUT_OF_PLACE)
            frame = self._reader.next()
            if frame is None:
                return
            events += self._step(frame, now)

    def _step(self, frame: Frame, now: float) -> list[Event]:
        step = STEPS.get((self.role, self.phase, frame.type))
        if step is None:
            raise RecordRefused(f"{frame.type.name} in {self.phase}", reason=Reason.OUT_OF_PLACE)
        if step.form is Form.PLAIN:
            events = self._on_plain(frame, now)
        else:
            events = self._handlers[frame.type](self._plaintext(frame, step.form), now)
        if step.after is not None:
            self.phase = step.after
        return events

    def _plaintext(self, frame: Frame, form: Form) -> bytes:
        if form is Form.EITHER:
            try:
                refusal.parse(bytes(frame.payload))
            except MalformedMessage:
                pass
            else:
                return bytes(frame.payload)
        assert self._opener is not None
        return self._opener.open_(frame)

    def _on_plain(self, frame: Frame, now: float) -> list[Event]:
        raise NotImplementedError

    def _completed(self) -> HandshakeCompleted:
        raise NotImplementedError

    def _on_data(self, plaintext: bytes, now: float) -> list[Event]:
        del now
        if self.phase is Phase.AWAIT_RECORD:
            return self._complete(plaintext)
        return [DataReceived(plaintext)] if plaintext else []

    def _complete(self, plaintext: bytes) -> list[Event]:
        self._reader.limit = MAX_RECORD_PAYLOAD
        if self.mode is Mode.SEALED:
            self.phase = Phase.OPEN
            rest = plaintext
        elif plaintext:
            raise RecordRefused("a first record with data, in clear mode", reason=Reason.OUT_OF_PLACE)
        else:
            self.phase = Phase.RAW
            rest = self._reader.take_rest()
        return [self._completed(), *([DataReceived(rest)] if rest else [])]

    def _on_close(self, plaintext: bytes, now: float) -> list[Event]:
        del now
        if plaintext:
            raise RecordRefused("CLOSE with data", reason=Reason.OUT_OF_PLACE)
        return [PeerClosed()]

    def _on_error(self, payload: bytes, now: float) -> list[Event]:
        del now
        told = refusal.parse(payload)
        raise RefusedByPeer(told.code, told.text)

    def _establish(self, established: handshake.Established) -> None:
        """From here on we seal; our first record goes out at once."""
        ours, theirs = established.keys.c2s, established.keys.s2c
        if self.role is Role.SERVER:
            ours, theirs = theirs, ours
        self._sealer, self._opener = Sealer(ours), Opener(theirs)
        self._out.append(self._sealer.seal(FrameType.DATA, b""))

    def _must_be_able_to_send(self) -> None:
        if self.phase not in (Phase.OPEN, Phase.RAW, Phase.PEER_CLOSED) or self._our_side_closed:
            raise LocalMisuse(f"nothing can be sent in {self.phase}, or after close")

    def _seal(self, kind: FrameType, plaintext: Buffer) -> None:
        assert self._sealer is not None
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

    def _fail(self, cause: PeerError) -> ChannelFailed:
        """The channel is dead; the peer is told, unless it knows or cannot read it."""
        before = self.phase in HANDSHAKING
        error = _channel_error(cause, before)
        silent = error.reason in (Reason.REFUSED_BY_PEER, Reason.TRUNCATED, Reason.RECORD_LIMIT)
        if not (silent or self._our_side_closed or self.phase in (Phase.IDLE, Phase.RAW)):
            told = refusal.UNIFORM if before else refusal.for_known_peer(error.reason)
            self._tell(told)
        self.phase = Phase.FAILED
        return ChannelFailed(error)

    def _tell(self, told: refusal.Refusal) -> None:
        if self._sealer is None:
            self._out.append(encode(FrameType.ERROR, told.payload()))
        else:
            self._out.append(self._sealer.seal(FrameType.ERROR, told.payload()))


def _channel_error(cause: PeerError, before: bool) -> ChannelError:
    if before:
        return cause if isinstance(cause, HandshakeRefused) else HandshakeRefused(str(cause), reason=cause.reason)
    return cause if isinstance(cause, ChannelError) else RecordRefused(str(cause), reason=cause.reason)


class ClientChannel(Channel):
    """The client's end, under `grant`. Its peer is the service.

    A grant whose exp is 0 (a ticket file does not say it) is ended by the server alone. grace, unanswered_try: as the
    acceptor's, on the client's own tries at the Authnode: both ends must have found it silent for a channel to outlive
    its ticket.
    """

    role = Role.CLIENT

    def __init__(
        self,
        grant: TicketGrant,
        mode: Mode,
        entropy: Entropy,
        now: float,
        *,
        grace: float = DEFAULT_GRACE,
        unanswered_try: UnansweredTry = always_answered,
    ) -> None:
        """Raises InputError for a ticket that is too large for a handshake."""
        lifetime = Lifetime(_exp(grant), grace if mode is Mode.SEALED else 0.0, unanswered_try)
        super().__init__(mode, Phase.IDLE, lifetime, now)
        self._grant = grant
        self._handshake = handshake.ClientHandshake(grant, mode, entropy)
        self._transcript = b""

    @property
    def peer(self) -> str:
        return "" if self.phase in HANDSHAKING else ids.canonical_service(self._grant.service_id)

    def start(self) -> None:
        """Queue the first flight."""
        if self.phase is not Phase.IDLE:
            raise LocalMisuse("started twice")
        self._out.append(self._handshake.first_flight())
        self.phase = Phase.AWAIT_CHALLENGE

    @property
    def renewable(self) -> bool:
        """Whether renew can be called."""
        return self.phase in (Phase.OPEN, Phase.PEER_CLOSED) and self.mode is Mode.SEALED and not self._our_side_closed

    def renew(self, grant: TicketGrant) -> None:
        """Queue a RENEW with a later ticket of the same client and service; a server that does not take it closes.

        Raises LocalMisuse for another grant, or where the channel is not renewable.
        """
        if not self.renewable:
            raise LocalMisuse("this channel cannot be renewed")
        same = (grant.client_id, grant.service_id) == (self._grant.client_id, self._grant.service_id)
        if not same or (_exp(grant) <= self.exp and not math.isinf(self.exp)):
            raise LocalMisuse("a renewal takes a later ticket of the same client and service")
        self._seal(FrameType.RENEW, renewal.request(grant, self._transcript))
        self._lifetime.renew(_exp(grant))

    def _on_plain(self, frame: Frame, now: float) -> list[Event]:
        if frame.type is FrameType.CHALLENGE:
            self._out.append(self._handshake.challenge(frame))
        elif frame.type is FrameType.CONFIRM:
            established = self._handshake.confirm(frame)
            self._transcript = established.transcript
            self._establish(established)
        else:
            return self._on_error(bytes(frame.payload), now)
        return []

    def _completed(self) -> HandshakeCompleted:
        return HandshakeCompleted(self.peer, None, self.exp)


def _exp(grant: TicketGrant) -> float:
    return grant.exp or math.inf


class ServerChannel(Channel):
    """The acceptor's end. Its peer is the client, known when the handshake is complete."""

    role = Role.SERVER

    def __init__(self, acceptor: Acceptor, entropy: Entropy, now: float) -> None:
        grace = acceptor.grace if acceptor.mode is Mode.SEALED else 0.0
        super().__init__(acceptor.mode, Phase.AWAIT_TICKET, Lifetime(math.inf, grace, acceptor.unanswered_try), now)
        self._acceptor = acceptor
        self._handshake = handshake.ServerHandshake(acceptor, entropy)
        self._admission: Admission | None = None
        self._transcript = b""
        self._handlers[FrameType.RENEW] = self._on_renew

    @property
    def peer(self) -> str:
        return self._admission.client_id if self._admission else ""

    @property
    def unverified_peer(self) -> str:
        """Who the client says it is, for the audit line of a refusal; "" before a well-formed TICKET."""
        return self._handshake.unverified_client_id

    @property
    def capabilities(self) -> Capabilities:
        """Of the ticket that holds now; none before the handshake is complete."""
        return self._admission.capabilities if self._admission else Capabilities()

    def _on_plain(self, frame: Frame, now: float) -> list[Event]:
        if frame.type is FrameType.TICKET:
            self._out.append(self._handshake.ticket(frame, now))
        elif frame.type is FrameType.RESPONSE:
            confirm, established = self._handshake.response(frame)
            self._out.append(confirm)
            self._transcript = established.transcript
            self._establish(established)
        else:
            return self._on_error(bytes(frame.payload), now)
        return []

    def _completed(self) -> HandshakeCompleted:
        self._admission = admission = self._handshake.admission
        assert admission is not None
        self._lifetime.renew(admission.exp)
        return HandshakeCompleted(admission.client_id, admission.capabilities, admission.exp, admission.jti)

    def _on_renew(self, plaintext: bytes, now: float) -> list[Event]:
        assert self._admission is not None
        try:
            fresh = renewal.accept(self._acceptor, plaintext, self._admission, exp=self.exp, transcript=self._transcript, now=now)
        except PeerError as e:
            raise RenewalRefused(str(e), reason=e.reason) from e
        self._admission = fresh
        self._lifetime.renew(fresh.exp)
        return [Renewed(fresh.exp, fresh.capabilities, fresh.jti)]

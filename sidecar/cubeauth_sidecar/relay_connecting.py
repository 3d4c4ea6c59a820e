"""The role that speaks for a daemon or client: what it dials on loopback goes out secured, under our ticket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cubeauth.channel import ClientChannel
from cubeauth.entropy import Entropy
from cubeauth.errors import InputError, PeerError, Reason
from cubeauth.exchange import TicketGrant
from cubeauth.lifetime import UnansweredTry, always_answered
from cubeauth_client.retry import uniform
from cubeauth_sidecar.commands import AskAuthnode, Dial, End, FetchTicket, Hold, Outcome, Release
from cubeauth_sidecar.events import Accepted, Dialed, DialFailed, Event, Side, TicketFailed, TicketReady
from cubeauth_sidecar.relay_tcp import ALWAYS, FLOWING, Relay, Rules, Stage

OPENING_SECONDS = 10.0
"""For a ticket and a connection to the peer, together; the handshake after it has its own limit."""

RENEW_AT, RENEW_SPREAD = 0.8, 0.1
"""Parts of a ticket's life. The ticket cache has a new one at 0.77 at the latest; the spread keeps many connections of one
ticket from renewing in the same instant."""

RETRY_PART, RETRY_MIN, RETRY_MAX = 0.02, 0.25, 30.0
"""Until the next look for a later ticket: a part of the ticket's life, within seconds."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """When to look for a later ticket than the one in use."""

    grant: TicketGrant
    entropy: Entropy

    def first(self, now: float) -> float:
        life = self.grant.exp - self.grant.c_time
        planned = self.grant.c_time + life * (RENEW_AT + uniform(self.entropy, RENEW_SPREAD))
        return planned if planned > now else self.again(now)

    def again(self, now: float) -> float:
        delay = min(RETRY_MAX, max(RETRY_MIN, (self.grant.exp - self.grant.c_time) * RETRY_PART))
        return now + delay / 2 + uniform(self.entropy, delay / 2)


class ConnectingRelay(Relay):
    legal: ClassVar = {
        Stage.NEW: ALWAYS | {Accepted},
        Stage.FETCHING: ALWAYS | {TicketReady, TicketFailed},
        Stage.DIALING: ALWAYS | {Dialed, DialFailed},
        Stage.HANDSHAKING: FLOWING,
        Stage.OPEN: FLOWING | {TicketReady, TicketFailed},
    }

    def __init__(self, rules: Rules, entropy: Entropy, now: float, *, unanswered_try: UnansweredTry = always_answered) -> None:
        super().__init__(rules, now)
        self._entropy = entropy
        self._unanswered_try = unanswered_try
        self._client: ClientChannel | None = None
        self._renewal: Renewal | None = None
        self._due: float | None = now + OPENING_SECONDS

    def _step(self, event: Event) -> None:
        match event:
            case Accepted():
                self.stage = Stage.FETCHING
                # Nothing can be sent before the handshake, and what cannot be sent is not read.
                self._commands += [Hold(Side.DAEMON), FetchTicket()]
            case TicketReady(grant) if self.stage is Stage.FETCHING:
                self.stage = Stage.DIALING
                self._renewal = Renewal(grant, self._entropy)
                self._commands.append(Dial())
            case TicketReady(grant):
                self._renew(grant)
            case TicketFailed(problem) if self.stage is Stage.FETCHING:
                self._commands.append(AskAuthnode())  # sooner than whoever keeps tickets would try again by itself
                self._end(End.NO_TICKET_HELD, problem)
            case TicketFailed():
                self._look_again()
            case Dialed():
                self._begin()
            case DialFailed(problem):
                self._end(End.PEER_DOWN, problem)

    def _begin(self) -> None:
        assert self._renewal is not None  # the ticket came before the dial
        grant, rules = self._renewal.grant, self._rules
        self.stage = Stage.HANDSHAKING
        self._due = None
        try:
            self._client = self._channel = ClientChannel(
                grant, rules.mode, self._entropy, self._now, grace=rules.grace, unanswered_try=self._unanswered_try
            )
        except InputError as e:
            self._end(End.TICKET_TOO_LARGE, str(e))
            return
        self._client.start()
        self._flush()

    def _handshake_completed(self) -> None:
        assert self._renewal is not None
        assert self._client is not None
        self.stage = Stage.OPEN
        self._commands.append(Release(Side.DAEMON))
        if self._client.renewable:
            self._due = self._renewal.first(self._now)

    def _fail(self, error: PeerError) -> None:
        if error.reason is Reason.REFUSED_BY_PEER:
            # The service may have a new key, which opens no ticket made before it.
            self._commands.append(AskAuthnode())
        super()._fail(error)

    def _renew(self, grant: TicketGrant) -> None:
        assert self._client is not None
        if not self._client.renewable:
            return
        if grant.exp <= self._client.exp:
            self._look_again()
            return
        try:
            self._client.renew(grant)
        except InputError:  # a ticket that fits no frame; the channel lives as long as the one it has
            self._look_again()
            return
        self._renewal = Renewal(grant, self._entropy)
        self._due = self._renewal.first(self._now)
        self._record(Outcome.RENEWED)
        self._flush()

    def _look_again(self) -> None:
        assert self._renewal is not None
        self._due = self._renewal.again(self._now)

    def _own_deadline(self) -> float | None:
        return self._due

    def _on_own_deadline(self) -> None:
        if self.stage is not Stage.OPEN:
            self._end(End.SLOW_START)
            return
        self._due = None  # until the answer
        self._commands.append(FetchTicket())

    def _peer_name(self) -> str:
        return self._client.peer if self._client is not None else ""

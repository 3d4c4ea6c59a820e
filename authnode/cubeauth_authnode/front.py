"""What a worker answers: ticket requests from its copy of the keys, admin requests by way of the parent."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cubeauth import exchange, messages
from cubeauth.errors import MalformedMessage, PeerError, Reason
from cubeauth_authnode.http import NO_ANSWER, OVERLOADED, Answer
from cubeauth_authnode.link import NUMBER, Kind, Link
from cubeauth_authnode.shared import Counter
from cubeauth_authnode.tickets import Proven, TicketDesk
from cubeauth_runtime.audit import Audit
from cubeauth_runtime.clock import Clock

PARENT_SECONDS = 30.0
"""How long the parent has to answer an admin request, or to tell of a write that it has published."""

MAX_BEHIND = 8192
"""Requests that may wait for a write, which takes a parent that is well less than a millisecond to tell of."""

ROUTE_NUMBERS = {route.path: number for number, route in enumerate(messages.ADMIN_ROUTES)}


class _Behind(NamedTuple):
    """A request that waits for a write: what goes on with it, and who is told when that takes too long."""

    again: Callable[[], None]
    answer: Answer
    deadline: float


class Front:
    """Answers from the copy of the keys, never from one that is older than the last published write."""

    def __init__(
        self,
        desk: TicketDesk,
        link: Link,
        audit: Audit,
        clock: Clock,
        *,
        published: Callable[[], int],
        counters: memoryview[int],
        pending_limit: int,
    ) -> None:
        """published: the sequence of the last write that the parent has told of; pending_limit: admin requests under way."""
        self._desk = desk
        self._published = published
        self._counters = counters
        self._audit = audit
        self._link = link
        self._clock = clock
        self._behind: list[_Behind] = []
        self._pending: dict[int, tuple[Answer, float]] = {}
        self._next_number = 0
        self._pending_limit = pending_limit

    # Tickets.

    def _is_behind(self) -> bool:
        return self._published() > self._desk.directory.sequence

    def _wait(self, again: Callable[[], None], answer: Answer) -> None:
        if len(self._behind) >= MAX_BEHIND:
            self._overloaded(answer)
            return
        self._counters[Counter.WAITED_FOR_WRITE] += 1
        self._behind.append(_Behind(again, answer, self._clock.monotonic() + PARENT_SECONDS))

    def _overloaded(self, answer: Answer) -> None:
        self._counters[Counter.OVERLOADED] += 1
        answer(b"", OVERLOADED)

    def caught_up(self) -> None:
        """To be called after each change taken in: what waited for it goes on."""
        if self._behind and not self._is_behind():
            waiting, self._behind = self._behind, []
            for each in waiting:
                each.again()

    def ticket(self, form: bytes, peer: str, answer: Answer) -> None:
        if self._is_behind():
            self._wait(lambda: self.ticket(form, peer, answer), answer)
            return
        now = self._clock.now()
        facts: dict[str, str] = {}
        try:
            request = exchange.parse_ticket_request(form)
            facts = {"claimed": request.unverified_client_id, "service": request.service_id}
            proven = self._desk.prove(request, now)
        except PeerError as e:
            self._refuse(e, facts, peer, answer)
            return
        self._issue(proven, peer, answer)

    def _issue(self, proven: Proven, peer: str, answer: Answer) -> None:
        now = self._clock.now()
        try:
            granted = self._desk.issue(proven, peer, now)
        except PeerError as e:
            self._refuse(e, {"client": proven.client_id, "service": proven.request.service_id}, peer, answer)
            return
        if self._is_behind():
            self._wait(lambda: self._issue(proven, peer, answer), answer)
            return
        self._counters[Counter.TICKETS_GRANTED] += 1
        self._audit.granted(granted.client_id, granted.service_id, granted.jti, peer, now)
        answer(granted.reply.encode("ascii"), None)

    def _refuse(self, error: PeerError, facts: dict[str, str], peer: str, answer: Answer) -> None:
        """facts: what the audit says of who asked, claimed or proven, and for which service."""
        self._counters[Counter.TICKETS_REFUSED] += 1
        if error.reason is Reason.VERIFIER_REPLAYED:
            self._counters[Counter.REPLAYS] += 1
        elif error.reason is Reason.REPLAY_TABLE_FULL:
            self._counters[Counter.REPLAY_TABLE_FULL] += 1
        elif isinstance(error, MalformedMessage):
            self._counters[Counter.REQUESTS_MALFORMED] += 1
        self._audit.write("ticket", "refused", peer, self._clock.now(), reason=error.reason.value, **facts)
        answer(messages.refusal(error).encode("ascii"), None)

    # Admin requests, by way of the parent.

    def admin(self, path: str, form: bytes, peer: str, answer: Answer) -> None:
        if len(self._pending) >= self._pending_limit:
            self._overloaded(answer)
            return
        self._counters[Counter.ADMIN_FORWARDED] += 1
        number = self._next_number
        self._next_number = (number + 1) % (1 << 32)
        self._pending[number] = (answer, self._clock.monotonic() + PARENT_SECONDS)
        name = peer.encode("ascii")
        self._link.send(Kind.ADMIN, NUMBER.pack(number) + bytes([ROUTE_NUMBERS[path], len(name)]) + name + form)

    def admin_reply(self, payload: bytes) -> None:
        (number,) = NUMBER.unpack_from(payload)
        answer, _ = self._pending.pop(number, (None, 0.0))
        if answer is not None:
            answer(payload[NUMBER.size :], None)

    def sweep(self) -> None:
        """To be called every second: give up on what the parent does not answer or tell of."""
        now = self._clock.monotonic()
        late = [each.answer for each in self._behind if now >= each.deadline]
        self._behind = [each for each in self._behind if now < each.deadline]
        for number, (answer, deadline) in list(self._pending.items()):
            if now >= deadline:
                del self._pending[number]
                late.append(answer)
        for answer in late:
            answer(b"", NO_ANSWER)

"""One connection: its two sockets driven by its relay, which says everything; its deadlines, back-pressure and end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from cubeauth.errors import CubeauthError
from cubeauth_runtime.clock import Clock
from cubeauth_runtime.tasks import TaskOwner
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
from cubeauth_sidecar.credentials import Credentials
from cubeauth_sidecar.events import DeadlinePassed, Dialed, DialFailed, Event, Received, Side, TicketFailed, TicketReady
from cubeauth_sidecar.journal import Journal
from cubeauth_sidecar.listeners import Listener, shown
from cubeauth_sidecar.socket_end import SocketEnd

CLOCK_LOOK = 30.0
"""Seconds that a timer sleeps at most: deadlines are wall clock, which may be set."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a process share. dial: seconds; high: bytes that may wait for one socket."""

    clock: Clock
    tasks: TaskOwner
    credentials: Credentials
    journal: Journal
    memory: memoryview
    dial: float
    high: int


class Host(Protocol):
    """Who counts connections."""

    def came(self, connection: Connection) -> None:
        """Its first socket is there: let it in, or turn it away."""
        ...

    def settled(self, connection: Connection) -> None:
        """Its peer is known, or it is over."""
        ...

    def ended(self, connection: Connection) -> None:
        """Nothing of it is left: no socket, no task."""
        ...


class Connection:
    """Made when a socket comes in; `incoming` is that socket's protocol."""

    def __init__(self, listener: Listener, around: Surroundings, host: Host) -> None:
        self.listener = listener
        self.relay = listener.make_relay(around.clock.now())
        self._around = around
        self._host = host
        self._opening = True
        self._sockets = 0
        self._events: deque[Event] = deque()
        self._busy = False
        self._work: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._passed = (0, 0)
        self.incoming = self._end(listener.came, lambda: host.came(self))
        self._outgoing = self._end(listener.came.other, self._dialed)
        self._ends = {listener.came: self.incoming, listener.came.other: self._outgoing}

    def _end(self, side: Side, made: Callable[[], None]) -> SocketEnd:
        return SocketEnd(self, side, made, memory=self._around.memory, high=self._around.high)

    def reset(self) -> None:
        """End it here and now."""
        for end in self._ends.values():
            end.reset()

    # What the sockets say.

    def happened(self, event: Event) -> None:
        """Carry out what the relay makes of `event`; one that comes meanwhile waits its turn."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            turn = False
            while self._events:
                event = self._events.popleft()
                turn = turn or type(event) is not Received
                for command in self.relay.handle(event, self._around.clock.now()):
                    if type(command) is Send:
                        self._ends[command.side].send(command.buffers)
                    else:
                        turn = True
                        self._carry_out(command)
        finally:
            self._busy = False
            self._events.clear()
        if turn:
            self._turned()

    def _turned(self) -> None:
        """More happened than bytes that went through: whose turn it is, a deadline, or the end may have changed."""
        if self._opening and not self.relay.opening:
            self._opening = False
            self._host.settled(self)
        self._arm()
        if self.relay.closed:
            self._end_if_over()

    def pressed(self, side: Side, under_pressure: bool) -> None:
        self._ends[side.other].press(under_pressure)

    def there(self) -> None:
        self._sockets += 1

    def gone(self) -> None:
        self._sockets -= 1
        self._end_if_over()

    # What the relay wants.

    def _carry_out(self, command: Command) -> None:
        match command:
            case CloseWriting(side):
                self._ends[side].end()
            case Close(side):
                self._ends[side].close()
            case Reset(side):
                self._ends[side].reset()
            case Hold(side):
                self._ends[side].hold(True)
            case Release(side):
                self._ends[side].hold(False)
            case Dial():
                self._start("dial", self._dial())
            case FetchTicket():
                self._fetch_ticket()
            case AskAuthnode():
                self._around.credentials.ask(self.listener.service)
            case Record():
                self.tally()
                self._around.journal.note(self.listener, shown(self.incoming.address), command)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._work = self._around.tasks.start(f"{name} for {self.listener.name}", work)
        self._work.add_done_callback(self._work_done)

    def _work_done(self, task: asyncio.Task[Any]) -> None:
        if self._work is task:
            self._work = None
        if not task.cancelled() and task.exception() is not None:
            self.reset()
        self._end_if_over()

    async def _dial(self) -> None:
        host, port = self.listener.target
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._around.dial):
                await loop.create_connection(lambda: self._outgoing, host, port)
        except OSError as e:
            if not self._outgoing.abandon():
                self.happened(DialFailed(_said(e)))
        except asyncio.CancelledError:
            self._outgoing.abandon()
            raise

    def _dialed(self) -> None:
        self._work = None  # from here on giving up the dial would throw away what waits to be written
        self.happened(Dialed())

    def _fetch_ticket(self) -> None:
        held = self._around.credentials.held(self.listener.service)
        if held is not None:
            self.happened(TicketReady(held))
        else:
            self._start("ticket", self._wait_for_ticket())

    def offer_ticket(self) -> None:
        """There is a newer ticket than the one in use."""
        held = self._around.credentials.held(self.listener.service)
        if held is not None:
            self.happened(TicketReady(held))

    async def _wait_for_ticket(self) -> None:
        try:
            grant = await self._around.credentials.get(self.listener.service)
        except CubeauthError as e:
            self.happened(TicketFailed(str(e)))
        else:
            self.happened(TicketReady(grant))

    def tally(self) -> None:
        """Count the bytes that went through since the last time."""
        from_peer, to_peer = self.relay.from_peer, self.relay.to_peer
        self._around.journal.passed(self.listener, from_peer - self._passed[0], to_peer - self._passed[1])
        self._passed = (from_peer, to_peer)

    # Time and end.

    def _arm(self) -> None:
        """Have the timer ring no later than the next deadline; one that rings too early looks again."""
        deadline = self.relay.next_deadline()
        if deadline is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None and self._timer_at <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = min(CLOCK_LOOK, max(0.0, deadline - self._around.clock.now()))
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        deadline = self.relay.next_deadline()
        if deadline is not None and self._around.clock.now() >= deadline:
            self.happened(DeadlinePassed())
        else:
            self._arm()

    def _end_if_over(self) -> None:
        if self._work is not None:
            if self.relay.closed:
                self._work.cancel()
        elif self._sockets == 0:
            self._host.ended(self)


def _said(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return error.strerror or type(error).__name__

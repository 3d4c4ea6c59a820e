"""The role that guards a daemon: a peer comes in with a ticket, and goes on to the daemon once it is known."""

from __future__ import annotations

from typing import ClassVar

from cubeauth.admission import Acceptor
from cubeauth.channel import ServerChannel
from cubeauth.entropy import Entropy
from cubeauth_sidecar.commands import Dial, End
from cubeauth_sidecar.events import Accepted, Dialed, DialFailed, Event
from cubeauth_sidecar.relay_tcp import ALWAYS, FLOWING, Relay, Rules, Stage


class AcceptingRelay(Relay):
    legal: ClassVar = {
        Stage.NEW: ALWAYS | {Accepted},
        Stage.HANDSHAKING: FLOWING,
        Stage.DIALING: FLOWING | {Dialed, DialFailed},
        Stage.OPEN: FLOWING,
    }

    def __init__(self, acceptor: Acceptor, entropy: Entropy, now: float, *, idle: float | None = None) -> None:
        super().__init__(Rules(acceptor.mode, acceptor.grace, idle), now)
        self._server = self._channel = ServerChannel(acceptor, entropy, now)

    def _step(self, event: Event) -> None:
        match event:
            case Accepted():
                self.stage = Stage.HANDSHAKING
            case Dialed():
                self.stage = Stage.OPEN
            case DialFailed(problem):
                self._end(End.DAEMON_DOWN, problem)

    def _handshake_completed(self) -> None:
        self.stage = Stage.DIALING
        self._commands.append(Dial())

    def _own_deadline(self) -> None:
        return None

    def _on_own_deadline(self) -> None:
        """Nothing is due."""

    def _peer_name(self) -> str:
        return self._server.peer or self._server.unverified_peer

"""The two ends of a secured connection, as a relay uses them (protocol-v1, section 7).

    channel = ServerChannel(acceptor, entropy.system, now)
    for event in channel.receive_data(data, now): ...
    for buffer in channel.data_to_send(): ...
    ... channel.tick(now) at channel.next_deadline()

Nothing is dialed, sent or delivered before HandshakeCompleted. After
ChannelFailed the rest of data_to_send is written and the connection closed.
"""

from __future__ import annotations

import math
from typing import ClassVar

from cubeauth import handshake, ids, renewal
from cubeauth.admission import Acceptor, Admission
from cubeauth.caps import Capabilities
from cubeauth.connection import Connection, PlainHandlers, SealedHandlers
from cubeauth.entropy import Entropy
from cubeauth.errors import LocalMisuse, PeerError, RenewalRefused
from cubeauth.events import Event, HandshakeCompleted, Renewed
from cubeauth.exchange import TicketGrant
from cubeauth.frames import Frame, FrameType
from cubeauth.lifetime import DEFAULT_GRACE, Lifetime, UnansweredTry, always_answered
from cubeauth.phases import Mode, Phase, Role


def _lifetime(exp: float, mode: Mode, grace: float, unanswered_try: UnansweredTry) -> Lifetime:
    """A clear channel ends at exp, whatever happens: no RENEW could follow its grace."""
    return Lifetime(exp, grace if mode is Mode.SEALED else 0.0, unanswered_try)


def _exp(grant: TicketGrant) -> float:
    return grant.exp or math.inf


class ClientChannel(Connection):
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
        super().__init__(mode, Phase.IDLE, _lifetime(_exp(grant), mode, grace, unanswered_try), now)
        self._grant = grant
        self._handshake = handshake.ClientHandshake(grant, mode, entropy)
        self._transcript = b""

    def start(self) -> None:
        """Queue the first flight."""
        if self.phase is not Phase.IDLE:
            raise LocalMisuse("started twice")
        self._out.append(self._handshake.first_flight())
        self.phase = Phase.AWAIT_CHALLENGE

    @property
    def renewable(self) -> bool:
        """Whether renew may be called: the handshake is complete, the mode sealed, our direction open."""
        return self.can_send and self.mode is Mode.SEALED

    def renew(self, grant: TicketGrant) -> None:
        """Queue a RENEW with a later ticket of the same client and service; a server that does not take it closes.

        Raises LocalMisuse for another grant, or where the channel is not renewable; InputError for a ticket that is too large.
        """
        if not self.renewable:
            raise LocalMisuse("this channel cannot be renewed")
        if (grant.client_id, grant.service_id) != (self._grant.client_id, self._grant.service_id):
            raise LocalMisuse("a renewal takes a ticket of the same client and service")
        if _exp(grant) <= self.exp < math.inf:
            raise LocalMisuse("a renewal takes a later ticket")
        self._seal(FrameType.RENEW, renewal.request(grant, self._transcript))
        self._lifetime.renew(_exp(grant))

    def _on_challenge(self, frame: Frame) -> list[Event]:
        self._out.append(self._handshake.challenge(frame))
        return []

    def _on_confirm(self, frame: Frame) -> list[Event]:
        established = self._handshake.confirm(frame)
        self._transcript = established.transcript
        self._establish(established.keys)
        return []

    def _completed(self) -> HandshakeCompleted:
        return HandshakeCompleted(ids.canonical_service(self._grant.service_id), None, self.exp)

    plain_handlers: ClassVar[PlainHandlers] = {
        FrameType.CHALLENGE: _on_challenge,
        FrameType.CONFIRM: _on_confirm,
        FrameType.ERROR: Connection._on_plain_error,
    }


class ServerChannel(Connection):
    """The acceptor's end. Its peer is the client."""

    role = Role.SERVER

    def __init__(self, acceptor: Acceptor, entropy: Entropy, now: float) -> None:
        lifetime = _lifetime(math.inf, acceptor.mode, acceptor.grace, acceptor.unanswered_try)
        super().__init__(acceptor.mode, Phase.AWAIT_TICKET, lifetime, now)
        self._acceptor = acceptor
        self._handshake = handshake.ServerHandshake(acceptor, entropy)
        self._admission: Admission | None = None
        self._transcript = b""

    @property
    def unverified_peer(self) -> str:
        """Who the client says it is, for the audit line of a refusal; "" before a well-formed TICKET."""
        return self._handshake.unverified_client_id

    @property
    def capabilities(self) -> Capabilities:
        """Of the ticket that holds now; none before the handshake is complete."""
        return self._admission.capabilities if self._admission and self.peer else Capabilities()

    def _on_ticket(self, frame: Frame) -> list[Event]:
        self._out.append(self._handshake.ticket(frame, self._now))
        return []

    def _on_response(self, frame: Frame) -> list[Event]:
        confirm, established = self._handshake.response(frame)
        self._out.append(confirm)
        self._transcript = established.transcript
        self._establish(established.keys)
        return []

    def _completed(self) -> HandshakeCompleted:
        admission = self._handshake.admission
        assert admission is not None  # a record opened under keys that its ticket gave
        self._admission = admission
        self._lifetime.renew(admission.exp)
        return HandshakeCompleted(admission.client_id, admission.capabilities, admission.exp, admission.jti)

    def _on_renew(self, plaintext: bytes) -> list[Event]:
        assert self._admission is not None  # the phase is OPEN
        try:
            fresh = renewal.accept(
                self._acceptor, plaintext, self._admission, exp=self.exp, transcript=self._transcript, now=self._now
            )
        except PeerError as e:
            raise RenewalRefused(str(e), reason=e.reason) from e
        self._admission = fresh
        self._lifetime.renew(fresh.exp)
        return [Renewed(fresh.exp, fresh.capabilities, fresh.jti)]

    plain_handlers: ClassVar[PlainHandlers] = {
        FrameType.TICKET: _on_ticket,
        FrameType.RESPONSE: _on_response,
        FrameType.ERROR: Connection._on_plain_error,
    }
    sealed_handlers: ClassVar[SealedHandlers] = {**Connection.sealed_handlers, FrameType.RENEW: _on_renew}

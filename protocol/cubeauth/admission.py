"""The acceptor's judgement of a ticket, the same in a handshake and in a renewal (protocol-v1, sections 7 and 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cubeauth import caps, ids, ticket
from cubeauth.caps import Capabilities, Kind
from cubeauth.errors import AuthenticationFailed, CapabilityMissing, InputError, LocalMisuse, MalformedMessage, Reason
from cubeauth.lifetime import DEFAULT_GRACE, UnansweredTry, always_answered
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes

PER_REQUEST = "per-request"
"""A requirement that asks nothing at the handshake: whoever reads the requests checks each of them."""

MAX_EXP = 1 << 53
"""Unix seconds; a ticket beyond it was not made by an Authnode, and would not fit a float."""


@dataclass(frozen=True, slots=True)
class Acceptor:
    """What a listener demands, made once and shared by its channels.

    service_keys: called at each ticket, newest first, so that a rotated key opens renewals of old channels too.
    requirement: the API capability that a ticket must hold, or PER_REQUEST.
    grace: seconds that a sealed channel outlives its ticket while the Authnode does not answer us; 0 for none.
    unanswered_try: unix seconds of our own last try at the Authnode if that got no answer, else None.
    """

    service_id: str
    service_keys: Callable[[], Sequence[SecretBytes]] = field(repr=False)
    requirement: str
    mode: Mode = Mode.SEALED
    grace: float = DEFAULT_GRACE
    unanswered_try: UnansweredTry = always_answered

    def __post_init__(self) -> None:
        if ids.canonical_service(self.service_id) != self.service_id or not ids.valid_id(self.service_id):
            raise LocalMisuse(f"{self.service_id!r} is no service id; an alias is resolved by the caller")
        if self.requirement != PER_REQUEST and not caps.valid(Kind.API, self.requirement):
            raise LocalMisuse(f"{self.requirement!r} is neither a capability nor {PER_REQUEST}")


@dataclass(frozen=True, slots=True)
class Admission:
    """A ticket that was found good. exp: unix seconds; jti: the ticket's name in audit lines, "" in a stock ticket."""

    client_id: str
    capabilities: Capabilities
    exp: int
    jti: str
    session_key: SecretBytes = field(repr=False)


def admit(acceptor: Acceptor, text: str, *, client_id: str, now: float) -> Admission:
    """Open the ticket in `text`, which `client_id` is said to hold, and judge it.

    Raises a PeerError whose reason says which rule it broke.
    """
    opened = _open(acceptor, text)
    ticket.check(opened, service_id=acceptor.service_id, client_id=client_id)
    if not 0 <= opened.exp < MAX_EXP:
        raise MalformedMessage("ticket exp", reason=Reason.BAD_TICKET)
    ticket.check_lifetime(opened, now=now)
    capabilities = _capabilities(opened.caps)
    if acceptor.requirement != PER_REQUEST and not capabilities.allows(acceptor.requirement):
        raise CapabilityMissing(f"{client_id} has no {acceptor.requirement}")
    return Admission(client_id, capabilities, opened.exp, opened.jti, opened.session_key)


def _open(acceptor: Acceptor, text: str) -> ticket.Ticket:
    failure: AuthenticationFailed | None = None
    for key in acceptor.service_keys():
        try:
            return ticket.open_(key.reveal(), text)
        except AuthenticationFailed as e:
            failure = e
    raise failure or LocalMisuse(f"no key for {acceptor.service_id}")


def _capabilities(text: str) -> Capabilities:
    """Members that mean nothing to us are the Authnode's affair; a list that is no list is refused."""
    try:
        return caps.parse(text).capabilities
    except InputError as e:
        raise MalformedMessage(f"ticket capabilities: {e.field}", reason=Reason.BAD_TICKET) from None

"""Every error of the protocol core, as one tree.

    CubeauthError
    |-- InputError             a person or a file gave us something wrong: field, problem, remedy
    |-- LocalMisuse            our own caller broke a rule of this library; always a bug on our side
    `-- PeerError              the other side misbehaved, or has no right
        |-- MalformedMessage         not a message of this protocol              wire code 2
        |-- AuthenticationFailed     not shown to be who it says it is           wire code 2, one text
        |   |-- ReplayDetected           the same proof was seen before
        |   `-- ReplayTableFull          cannot tell any more: refuse, never forget
        |-- RequestInvalid           known caller, wrong parameter               wire code 2
        |-- CapabilityMissing        known caller, no right                      wire code 2
        |-- KeyRequestRefused        key exists already, or does not exist       wire code 35
        |-- TicketInvalid            its principal was deleted or made anew      wire code 41
        |-- TicketExpired                                                       wire code 43
        |-- ServerRefused            the answer of a server: its code and text
        `-- ChannelError             on a secured connection
            |-- HandshakeRefused         before HandshakeCompleted; the wire says one thing
            |-- RecordRefused            a sealed frame that does not open, or is out of place
            |-- RenewalRefused           a RENEW that the acceptor does not take
            |-- RefusedByPeer            the peer sent a sealed ERROR: its code and text
            |-- ChannelExpired           the ticket's life ended without a renewal
            `-- StreamTruncated          the stream ended without CLOSE

A leaf knows its wire code (protocol-v1, section 8). `reason` is for our own
log and audit; what a peer that is not yet authenticated may see is
`wire_text`, the same for all of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

AUTHENTICATION_FAILED = "authentication failed"
"""The one text for everything that goes wrong before a caller is known."""

CODE_SUCCESS = 0
CODE_PARAMETER = 2
CODE_KEYSTORE = 35
CODE_INVALID_TICKET = 41
CODE_EXPIRED_TICKET = 43


class Reason(StrEnum):
    """Why a peer was refused: for our log, audit and metrics, never for the wire."""

    MALFORMED = "malformed"
    BAD_ENVELOPE = "bad_envelope"
    UNKNOWN_CLIENT = "unknown_client"
    UNKNOWN_SERVICE = "unknown_service"
    BAD_VERIFIER = "bad_verifier"
    VERIFIER_SKEW = "verifier_skew"
    VERIFIER_UNBOUND = "verifier_unbound"
    VERIFIER_REPLAYED = "verifier_replayed"
    REPLAY_TABLE_FULL = "replay_table_full"
    BAD_TICKET = "bad_ticket"
    OTHER_SERVICE = "other_service"
    OTHER_CLIENT = "other_client"
    TICKET_EXPIRED = "ticket_expired"
    TICKET_REVOKED = "ticket_of_deleted_key"
    NO_TICKET = "no_ticket"
    CAPABILITY_MISSING = "capability_missing"
    BAD_REQUEST = "bad_request"
    KEY_EXISTS = "key_exists"
    KEY_UNKNOWN = "key_unknown"
    KEYSTORE_FAILED = "keystore_failed"
    BAD_CHALLENGE = "bad_challenge"
    MODE_DIFFERS = "mode_differs"
    BAD_RECORD = "bad_record"
    BAD_RENEWAL = "bad_renewal"
    OUT_OF_PLACE = "out_of_place"
    TOO_LARGE = "too_large"
    DEADLINE = "deadline"
    TRUNCATED = "truncated"
    RECORD_LIMIT = "record_limit"
    REFUSED_BY_PEER = "refused_by_peer"


def shown(value: object, longest: int = 100) -> str:
    """`value` as an error's text may name it: quoted and printable.

    Of an object or list, which may hold a secret, only what it is; of a text over `longest` characters only its length.
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str) and len(value) > longest:
        return f"a text of {len(value)} characters"
    return repr(value)


class CubeauthError(Exception):
    """Root of the tree."""


class InputError(CubeauthError):
    """A configuration, manifest, key file or argument is wrong; shown to a person as one line.

    field: dotted path of the member, or "" where the whole is meant; problem: what is wrong, with the value unless it may be a
    secret; remedy: what to do; source: the file or stream, filled in by whoever knows it.
    """

    def __init__(self, field: str, problem: str, remedy: str = "", *, source: str = "") -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        self.source = source
        super().__init__(field, problem, remedy, source)

    def located(self, source: str) -> InputError:
        """The same error, naming the file it is in; an inner file's name stays."""
        return InputError(self.field, self.problem, self.remedy, source=self.source or source)

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.source, self.field, self.problem) if part)
        if self.remedy:
            text += f"; {self.remedy}"
        return " ".join(text.split())


class LocalMisuse(CubeauthError):
    """A caller in our own code broke a rule: a bug, never the peer's doing."""


class PeerError(CubeauthError):
    """The other side misbehaved or has no right."""

    code: ClassVar[int] = CODE_PARAMETER
    default_reason: ClassVar[Reason] = Reason.MALFORMED

    def __init__(self, detail: str = "", *, reason: Reason | None = None) -> None:
        self.reason = reason or self.default_reason
        self.detail = detail
        super().__init__(detail or self.reason.value)

    @property
    def wire_text(self) -> str:
        """What the peer is told."""
        return AUTHENTICATION_FAILED


class MalformedMessage(PeerError):
    """Bytes that are no message of this protocol."""


class AuthenticationFailed(PeerError):
    """The caller did not show that it holds the key it speaks for."""

    default_reason = Reason.BAD_ENVELOPE


class ReplayDetected(AuthenticationFailed):
    default_reason = Reason.VERIFIER_REPLAYED


class ReplayTableFull(AuthenticationFailed):
    default_reason = Reason.REPLAY_TABLE_FULL


class _ToldPeerError(PeerError):
    """The caller is authenticated: it may know what is wrong."""

    @property
    def wire_text(self) -> str:
        return self.detail or self.reason.value


class RequestInvalid(_ToldPeerError):
    default_reason = Reason.BAD_REQUEST


class CapabilityMissing(_ToldPeerError):
    default_reason = Reason.CAPABILITY_MISSING


class KeyRequestRefused(_ToldPeerError):
    code = CODE_KEYSTORE
    default_reason = Reason.KEY_UNKNOWN


class TicketInvalid(_ToldPeerError):
    code = CODE_INVALID_TICKET
    default_reason = Reason.TICKET_REVOKED


class TicketExpired(_ToldPeerError):
    code = CODE_EXPIRED_TICKET
    default_reason = Reason.TICKET_EXPIRED


class ServerRefused(PeerError):
    """A server answered with an error: `server_code` and the text that it sent."""

    default_reason = Reason.REFUSED_BY_PEER

    def __init__(self, server_code: int, text: str) -> None:
        self.server_code = server_code
        super().__init__(text)

    def __str__(self) -> str:
        return f"refused with code {self.server_code}: {self.detail}"


class ChannelError(PeerError):
    """Something on a secured connection; the connection is over."""


class HandshakeRefused(ChannelError):
    pass


class RecordRefused(ChannelError):
    default_reason = Reason.BAD_RECORD


class RenewalRefused(ChannelError):
    default_reason = Reason.BAD_RENEWAL


class RefusedByPeer(ChannelError):
    """The peer ended the channel: `peer_code` and the text that it sent."""

    default_reason = Reason.REFUSED_BY_PEER

    def __init__(self, peer_code: int, text: str) -> None:
        self.peer_code = peer_code
        super().__init__(text)

    def __str__(self) -> str:
        return f"the peer refused with code {self.peer_code}: {self.detail}"


class ChannelExpired(ChannelError):
    default_reason = Reason.TICKET_EXPIRED


class StreamTruncated(ChannelError):
    default_reason = Reason.TRUNCATED

"""The four frames that make a channel (protocol-v1, section 7), each end as an object that takes frames and gives frames.

    1 C->S  TICKET     client_id, service_id, ticket
    2 S->C  CHALLENGE  E(s_n)
    3 C->S  RESPONSE   E(s_c, s_n + 1)
    4 S->C  CONFIRM    E(s_c + 1)

E is the envelope under the session key, and no authenticated encryption. What
binds the frames is the key schedule: the keys of both directions come from
all four, whole, and the first record of each end is sealed with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cubeauth import ids, strictjson, verifier
from cubeauth.admission import Acceptor, Admission, admit
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed, InputError, LocalMisuse, MalformedMessage, Reason
from cubeauth.exchange import TicketGrant
from cubeauth.frames import FLAG_SEALED, MAX_HANDSHAKE_PAYLOAD, Frame, FrameType, encode
from cubeauth.messages import MsgType
from cubeauth.phases import Mode
from cubeauth.schedule import ChannelKeys, channel_keys, transcript_hash
from cubeauth.secret import SecretBytes
from cubeauth.verifier import MASK64

_TICKET_MEMBERS = frozenset({"type", "client_id", "service_id", "ticket"})


@dataclass(frozen=True, slots=True)
class Established:
    """What a handshake leaves: the keys, and the hash of its four frames."""

    keys: ChannelKeys = field(repr=False)
    transcript: bytes


def _flags(mode: Mode) -> int:
    return FLAG_SEALED if mode is Mode.SEALED else 0


def _check_mode(frame: Frame, mode: Mode) -> None:
    if frame.flags != _flags(mode):
        raise AuthenticationFailed(f"the peer is not configured for {mode.value}", reason=Reason.MODE_DIFFERS)


def _random64(entropy: Entropy) -> int:
    """An unsigned 64-bit number from 8 bytes, little-endian, as it travels."""
    return int.from_bytes(entropy(8), "little")


def ticket_frame(grant: TicketGrant, mode: Mode) -> bytes:
    """TICKET. Raises InputError for a ticket that no handshake frame holds."""
    members = {
        "type": int(MsgType.CONNECT),
        "client_id": grant.client_id,
        "service_id": ids.canonical_service(grant.service_id),
        "ticket": grant.ticket,
    }
    payload = strictjson.dumps(members).encode("utf-8")
    if len(payload) > MAX_HANDSHAKE_PAYLOAD:
        problem = f"{len(payload)} bytes, a handshake frame holds {MAX_HANDSHAKE_PAYLOAD}"
        raise InputError("ticket", problem, f"grant {grant.client_id} fewer capabilities")
    return encode(FrameType.TICKET, payload, _flags(mode))


def parse_ticket(payload: bytes) -> tuple[str, str, str]:
    """client_id, service_id and ticket of TICKET; exactly its four members. Raises MalformedMessage."""
    members = strictjson.load_object(payload)
    if members.keys() != _TICKET_MEMBERS or strictjson.int_member(members, "type") != MsgType.CONNECT:
        raise MalformedMessage("TICKET: members or type")
    client_id, service_id, text = (strictjson.text_member(members, name) for name in ("client_id", "service_id", "ticket"))
    if not (ids.valid_id(client_id) and ids.valid_id(service_id)):
        raise MalformedMessage("TICKET: ids")
    return client_id, service_id, text


class ClientHandshake:
    """The client's end: `first_flight`, then `challenge`, then `confirm`."""

    def __init__(self, grant: TicketGrant, mode: Mode, entropy: Entropy) -> None:
        self._session_key = grant.session_key
        self._mode = mode
        self._entropy = entropy
        self._frames = [ticket_frame(grant, mode)]
        self._s_n = 0
        self._s_c = 0

    def first_flight(self) -> bytes:
        return self._frames[0]

    def challenge(self, frame: Frame) -> bytes:
        """RESPONSE to a CHALLENGE. Raises MalformedMessage, AuthenticationFailed."""
        _check_mode(frame, self._mode)
        (self._s_n,) = verifier.open_numbers(self._session_key.reveal(), bytes(frame.payload), 1)
        self._s_c = self._draw()
        numbers = (self._s_c, self._s_n + 1)
        response = encode(FrameType.RESPONSE, verifier.seal_numbers(self._session_key.reveal(), self._entropy, *numbers))
        self._frames += [frame.whole(), response]
        return response

    def confirm(self, frame: Frame) -> Established:
        """The channel's keys, after a CONFIRM. Raises MalformedMessage, AuthenticationFailed."""
        (answer,) = verifier.open_numbers(self._session_key.reveal(), bytes(frame.payload), 1)
        if answer != (self._s_c + 1) & MASK64:
            raise AuthenticationFailed("CONFIRM is not s_c + 1", reason=Reason.BAD_CHALLENGE)
        self._frames.append(frame.whole())
        return _established(self._session_key, self._s_n, self._s_c, self._frames)

    def _draw(self) -> int:
        """s_c, never s_n - 1: then CHALLENGE itself would pass for CONFIRM."""
        while (s_c := _random64(self._entropy)) == (self._s_n - 1) & MASK64:
            pass
        return s_c


class ServerHandshake:
    """The server's end: `ticket`, then `response`. admission: set once the ticket was found good."""

    def __init__(self, acceptor: Acceptor, entropy: Entropy) -> None:
        self._acceptor = acceptor
        self._entropy = entropy
        self._frames: list[bytes] = []
        self._s_n = 0
        self.unverified_client_id = ""
        self.admission: Admission | None = None

    def ticket(self, frame: Frame, now: float) -> bytes:
        """CHALLENGE to a TICKET. Raises a PeerError whose reason says what was wrong."""
        client_id, service_id, text = parse_ticket(bytes(frame.payload))
        self.unverified_client_id = client_id
        _check_mode(frame, self._acceptor.mode)
        if service_id != self._acceptor.service_id:
            raise AuthenticationFailed(f"ticket for {service_id!r}", reason=Reason.OTHER_SERVICE)
        self.admission = admit(self._acceptor, text, client_id=client_id, now=now)
        self._s_n = _random64(self._entropy)
        key = self.admission.session_key.reveal()
        challenge = encode(FrameType.CHALLENGE, verifier.seal_numbers(key, self._entropy, self._s_n), _flags(self._acceptor.mode))
        self._frames += [frame.whole(), challenge]
        return challenge

    def response(self, frame: Frame) -> tuple[bytes, Established]:
        """CONFIRM to a RESPONSE, and the channel's keys. Raises MalformedMessage, AuthenticationFailed."""
        if self.admission is None:
            raise LocalMisuse("RESPONSE before TICKET")
        session_key = self.admission.session_key
        s_c, answer = verifier.open_numbers(session_key.reveal(), bytes(frame.payload), 2)
        if answer != (self._s_n + 1) & MASK64:
            raise AuthenticationFailed("RESPONSE is not s_n + 1", reason=Reason.BAD_CHALLENGE)
        if (s_c + 1) & MASK64 == self._s_n:
            raise AuthenticationFailed("RESPONSE would make CONFIRM a CHALLENGE", reason=Reason.BAD_CHALLENGE)
        confirm = encode(FrameType.CONFIRM, verifier.seal_numbers(session_key.reveal(), self._entropy, s_c + 1))
        self._frames += [frame.whole(), confirm]
        return confirm, _established(session_key, self._s_n, s_c, self._frames)


def _established(session_key: SecretBytes, s_n: int, s_c: int, frames: list[bytes]) -> Established:
    transcript = transcript_hash(frames)
    return Established(channel_keys(session_key, s_n, s_c, transcript), transcript)

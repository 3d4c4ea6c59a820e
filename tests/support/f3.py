"""F3 for tests: the given vectors, a small world of keys and tickets, and two real ends back to back."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from cubeauth import ticket
from cubeauth.admission import Acceptor
from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.connection import Connection
from cubeauth.entropy import Entropy, scripted
from cubeauth.errors import ChannelError, Reason
from cubeauth.events import ChannelFailed, DataReceived, Event
from cubeauth.exchange import TicketGrant
from cubeauth.frames import HEADER, HEADER_BYTES, FrameType
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
NOW = 1_800_000_010.0
"""The vectors' now, unix seconds."""

SERVICE = "DatanodeService"
CLIENT = "client1"
REQUIREMENT = "data:read:access"
EXP = int(NOW) + 3600
"""When the world's ticket ends."""

BOTH = ("client", "server")


@cache
def given() -> dict[str, Any]:
    """f3-v1.json: made by a second implementation."""
    value: dict[str, Any] = json.loads((VECTORS / "f3-v1.json").read_bytes())
    return value


def case(name: str) -> dict[str, Any]:
    """The given case of this name."""
    (found,) = [one for one in given()["cases"] if one["name"] == name]
    return dict(found)


def seed(text: str) -> bytes:
    """The vectors' F: 32 bytes of a text."""
    return hashlib.sha256(text.encode("ascii")).digest()


def chance(label: str) -> Entropy:
    """Bytes that look random and are the same in every run: SHAKE-256 of the label and how many draws there were."""
    draws = 0

    def draw(size: int) -> bytes:
        nonlocal draws
        draws += 1
        return hashlib.shake_256(f"{label} {draws}".encode("ascii")).digest(size)

    return draw


SERVICE_KEY = SecretBytes(seed("service key"))
SESSION_KEY = SecretBytes(seed("session key"))
CAPS = '{"API":["data:read:access"],"OwnerVOL":[],"NoneOwnerVOL":[]}'


def ticket_of(**changes: Any) -> ticket.Ticket:
    """The world's ticket, an hour from its end."""
    made = ticket.Ticket(
        service_id=SERVICE,
        session_key=SESSION_KEY,
        c_time=int(NOW) - 10,
        exp=EXP,
        ip="10.0.0.1",
        caps=CAPS,
        client_id=CLIENT,
        jti="0123456789abcdef" * 2,
        kvno=1,
    )
    return replace(made, **changes)


def grant(made: ticket.Ticket | None = None, *, key: SecretBytes = SERVICE_KEY, label: str = "ticket") -> TicketGrant:
    """What the client holds of a ticket that is sealed with `key`."""
    made = made or ticket_of()
    text = ticket.seal(key.reveal(), made, chance(label))
    return TicketGrant(made.client_id or CLIENT, made.service_id, text, made.session_key, made.c_time, made.exp)


def later(seconds: int = 3600, *, key: SecretBytes = SERVICE_KEY, **changes: Any) -> TicketGrant:
    """A fresh ticket that ends so much later than the world's, with a session key of its own."""
    fresh = SecretBytes(seed("fresh session key"))
    return grant(ticket_of(exp=EXP + seconds, session_key=fresh, jti="f" * 32, **changes), key=key, label="fresh")


def raw_grant(members: dict[str, Any], *, key: SecretBytes = SERVICE_KEY) -> TicketGrant:
    """A grant whose ticket holds just these members, whatever they are."""
    from cubeauth.compat import envelope  # a forger of tickets needs the envelope; the product's modules may not

    text = envelope.seal(key.reveal(), json.dumps(members).encode("utf-8"), chance("forged")).decode("ascii")
    return TicketGrant(CLIENT, SERVICE, text, SESSION_KEY, int(NOW), EXP)


def acceptor(**changes: Any) -> Acceptor:
    """The world's listener."""
    made = Acceptor(SERVICE, lambda: (SERVICE_KEY,), REQUIREMENT)
    return replace(made, **changes)


@dataclass
class End:
    """A channel and all that came out of it."""

    channel: Connection
    events: list[Event] = field(default_factory=list)

    def feed(self, data: bytes, now: float = NOW) -> list[Event]:
        new = self.channel.receive_data(data, now)
        self.events += new
        return new

    def eof(self, now: float = NOW) -> list[Event]:
        new = self.channel.receive_eof(now)
        self.events += new
        return new

    def take(self) -> bytes:
        """All that is to be written, as one string."""
        return b"".join(self.channel.data_to_send())

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def received(self) -> bytes:
        return b"".join(event.data for event in self.of(DataReceived))

    @property
    def error(self) -> ChannelError:
        """Why it failed; it must have, once."""
        (failed,) = self.of(ChannelFailed)
        error = failed.error
        assert isinstance(error, ChannelError)
        return error

    @property
    def reason(self) -> Reason:
        return self.error.reason


@dataclass
class Pair:
    client: End
    server: End

    def __iter__(self) -> Any:
        return iter((self.client, self.server))

    @property
    def c(self) -> ClientChannel:
        assert isinstance(self.client.channel, ClientChannel)
        return self.client.channel

    @property
    def s(self) -> ServerChannel:
        assert isinstance(self.server.channel, ServerChannel)
        return self.server.channel

    def ends(self, side: str) -> tuple[End, End]:
        """The named end and the other."""
        return (self.client, self.server) if side == "client" else (self.server, self.client)

    def flush(self, now: float = NOW) -> None:
        """Carry bytes both ways until none are left."""
        while True:
            forth, back = self.client.take(), self.server.take()
            if not forth and not back:
                return
            self.server.feed(forth, now)
            self.client.feed(back, now)


def new_pair(
    mode: Mode = Mode.SEALED,
    *,
    grant_: TicketGrant | None = None,
    acceptor_: Acceptor | None = None,
    label: str = "",
    **client_options: Any,
) -> Pair:
    """Two ends; the client has started, nothing was carried."""
    client = ClientChannel(grant_ or grant(), mode, chance(f"client{label}"), NOW, **client_options)
    server = ServerChannel(acceptor_ or acceptor(mode=mode), chance(f"server{label}"), NOW)
    client.start()
    return Pair(End(client), End(server))


def open_pair(mode: Mode = Mode.SEALED, **options: Any) -> Pair:
    """Two ends with a complete handshake."""
    pair = new_pair(mode, **options)
    pair.flush()
    assert pair.c.peer == SERVICE
    assert pair.s.peer == CLIENT
    return pair


def frame_bytes(kind: int, payload: bytes, flags: int = 0, *, magic: bytes = b"ANF3", version: int = 1) -> bytes:
    """A frame as the specification lays it out, by this file's own hand."""
    return struct.pack(">4sBBHI", magic, version, kind, flags, len(payload)) + payload


def cut(stream: bytes) -> list[bytes]:
    """The frames of a good stream, whole."""
    frames = []
    while stream:
        end = HEADER_BYTES + HEADER.unpack(stream[:HEADER_BYTES])[4]
        frames.append(stream[:end])
        stream = stream[end:]
    return frames


def sealed(end: End, kind: FrameType, plaintext: bytes = b"") -> bytes:
    """The next record of this end, made by its own sealer: what only it could send, legal or not."""
    sealer = end.channel._sealer
    assert sealer is not None
    return bytes(sealer.seal(kind, plaintext))


UNIFORM_ERROR = frame_bytes(5, b'{"code":2,"msg":"authentication failed","data":null}')


def in_pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


FEEDINGS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda data: [data],
    "byte by byte": lambda data: in_pieces(data, [1]),
    "by 7": lambda data: in_pieces(data, [7]),
}


def vector_client(one: dict[str, Any]) -> End:
    """The given case's client, with its chance: s_c, then RESPONSE's envelope."""
    mode = Mode.CLEAR if one["name"] == "clear" else Mode.SEALED
    holder = TicketGrant(
        one["client_id"], one["service_id"], one["ticket"], SecretBytes(bytes.fromhex(one["session_key"])), 0, 1_800_003_600
    )
    draws = scripted(struct.pack("<Q", int(one["s_c"])), _envelope_chance(one, 1))
    client = ClientChannel(holder, mode, draws, NOW)
    client.start()
    return End(client)


def vector_server(one: dict[str, Any]) -> End:
    """The given case's server, with its chance: s_n, CHALLENGE's envelope, CONFIRM's envelope."""
    mode = Mode.CLEAR if one["name"] == "clear" else Mode.SEALED
    key = SecretBytes(bytes.fromhex(one["service_key"]))
    listener = Acceptor(one["service_id"], lambda: (key,), "per-request", mode)
    draws = scripted(struct.pack("<Q", int(one["s_n"])), _envelope_chance(one, 0), _envelope_chance(one, 2))
    return End(ServerChannel(listener, draws, NOW))


def _envelope_chance(one: dict[str, Any], number: int) -> bytes:
    drawn = one["envelope_randomness"][number]
    return bytes.fromhex(drawn["r"] + drawn["iv"])


def handshake_frames(one: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(frame) for frame in one["handshake_frames"]]

"""Makes f3-v1-ours.json: what f3-v1.json does not show of F3. Run from the repository's root:

    python -m tests.vectors.make_f3_ours

Everything is fixed, so that the file comes out the same each time; a test holds it fresh.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.support import f3
from tests.support.f3 import End, Pair

from cubeauth import renewal
from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.entropy import scripted
from cubeauth.events import ChannelFailed, DataReceived, Event
from cubeauth.exchange import TicketGrant
from cubeauth.frames import FrameType
from cubeauth.phases import Mode
from cubeauth.schedule import ChannelKeys, channel_keys

FILE = Path(__file__).with_name("f3-v1-ours.json")
NOTE = (
    "F3 of docs/protocol-v1.md, made by this project's code (tests/vectors/make_f3_ours.py). Byte strings are hex. "
    "draws: what each end takes from its random source, in order: the server s_n (8 bytes, little-endian), then 24 bytes "
    "r || iv for CHALLENGE and for CONFIRM; the client s_c, then r || iv for RESPONSE. Each step is one frame (raw: "
    "bytes, in clear mode) as its receiver got it, in order; record: its number in its direction, the nonce; altered: "
    "what was changed on the way; reported: what its receiver reported, refused: with the receiver's own reason, which "
    "is never on the wire before the handshake is complete. now is 1800000010 unless a step says otherwise. Of a long "
    "frame length, SHA-256, the first 12 and the last 16 bytes are given; its plaintext is a part of the pattern whose "
    "byte i is i mod 251, beginning anew at the record of 1 MiB and at the record after it."
)
S_N, S_C = 0x1122334455667788, 0x99AABBCCDDEEFF00
SHORT = 1000
"""Bytes of a frame that is written out; a longer one is told by length and hash."""


def pattern(size: int) -> bytes:
    """The plaintext of long records: byte i is i mod 251."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Session:
    """Two real ends whose every frame is written down."""

    def __init__(self, name: str, mode: Mode = Mode.SEALED, grant: TicketGrant | None = None) -> None:
        self.grant = grant or f3.grant(label="vector ticket")
        self.draws = {
            "C": [struct.pack("<Q", S_C), f3.chance(f"{name} RESPONSE")(24)],
            "S": [struct.pack("<Q", S_N), f3.chance(f"{name} CHALLENGE")(24), f3.chance(f"{name} CONFIRM")(24)],
        }
        client = ClientChannel(self.grant, mode, scripted(*self.draws["C"]), f3.NOW)
        server = ServerChannel(f3.acceptor(mode=mode), scripted(*self.draws["S"]), f3.NOW)
        self.pair = Pair(End(client), End(server))
        self.name, self.mode = name, mode
        self.steps: list[dict[str, Any]] = []
        self.opened = {"C": 0, "S": 0}
        client.start()

    @property
    def keys(self) -> ChannelKeys | None:
        """Once the server has them."""
        transcript = self.pair.s._transcript
        return channel_keys(self.grant.session_key, S_N, S_C, transcript) if transcript else None

    def end(self, side: str) -> End:
        return self.pair.client if side == "C" else self.pair.server

    def carry(self, side: str, *, alter: Callable[[bytes], bytes] | None = None, how: str = "", now: float = f3.NOW) -> None:
        """Deliver what this side wrote, frame by frame; alter the last of them if asked."""
        buffers = [bytes(buffer) for buffer in self.end(side).channel.data_to_send()]
        for number, data in enumerate(buffers):
            last = number == len(buffers) - 1
            self.deliver(side, alter(data) if alter and last else data, how if last else "", now)

    def deliver(self, side: str, data: bytes, how: str = "", now: float = f3.NOW) -> None:
        target = self.end("S" if side == "C" else "C")
        raw = target.channel.phase.value == "raw"
        step: dict[str, Any] = {"from": side, **({} if now == f3.NOW else {"now": int(now)}), **({"altered": how} if how else {})}
        step |= {"raw": data.hex()} if raw else self._frame(side, data, bool(how))
        events = target.feed(data, now)
        step["reported"] = [_reported(event) for event in events]
        self.steps.append(step)

    def _frame(self, side: str, data: bytes, altered: bool) -> dict[str, Any]:
        step: dict[str, Any] = {"type": data[5]}
        step |= {"frame": data.hex()} if len(data) <= SHORT else _told(data)
        keys = self.keys
        if keys is None or data[5] < FrameType.ERROR or data[12:13] == b"{" or altered:
            return step
        key = keys.c2s if side == "C" else keys.s2c
        plaintext = AESGCM(key.reveal()).decrypt(self.opened[side].to_bytes(12, "big"), data[12:], data[:12])
        step |= {"record": self.opened[side]}
        self.opened[side] += 1
        return step | ({"plaintext": plaintext.hex()} if len(data) <= SHORT else {})

    def shake_hands(self) -> None:
        for _ in range(3):
            for side in "CS":
                self.carry(side)

    def written(self) -> dict[str, Any]:
        keys = self.keys
        members: dict[str, Any] = {
            "name": self.name,
            "mode": self.mode.value,
            "service_key": f3.SERVICE_KEY.reveal().hex(),
            "requirement": f3.REQUIREMENT,
            "client_id": self.grant.client_id,
            "service_id": self.grant.service_id,
            "session_key": self.grant.session_key.reveal().hex(),
            "ticket": self.grant.ticket,
            "exp": self.grant.exp,
            "draws": {side: [drawn.hex() for drawn in draws] for side, draws in self.draws.items()},
        }
        if keys is not None:
            members |= {"transcript_sha256": self.pair.s._transcript.hex()}
            members |= {"key_c2s": keys.c2s.reveal().hex(), "key_s2c": keys.s2c.reveal().hex()}
        return members | {"steps": self.steps}


def _told(data: bytes) -> dict[str, Any]:
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest(), "first": data[:12].hex(), "last": data[-16:].hex()}


def _reported(event: Event) -> str:
    if isinstance(event, ChannelFailed):
        return f"refused: {event.error.reason.value}"
    if isinstance(event, DataReceived):
        return f"DataReceived of {len(event.data)} bytes"
    return type(event).__name__


def _flip_last(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def data_and_close() -> Session:
    """Data both ways; the client closes with data behind it, the server goes on and then closes."""
    session = Session("data, half-close, close")
    session.shake_hands()
    session.pair.c.send(b"request")
    session.pair.c.close()
    session.carry("C")
    session.pair.s.send(b"answer after the client's CLOSE")
    session.pair.s.close()
    session.carry("S")
    return session


def bytes_after_close() -> Session:
    session = Session("a frame after CLOSE")
    session.shake_hands()
    session.pair.c.close()
    session.carry("C")
    session.deliver("C", f3.sealed(session.pair.client, FrameType.DATA, b"late"))
    session.carry("S")
    return session


def largest() -> Session:
    """A record of just 1 MiB, and what a sender of ours makes of a long write."""
    session = Session("the largest record; a long write")
    session.shake_hands()
    session.deliver("C", f3.sealed(session.pair.client, FrameType.DATA, pattern(1024 * 1024 - 16)))
    session.pair.c.send(pattern(600_000))
    session.carry("C")
    return session


def first_record_with_data() -> Session:
    """The first record need not be empty in sealed mode."""
    session = Session("data in the first record")
    for side in "CSCS":
        session.carry(side)
    assert session.pair.c._sealer is not None
    session.pair.c._sealer._counter.used = 0
    session.pair.client.take()
    session.deliver("C", f3.sealed(session.pair.client, FrameType.DATA, b"early"))
    return session


def refused_ticket(name: str, **changes: Any) -> Session:
    session = Session(name, grant=f3.grant(f3.ticket_of(**changes), label=name))
    session.carry("C")
    session.carry("S")
    return session


def refused_response() -> Session:
    session = Session("RESPONSE flipped: an unsealed ERROR")
    session.carry("C")
    session.carry("S")
    session.carry("C", alter=lambda data: data[:50] + (b"A" if data[50:51] != b"A" else b"B") + data[51:], how="byte 50")
    session.carry("S")
    return session


def refused_confirm() -> Session:
    session = Session("CONFIRM cut short: the client's ERROR is unsealed, the server takes it")
    session.carry("C")
    session.carry("S")
    session.carry("C")
    confirm = f3.cut(session.pair.server.take())[0]
    session.deliver("S", f3.frame_bytes(4, confirm[12:-4]), "CONFIRM without its last 4 characters")
    session.carry("C")
    return session


def refused_first_record() -> Session:
    session = Session("the client's first record flipped: a sealed ERROR")
    for side in "CSCS":
        session.carry(side)
    session.carry("C", alter=_flip_last, how="the lowest bit of the last byte")
    session.carry("S")
    return session


def _fresh(exp: int) -> TicketGrant:
    return f3.grant(f3.ticket_of(exp=exp), label="vector renewal")


def renewed() -> Session:
    session = Session("RENEW accepted")
    session.shake_hands()
    session.pair.c.renew(_fresh(int(f3.NOW) + 7200))
    session.carry("C")
    return session


def refused_renewal(name: str, exp: int, transcript: bytes | None = None) -> Session:
    session = Session(name)
    session.shake_hands()
    payload = renewal.request(_fresh(exp), transcript or session.pair.c._transcript)
    session.deliver("C", f3.sealed(session.pair.client, FrameType.RENEW, payload))
    session.carry("S")
    return session


def expired_channel() -> Session:
    session = Session("the ticket ends on an open channel")
    session.shake_hands()
    session.pair.s.tick(session.grant.exp)
    session.carry("S", now=session.grant.exp - 1)
    return session


def clear() -> Session:
    session = Session("clear, with data", Mode.CLEAR)
    session.shake_hands()
    for side, data in (("C", b"ANF3 is just bytes here"), ("S", b"\x00\xff")):
        session.end(side).channel.send(data)
        session.carry(side)
    return session


def build() -> dict[str, Any]:
    """What the file holds."""
    now = int(f3.NOW)
    sessions = [
        data_and_close(),
        bytes_after_close(),
        largest(),
        first_record_with_data(),
        refused_ticket("expired ticket: an unsealed ERROR, as for every refusal", exp=now),
        refused_ticket("missing capability: the same ERROR", caps='{"API":["data:write:access"]}'),
        refused_response(),
        refused_confirm(),
        refused_first_record(),
        renewed(),
        refused_renewal("RENEW with the proof of another channel", now + 7200, bytes(32)),
        refused_renewal("RENEW with a ticket that ended", now - 1),
        refused_renewal("RENEW with a ticket that ends no later", now + 3600),
        expired_channel(),
        clear(),
    ]
    return {"note": NOTE, "now": now, "sessions": [session.written() for session in sessions]}


def text() -> str:
    return json.dumps(build(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

"""f3-v1.json, made by a second implementation: every frame byte for byte from both ends, and every frame to be refused."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import End

from cubeauth import ticket
from cubeauth.channel import ClientChannel, ServerChannel
from cubeauth.errors import HandshakeRefused, Reason
from cubeauth.events import DataReceived, HandshakeCompleted, PeerClosed, Renewed
from cubeauth.frames import FrameType
from cubeauth.phases import Phase
from cubeauth.schedule import channel_keys, renewal_proof, transcript_hash
from cubeauth.secret import SecretBytes

CASES = [one["name"] for one in f3.given()["cases"]]
REFUSED = f3.given()["refused"]


def test_the_file_is_the_one_these_tests_were_written_for() -> None:
    assert CASES == ["sealed", "sealed, counters wrap", "clear"]
    assert len(REFUSED) == 16


def _handshake(one: dict[str, Any]) -> tuple[End, End]:
    """Both ends up to complete, each fed with the vector's frames, each answer compared."""
    client, server = f3.vector_client(one), f3.vector_server(one)
    ticket_, challenge, response, confirm = f3.handshake_frames(one)
    from_client, from_server = (_after(one, side)[0] for side in "CS")
    assert client.take() == ticket_
    server.feed(ticket_)
    assert server.take() == challenge
    client.feed(challenge)
    assert client.take() == response
    server.feed(response)
    assert server.take() == confirm + from_server
    client.feed(confirm)
    assert client.take() == from_client
    assert not [*client.events, *server.events], "nothing is reported before a record opened"
    client.feed(from_server)
    server.feed(from_client)
    return client, server


def _after(one: dict[str, Any], side: str) -> list[bytes]:
    return [bytes.fromhex(frame["frame"]) for frame in one["frames_after"] if frame["from"] == side]


@pytest.mark.parametrize("name", CASES)
def test_both_ends_make_and_take_the_handshake_of_the_vector(name: str) -> None:
    one = f3.case(name)
    client, server = _handshake(one)
    assert client.of(HandshakeCompleted)[0].peer == one["service_id"]
    assert server.of(HandshakeCompleted)[0].peer == one["client_id"]
    assert transcript_hash(f3.handshake_frames(one)).hex() == one["transcript_sha256"]


@pytest.mark.parametrize("name", CASES[:2])
def test_the_frames_after_the_handshake_are_made_as_in_the_vector(name: str) -> None:
    one = f3.case(name)
    client, server = _handshake(one)
    ends = {"C": client, "S": server}
    for frame in one["frames_after"][2:]:
        _make(ends[frame["from"]], FrameType(frame["type"]), bytes.fromhex(frame["plaintext"]), one)
        assert ends[frame["from"]].take().hex() == frame["frame"]


def _make(end: End, kind: FrameType, plaintext: bytes, one: dict[str, Any]) -> None:
    if kind is FrameType.DATA:
        end.channel.send(plaintext)
    elif kind is FrameType.CLOSE:
        end.channel.close()
    else:
        assert isinstance(end.channel, ClientChannel)
        key = SecretBytes(bytes.fromhex(one["renew_session_key"]))
        fresh = dataclasses.replace(end.channel._grant, ticket=one["renew_ticket"], session_key=key, exp=1_800_007_200)
        end.channel.renew(fresh)


@pytest.mark.parametrize("feeding", f3.FEEDINGS)
@pytest.mark.parametrize("name", CASES[:2])
def test_the_frames_after_the_handshake_are_taken_in_any_cut(name: str, feeding: str) -> None:
    one = f3.case(name)
    client, server = _handshake(one)
    for end, side in ((server, "C"), (client, "S")):
        for piece in f3.FEEDINGS[feeding](b"".join(_after(one, side)[1:])):
            end.feed(piece)
        sent = [bytes.fromhex(f["plaintext"]) for f in one["frames_after"] if f["from"] == side and f["type"] == FrameType.DATA]
        assert [e.data for e in end.of(DataReceived)] == [data for data in sent if data]
        assert isinstance(end.events[-1], PeerClosed)
    (renewed,) = server.of(Renewed)
    fresh = ticket.open_(bytes.fromhex(one["service_key"]), one["renew_ticket"])
    assert (renewed.exp, renewed.jti) == (fresh.exp, fresh.jti)


@pytest.mark.parametrize("name", CASES[:2])
def test_the_renewal_proof_is_the_vectors(name: str) -> None:
    one = f3.case(name)
    key = SecretBytes(bytes.fromhex(one["renew_session_key"]))
    proof = renewal_proof(key, bytes.fromhex(one["transcript_sha256"]), one["renew_ticket"])
    assert base64.b64encode(proof).decode("ascii") == one["renew_proof"]


def test_after_a_clear_handshake_bytes_are_raw() -> None:
    client, server = _handshake(f3.case("clear"))
    client.channel.send(b"GET")
    assert client.take() == b"GET"
    server.feed(b"GET")
    assert server.received == b"GET"


@pytest.mark.parametrize("name", CASES)
def test_the_keys_are_the_vectors(name: str) -> None:
    one = f3.case(name)
    session_key = SecretBytes(bytes.fromhex(one["session_key"]))
    transcript = hashlib.sha256(b"".join(f3.handshake_frames(one))).digest()
    keys = channel_keys(session_key, int(one["s_n"]), int(one["s_c"]), transcript)
    assert (keys.c2s.reveal().hex(), keys.s2c.reveal().hex()) == (one["key_c2s"], one["key_s2c"])


WHY = {
    "S sealed: bit 0 cleared in TICKET": Reason.MODE_DIFFERS,
    "S: bit 1 set in TICKET": Reason.MALFORMED,
    "S: version 2": Reason.MALFORMED,
    "S: wrong magic": Reason.NO_TICKET,
    "S: announced 65537 bytes": Reason.TOO_LARGE,
    "C: CHALLENGE of 16 bytes": Reason.BAD_CHALLENGE,
    "C: CHALLENGE without bit 0": Reason.MODE_DIFFERS,
    "S: RESPONSE with s_n + 2": Reason.BAD_CHALLENGE,
    "S: RESPONSE with s_c + 1 == s_n": Reason.BAD_CHALLENGE,
    "C: CHALLENGE sent back as CONFIRM": Reason.BAD_CHALLENGE,
    "S: first sealed frame with one bit flipped": Reason.BAD_RECORD,
    "S: server's own first sealed frame reflected": Reason.BAD_RECORD,
    "S: first sealed frame with a flag": Reason.MALFORMED,
    "S: record out of order (third first)": Reason.BAD_RECORD,
    "S: RENEW before the handshake is complete": Reason.OUT_OF_PLACE,
    "S: base64 with surplus padding in the ticket envelope": Reason.BAD_ENVELOPE,
}
"""Every refused frame's reason, as our log tells it; the wire says one thing to all."""


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: str(refused["name"]))
@pytest.mark.parametrize("feeding", f3.FEEDINGS)
def test_a_refused_frame_is_refused_for_its_own_reason_and_told_the_one_text(refused: dict[str, str], feeding: str) -> None:
    end = _brought_to(refused["given_to"])
    sealing = end.channel._sealer is not None
    for piece in f3.FEEDINGS[feeding](bytes.fromhex(refused["frame"])):
        end.feed(piece)
    assert isinstance(end.error, HandshakeRefused)
    assert end.reason is WHY[refused["name"]]
    assert not end.of(HandshakeCompleted)
    assert end.channel.phase is Phase.FAILED
    told = end.take()
    assert (told == f3.UNIFORM_ERROR) is not sealing
    assert len(told) == len(f3.UNIFORM_ERROR) + (16 if sealing else 0), "sealed once the keys are there, the same text"


def _brought_to(given_to: str) -> End:
    one = f3.case("sealed")
    ticket_, challenge, response, _ = f3.handshake_frames(one)
    client, server = f3.vector_client(one), f3.vector_server(one)
    path = {
        "S": (server, []),
        "C": (client, []),
        "S after CHALLENGE": (server, [ticket_]),
        "C after RESPONSE": (client, [challenge]),
        "S after CONFIRM": (server, [ticket_, response]),
    }
    end, before = path[given_to]
    for frame in before:
        end.feed(frame)
    end.take()
    assert isinstance(end.channel, ServerChannel) == given_to.startswith("S")
    return end

"""Mutated vectors: out of every parser of F3 come values or declared errors, never anything else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from tests.support import f3
from tests.support.f3 import End

from cubeauth import admission, handshake, refusal, renewal
from cubeauth.errors import ChannelError, PeerError, Reason
from cubeauth.events import ChannelFailed
from cubeauth.frames import MAX_RECORD_PAYLOAD, FrameReader, parse_header

SEALED, CLEAR = f3.case("sealed"), f3.case("clear")
FRAMES = [
    *(frame for one in f3.given()["cases"] for frame in f3.handshake_frames(one)),
    *(bytes.fromhex(frame["frame"]) for one in f3.given()["cases"] for frame in one["frames_after"]),
    *(bytes.fromhex(refused["frame"]) for refused in f3.given()["refused"]),
    f3.UNIFORM_ERROR,
]
PAYLOADS = [
    *(frame[12:] for frame in FRAMES if len(frame) < 2000),
    *(bytes.fromhex(f["plaintext"]) for f in SEALED["frames_after"] if f["type"] == 7),
    b'{"code":2,"msg":"authentication failed","data":null}',
    b'{"code":1e9,"msg":"\\ud800","data":null}',
]


@st.composite
def mutated(draw: st.DrawFn, sources: list[bytes]) -> bytes:
    """A vector with some bytes replaced, removed or put in."""
    data = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["set", "flip", "delete", "insert", "repeat"])):
            case "set" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "delete":
                del data[at : at + draw(st.integers(1, 30))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=20))
            case "repeat":
                data[at:at] = data[at : at + 40]
    return bytes(data)


def _parsers() -> list[Callable[[bytes], object]]:
    listener = f3.acceptor()
    holder = admission.admit(listener, f3.grant().ticket, client_id=f3.CLIENT, now=f3.NOW)
    return [
        handshake.parse_ticket,
        refusal.parse,
        lambda data: refusal.is_payload(memoryview(data)),
        lambda data: renewal.accept(listener, data, holder, exp=0, transcript=bytes(32), now=f3.NOW),
        lambda data: admission.admit(listener, data.decode("latin-1"), client_id=f3.CLIENT, now=f3.NOW),
        lambda data: parse_header(data[:12].ljust(12, b"\0"), MAX_RECORD_PAYLOAD),
    ]


PARSERS = _parsers()


@given(st.sampled_from(range(len(PARSERS))), st.one_of(mutated(PAYLOADS), mutated(FRAMES)))
def test_a_parser_gives_a_value_or_a_declared_error(which: int, data: bytes) -> None:
    with contextlib.suppress(PeerError):
        PARSERS[which](data)


@given(st.lists(mutated(FRAMES), max_size=4), st.integers(1, 600))
def test_the_reader_gives_frames_or_a_declared_error_and_the_same_in_any_cut(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    assert _read([stream]) == _read(f3.in_pieces(stream, [size]))


def _read(pieces: list[bytes]) -> tuple[list[tuple[int, int, bytes]], bool]:
    """The frames, and whether the stream was refused then."""
    reader, found = FrameReader(), []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (frame := reader.next()) is not None:
                found.append((int(frame.type), frame.flags, bytes(frame.payload)))
        except PeerError:
            return found, True
    return found, False


def _ends() -> list[Callable[[], End]]:
    """Every end of the vectors, at every point of its handshake and after it."""

    def at(make: Callable[[], End], before: list[bytes]) -> Callable[[], End]:
        def end() -> End:
            made = make()
            for frame in before:
                made.feed(frame)
            return made

        return end

    found = []
    for one in (SEALED, CLEAR):
        ticket, challenge, response, confirm = f3.handshake_frames(one)
        first = {side: next(bytes.fromhex(f["frame"]) for f in one["frames_after"] if f["from"] == side) for side in "CS"}
        to_server, to_client = [ticket, response, first["C"]], [challenge, confirm, first["S"]]
        found += [at(partial(f3.vector_server, one), to_server[:n]) for n in range(4)]
        found += [at(partial(f3.vector_client, one), to_client[:n]) for n in range(4)]
    return found


ENDS = _ends()


PARTS = st.lists(st.one_of(mutated(FRAMES), st.sampled_from(FRAMES)), max_size=4)


@given(st.sampled_from(range(len(ENDS))), PARTS, st.integers(1, 2000))
def test_an_end_reports_declared_errors_alone_and_the_same_in_any_cut(which: int, parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    whole, cut = ENDS[which](), ENDS[which]()
    whole.feed(stream)
    for piece in f3.in_pieces(stream, [size]):
        cut.feed(piece)
    for end in (whole, cut):
        end.eof()
        assert all(isinstance(failure.error, ChannelError) for failure in end.of(ChannelFailed))
    assert whole.received == cut.received
    assert _reasons(whole) == _reasons(cut)
    assert whole.channel.phase is cut.channel.phase
    assert whole.take() == cut.take()


def _reasons(end: End) -> list[Reason]:
    return [failure.error.reason for failure in end.of(ChannelFailed)]

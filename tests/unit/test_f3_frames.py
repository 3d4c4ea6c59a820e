"""The cutting of a stream into frames, and the sealing of records."""

from __future__ import annotations

import os
import sys

import pytest
from tests.support import f3

from cubeauth import frames, records
from cubeauth.errors import MalformedMessage, Reason, RecordRefused
from cubeauth.frames import FrameReader, FrameType
from cubeauth.records import Opener, Sealer
from cubeauth.secret import SecretBytes

KEY = SecretBytes(f3.seed("record key"))


def _all(reader: FrameReader) -> list[tuple[FrameType, int, bytes]]:
    found = []
    while (frame := reader.next()) is not None:
        found.append((frame.type, frame.flags, bytes(frame.payload)))
    return found


@pytest.mark.parametrize("feeding", f3.FEEDINGS)
def test_a_stream_is_cut_the_same_however_it_arrives(feeding: str) -> None:
    sent = [(FrameType.TICKET, 1, b"abc"), (FrameType.CONFIRM, 0, b""), (FrameType.DATA, 0, bytes(300))]
    stream = b"".join(f3.frame_bytes(kind, payload, flags) for kind, flags, payload in sent)
    reader = FrameReader()
    found = []
    for piece in f3.FEEDINGS[feeding](stream + b"ANF3\x01"):
        reader.feed(piece)
        found += _all(reader)
    assert found == sent
    assert reader.take_rest() == b"ANF3\x01", "the tail is kept"
    assert len(reader) == 0


def test_encode_lays_a_frame_out_as_specified() -> None:
    assert frames.encode(FrameType.TICKET, b"xy", 1) == f3.frame_bytes(1, b"xy", 1)
    assert frames.encode(FrameType.CLOSE, b"") == bytes.fromhex("414e46330108000000000000")


@pytest.mark.parametrize("kind", FrameType)
@pytest.mark.parametrize("bit", range(16))
def test_only_ticket_and_challenge_have_a_flag_and_only_bit_0(kind: FrameType, bit: int) -> None:
    reader = FrameReader()
    reader.feed(f3.frame_bytes(kind, b"", 1 << bit))
    if bit == 0 and kind in (FrameType.TICKET, FrameType.CHALLENGE):
        assert reader.next() is not None
    else:
        with pytest.raises(MalformedMessage, match="flags"):
            reader.next()


@pytest.mark.parametrize("kind", [0, 9, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    reader = FrameReader()
    reader.feed(f3.frame_bytes(kind, b""))
    with pytest.raises(MalformedMessage, match="type"):
        reader.next()


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused(version: int) -> None:
    reader = FrameReader()
    reader.feed(f3.frame_bytes(1, b"", version=version))
    with pytest.raises(MalformedMessage, match="version"):
        reader.next()


@pytest.mark.parametrize("limit", [frames.MAX_HANDSHAKE_PAYLOAD, frames.MAX_RECORD_PAYLOAD])
def test_a_length_above_the_limit_is_refused_at_the_header_and_the_limit_itself_is_taken(limit: int) -> None:
    reader = FrameReader()
    reader.limit = limit
    reader.feed(frames.header(FrameType.DATA, limit + 1))
    with pytest.raises(MalformedMessage) as refused:
        reader.next()
    assert refused.value.reason is Reason.TOO_LARGE
    reader = FrameReader()
    reader.limit = limit
    reader.feed(f3.frame_bytes(FrameType.DATA, bytes(limit)))
    frame = reader.next()
    assert frame is not None
    assert len(frame.payload) == limit


def test_the_limits_are_those_of_the_specification() -> None:
    assert FrameReader().limit == 64 * 1024
    assert frames.MAX_RECORD_PAYLOAD == 1024 * 1024


def test_an_announced_length_reserves_no_memory() -> None:
    reader = FrameReader()
    reader.limit = frames.MAX_RECORD_PAYLOAD
    reader.feed(frames.header(FrameType.DATA, frames.MAX_RECORD_PAYLOAD))
    assert reader.next() is None
    assert sys.getsizeof(reader._buffer) < 1024


@pytest.mark.parametrize("data", [b"G", b"AN2\x01", b"\x16\x03\x01", b"ANF4"])
def test_what_cannot_begin_a_frame_is_refused_at_the_first_byte_that_shows_it(data: bytes) -> None:
    reader = FrameReader()
    for number, byte in enumerate(data):
        assert reader.is_foreign() == (data[:number] != b"ANF3"[:number])
        reader.feed(bytes([byte]))
    assert reader.is_foreign()
    with pytest.raises(MalformedMessage):
        reader.next()


def test_a_reader_does_not_keep_what_was_cut() -> None:
    reader = FrameReader()
    for _ in range(64):
        reader.feed(f3.frame_bytes(FrameType.TICKET, os.urandom(60_000)) + b"ANF3")
        assert len(_all(reader)) == 1
        assert len(reader) == 4
        reader = _continued(reader)
    assert sys.getsizeof(reader._buffer) < 1024


def _continued(reader: FrameReader) -> FrameReader:
    """Complete the begun frame, so that the next turn starts at a boundary."""
    reader.feed(f3.frame_bytes(FrameType.CLOSE, b"")[4:])
    assert len(_all(reader)) == 1
    reader.feed(b"")
    return reader


def _frame(data: bytes | bytearray) -> frames.Frame:
    reader = FrameReader()
    reader.limit = frames.MAX_RECORD_PAYLOAD
    reader.feed(data)
    frame = reader.next()
    assert frame is not None
    return frame


@pytest.mark.parametrize("size", [0, 1, 255, 65536, frames.MAX_RECORD_PAYLOAD - records.TAG_BYTES])
def test_records_open_in_order(size: int) -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    for fill in (b"a", b"b", b"c"):
        assert opener.open_(_frame(sealer.seal(FrameType.DATA, fill * size))) == fill * size


def test_every_bit_of_a_record_counts_its_header_too() -> None:
    good = bytes(Sealer(KEY).seal(FrameType.DATA, b"payload"))
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        view = memoryview(bytes(bad))
        with pytest.raises(RecordRefused):
            Opener(KEY).open_(frames.Frame(FrameType.DATA, 0, bytes(view[:12]), view[12:]))


def test_a_record_opens_once_in_its_place_and_under_its_own_key() -> None:
    sealer = Sealer(KEY)
    first, second = bytes(sealer.seal(FrameType.DATA, b"1")), bytes(sealer.seal(FrameType.DATA, b"2"))
    opener = Opener(KEY)
    opener.open_(_frame(first))
    for wrong in (first, bytes(Sealer(SecretBytes(f3.seed("another"))).seal(FrameType.DATA, b"2"))):
        with pytest.raises(RecordRefused):
            opener.open_(_frame(wrong))
    with pytest.raises(RecordRefused):
        Opener(KEY).open_(_frame(second))


@pytest.mark.parametrize("length", range(16))
def test_a_record_shorter_than_its_tag_is_refused(length: int) -> None:
    with pytest.raises(RecordRefused, match="shorter"):
        Opener(KEY).open_(_frame(f3.frame_bytes(FrameType.DATA, bytes(length))))


def test_two_to_the_32_records_and_no_more() -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)
    sealer._counter.used = opener._counter.used = (1 << 32) - 1
    last = sealer.seal(FrameType.DATA, b"last")
    assert opener.open_(_frame(last)) == b"last"
    assert sealer.spent
    with pytest.raises(RecordRefused) as ours:
        sealer.seal(FrameType.DATA, b"one more")
    with pytest.raises(RecordRefused) as theirs:
        opener.open_(_frame(last))
    assert ours.value.reason is theirs.value.reason is Reason.RECORD_LIMIT

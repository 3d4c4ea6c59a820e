"""The ticket port's HTTP: answers in their order, slow readers, time, how many, the end."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.http_fakes import LIMITS, Asked, FakeTransport, Wire, get, post, responses
from tests.support.mutations import spoiled_bytes

from cubeauth.messages import TICKET_PATH
from cubeauth_authnode.http import MAX_PIPELINED, SWEEP_SECONDS, busy_reply
from cubeauth_authnode.shared import Counter

ADMIN = "/admin/createkey"
TICKET = post(TICKET_PATH, b"Token=first")
SECOND = post(TICKET_PATH, b"Token=second")


def form_answer(form: bytes) -> bytes:
    return b'{"form":"%b"}' % form


# Answers.


def test_a_deferred_answer_holds_the_next_request_back() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=1") + TICKET + post(ADMIN, b"Token=2"))
    assert [asked.form for asked in wire.front.asked] == [b"Token=1"]
    wire.front.asked[0].answer(b'{"n":1}', None)
    assert wire.bodies == [b'{"n":1}', form_answer(b"Token=first")]
    wire.front.asked[2].answer(b'{"n":2}', None)
    assert wire.bodies[2] == b'{"n":2}'
    assert wire.all.held == 0


def test_a_refusal_keeps_its_place() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=1") + TICKET + b"nonsense\r\n\r\n" + SECOND)
    assert wire.transport.written == b""
    assert not wire.reads()
    wire.front.asked[0].answer(b'{"n":1}', None)
    assert wire.statuses == [200, 200, 400]
    assert [("Connection" in response.headers) for response in wire.responses] == [False, False, True]
    assert wire.transport.closed
    assert [asked.form for asked in wire.front.asked] == [b"Token=1", b"Token=first"]


def test_connection_close_and_http_1_0_end_with_the_answer() -> None:
    for stream in (post(TICKET_PATH, b"Token=a", "Connection: close"), post(TICKET_PATH, b"Token=a", version="1.0")):
        wire = Wire()
        wire.feed(stream + TICKET)
        (response,) = wire.responses
        assert response.headers["Connection"] == "close"
        assert wire.transport.closed
        assert len(wire.front.asked) == 1


@pytest.mark.parametrize("size", [0, 1])
def test_an_upgrade_is_refused_in_its_place(size: int) -> None:
    asked_for = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    for stream in (get(f"{TICKET_PATH}?Token=a", *asked_for), post(TICKET_PATH, b"Token=a", *asked_for)):
        wire = Wire()
        wire.feed(TICKET + stream + TICKET, size=size)
        assert wire.statuses == [200, 501]
        assert wire.transport.closed
        assert len(wire.front.asked) == 1


def test_a_half_closed_peer_still_gets_its_answers() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=1") + TICKET)
    assert wire.connection.eof_received() is True
    wire.front.asked[0].answer(b'{"n":1}', None)
    assert wire.statuses == [200, 200]
    assert wire.transport.closed


def test_a_peer_that_ends_without_a_request_is_closed() -> None:
    for stream in (b"", TICKET, TICKET[:20]):
        wire = Wire()
        wire.feed(stream)
        assert wire.connection.eof_received() is False
        assert wire.transport.closed


def test_tls_is_not_kept_open_on_one_side() -> None:
    wire = Wire(tls=True)
    wire.feed(post(ADMIN, b"Token=1"))
    assert wire.connection.eof_received() is False


def test_an_answer_to_a_peer_that_is_gone_goes_nowhere() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=1") + TICKET)
    wire.lose()
    wire.front.asked[0].answer(b'{"n":1}', None)
    assert wire.transport.written == b""
    assert len(wire.front.asked) == 1
    assert (wire.all.held, wire.count(Counter.CONNECTIONS_OPEN)) == (0, 0)


def test_an_error_of_ours_is_a_500_and_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    def fail(_asked: object) -> None:
        raise OSError("No space left on device: secret")

    wire.front.act = fail
    with caplog.at_level(logging.ERROR):
        wire.feed(TICKET + SECOND)
    assert wire.statuses == [500]
    assert wire.transport.closed
    assert "secret" not in caplog.text
    (record,) = caplog.records
    assert record.__dict__["error"] == "OSError"
    assert Path(__file__).name in record.__dict__["where"]
    assert wire.count(Counter.REQUESTS_MALFORMED) == 0


# Back-pressure.


def test_who_does_not_read_is_not_served_and_then_not_read() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    for number in range(MAX_PIPELINED - 1):
        wire.feed(post(TICKET_PATH, b"Token=%d" % number))
    assert wire.reads()
    wire.feed(post(TICKET_PATH, b"Token=last"))
    assert not wire.reads()
    assert wire.front.asked == []
    wire.connection.resume_writing()
    assert [asked.form for asked in wire.front.asked] == [*(b"Token=%d" % n for n in range(MAX_PIPELINED - 1)), b"Token=last"]
    assert wire.reads()
    assert wire.all.held == 0


def test_reading_goes_on_when_the_last_that_waited_was_deferred() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=0") + TICKET * (MAX_PIPELINED - 1) + post(ADMIN, b"Token=1"))
    assert not wire.reads()
    wire.front.asked[0].answer(b"{}", None)
    assert not wire.reads()
    wire.front.asked[-1].answer(b"{}", None)
    assert wire.reads()
    wire.feed(TICKET)
    assert len(wire.responses) == MAX_PIPELINED + 2


def test_choking_in_the_middle_of_what_waited_stops_there() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=0") + TICKET * 4)

    def answer_and_choke(asked: Asked) -> None:
        asked.answer(b"{}", None)
        wire.connection.pause_writing()

    wire.front.act = answer_and_choke
    wire.front.asked[0].answer(b"{}", None)
    assert len(wire.responses) == 2
    wire.connection.resume_writing()
    assert len(wire.responses) == 3


# Time.


def test_silence_ends_after_the_idle_time() -> None:
    wire = Wire()
    wire.feed(TICKET)
    wire.pass_time(60)
    assert not wire.is_cut_off()
    wire.pass_time(SWEEP_SECONDS)
    assert wire.is_cut_off()
    assert wire.count(Counter.TIMEOUTS) == 0


def test_empty_lines_are_silence_too() -> None:
    wire = Wire()
    for _ in range(61):
        assert not wire.is_cut_off()
        wire.feed(b"\r\n")
        wire.pass_time(1)
    assert wire.is_cut_off()


@pytest.mark.parametrize("part", [1, 30, len(TICKET) - 1])
def test_a_slow_request_ends_after_the_request_time_however_it_trickles(part: int) -> None:
    wire = Wire()
    wire.feed(TICKET[:part])
    for _ in range(10):
        wire.pass_time(1)
        part += 1
        wire.feed(TICKET[part - 1 : part] if part < len(TICKET) else b"")
    assert not wire.is_cut_off()
    wire.pass_time(1)
    assert wire.is_cut_off()
    assert wire.count(Counter.TIMEOUTS) == 1


def test_a_slow_reader_ends_after_the_request_time_whatever_it_sends() -> None:
    wire = Wire()
    wire.feed(TICKET)
    wire.connection.pause_writing()
    for _ in range(11):
        assert not wire.is_cut_off()
        wire.feed(b"\r\n")
        wire.pass_time(1)
    assert wire.is_cut_off()


def test_who_does_not_take_its_last_answer_ends_too() -> None:
    wire = Wire()
    wire.feed(post(TICKET_PATH, b"Token=a", "Connection: close"))
    wire.pass_time(10 + SWEEP_SECONDS)
    assert wire.is_cut_off()


def test_an_answer_that_is_being_made_is_waited_for() -> None:
    wire = Wire()
    wire.feed(post(ADMIN, b"Token=a"))
    wire.pass_time(200)
    assert not wire.transport.is_closing()
    wire.front.asked[0].answer(b"{}", None)
    wire.pass_time(59)
    assert not wire.transport.is_closing()


# How many.


def test_one_address_has_a_part_of_the_connections_and_a_proxy_all() -> None:
    wire = Wire(replace(LIMITS, connections=10, per_peer=2), trusted=(ip_network("198.51.100.0/24"),))
    assert wire.all.admit("192.0.2.1") is not None  # the wire's own is of this address too
    assert wire.all.admit("192.0.2.1") is None
    other = wire.all.admit("192.0.2.2")
    assert other is not None
    assert all(wire.all.admit("198.51.100.9") is not None for _ in range(7))
    wire.all.gone(other)
    wire.all.gone(other)
    assert wire.all.admit("192.0.2.2") is not None


def test_connections_over_the_limit_are_refused_until_one_goes() -> None:
    wire = Wire()
    others = [wire.connect(FakeTransport()) for _ in range(LIMITS.connections - 1)]
    assert wire.all.admit("192.0.2.1") is None
    assert (wire.count(Counter.CONNECTIONS_REFUSED), wire.count(Counter.CONNECTIONS_OPEN)) == (1, 3)
    others[0].connection_lost(None)
    wire.all.gone(others[0])
    assert wire.count(Counter.CONNECTIONS_OPEN) == 2, "gone twice counts once"
    assert wire.all.admit("192.0.2.1") is not None
    assert wire.all.admit("192.0.2.1") is None
    assert wire.count(Counter.CONNECTIONS_ACCEPTED) == 4
    (busy,) = responses(busy_reply())
    assert (busy.status, busy.headers["Connection"]) == (503, "close")


def test_a_connection_in_its_tls_handshake_is_nobody_s_to_close() -> None:
    wire = Wire(dataclasses.replace(LIMITS, idle_seconds=1))
    waiting = wire.all.admit("192.0.2.1")
    assert waiting is not None
    wire.pass_time(100)
    waiting.connection_made(transport := FakeTransport())
    waiting.data_received(TICKET)
    assert [response.status for response in responses(bytes(transport.written))] == [200]


# The end.


def test_stopping_closes_what_is_idle_and_finishes_the_rest() -> None:
    wire = Wire()
    reading, answering = FakeTransport(), FakeTransport()
    wire.connect(reading).data_received(TICKET[:40])
    half = next(c for c in wire.all._open if c._transport is reading)
    wire.connect(answering).data_received(post(ADMIN, b"Token=a"))
    wire.all.stop()
    assert (wire.transport.closed, reading.closed, answering.closed) == (True, False, False)
    half.data_received(TICKET[40:])
    wire.front.asked[0].answer(b"{}", None)
    for transport in (reading, answering):
        (response,) = responses(bytes(transport.written))
        assert (response.status, response.headers["Connection"]) == (200, "close")
        assert transport.closed
    assert wire.all.admit("192.0.2.1") is None
    assert not wire.all.empty.is_set()
    for connection in list(wire.all._open):
        connection.connection_lost(None)
    assert wire.all.empty.is_set()


# Anything.

_SEEDS = (
    TICKET + SECOND,
    post(ADMIN, b"Token=1") + TICKET + post(ADMIN, b"Token=2"),
    get(f"{TICKET_PATH}?Token=a", "X-Forwarded-For: 1.2.3.4", "X-Real-Ip: 1.2.3.4") + get("/nosuch", method="HEAD"),
    b"POST /client/getticket HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nTok\r\n4;x=y\r\nen=a\r\n0\r\nX-A: b\r\n\r\n",
    get("http://h/client/getticket?Token=a", "Connection: Upgrade", "Upgrade: h2c") + TICKET,
)


@given(spoiled_bytes(_SEEDS) | st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=30), st.booleans())
def test_no_bytes_whatever_do_anything_but_get_answers_or_be_refused(data: bytes, cuts: list[int], late: bool) -> None:
    wire = Wire()
    rest = data
    for cut in [*cuts, len(data)]:
        if rest and not wire.transport.is_closing():
            wire.connection.data_received(rest[:cut])
        rest = rest[cut:]
        for asked in [] if late else wire.front.asked:
            asked.answer(b"{}", None) if asked.path else None
    for asked in wire.front.asked:
        if asked.path and late:
            asked.answer(b"{}", None)
    assert all(status in (200, 400, 404, 405, 413, 501) for status in wire.statuses)
    assert not any(status in (400, 501) for status in wire.statuses[:-1]), "nothing follows a refusal"
    wire.lose()
    assert (wire.all.held, wire.count(Counter.CONNECTIONS_OPEN)) == (0, 0)

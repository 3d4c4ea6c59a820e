"""HttpConnection: bytes in, requests to the front, answers in order, bounds; no socket, an injected clock."""

from __future__ import annotations

import pytest
from tests.support.http_fakes import LIMITS, FakeTransport, Wire, get, post, responses

from cubeauth import messages
from cubeauth.messages import TICKET_PATH
from cubeauth_authnode import connections
from cubeauth_authnode.http import NO_ANSWER, PIECE
from cubeauth_authnode.shared import Counter

ADMIN = "/admin/createkey"
TICKET = post(TICKET_PATH, b"Token=first")
SECOND = post(TICKET_PATH, b"Token=second")
JSON = {"Content-Type": "application/json"}


def form_answer(form: bytes) -> bytes:
    return b'{"form":"%b"}' % form


# Requests in.


def test_a_ticket_request_is_answered() -> None:
    wire = Wire()
    wire.feed(TICKET)
    (asked,) = wire.front.asked
    assert (asked.form, asked.peer) == (b"Token=first", "192.0.2.7")
    (response,) = wire.responses
    assert (response.status, response.body) == (200, form_answer(b"Token=first"))
    assert response.headers.items() >= JSON.items()
    assert "Connection" not in response.headers
    assert not wire.transport.is_closing()


@pytest.mark.parametrize("size", [0, 1, 2, 7, 100])
def test_requests_one_after_the_other_whole_or_in_pieces(size: int) -> None:
    wire = Wire()
    wire.feed(TICKET + get(f"{TICKET_PATH}?Token=q") + SECOND + get("/nosuch"), size=size)
    assert wire.bodies == [
        form_answer(b"Token=first"),
        form_answer(b"Token=q"),
        form_answer(b"Token=second"),
        b"404 page not found\n",
    ]


def test_any_cut_into_two_gives_the_same() -> None:
    stream = TICKET + SECOND
    whole = Wire()
    whole.feed(stream)
    for at in range(len(stream)):
        wire = Wire()
        wire.feed(stream[:at])
        wire.feed(stream[at:])
        assert wire.transport.written == whole.transport.written, at


@pytest.mark.parametrize(
    ("request_bytes", "form"),
    [
        (get(f"{TICKET_PATH}?Token=a"), b"Token=a"),
        (get(TICKET_PATH), b""),
        (get(f"http://authnode:8080{TICKET_PATH}?Token=a"), b"Token=a"),
        (post(f"http://authnode{TICKET_PATH}", b"Token=b"), b"Token=b"),
        (post(f"{TICKET_PATH}?Token=query", b"Token=body"), b"Token=body"),
        (post(TICKET_PATH, b""), b""),
        (post(TICKET_PATH, b"Token=a", version="1.0"), b"Token=a"),
        (
            b"POST /client/getticket HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nTok\r\n4;x=y\r\nen=a\r\n0\r\n\r\n",
            b"Token=a",
        ),
    ],
)
def test_forms_of_a_ticket_request(request_bytes: bytes, form: bytes) -> None:
    for size in (0, 1):
        wire = Wire()
        wire.feed(request_bytes, size=size)
        assert [asked.form for asked in wire.front.asked] == [form]
        assert wire.statuses == [200]


@pytest.mark.parametrize("route", messages.ADMIN_ROUTES, ids=lambda route: route.word)
def test_every_admin_path_reaches_the_front(route: messages.AdminRoute) -> None:
    wire = Wire()
    wire.feed(post(route.path, b"Token=a"))
    wire.front.asked[0].answer(b"{}", None)
    wire.feed(get(f"{route.path}?Token=b"))
    wire.front.asked[1].answer(b"", NO_ANSWER)
    assert [(asked.path, asked.form) for asked in wire.front.asked] == [(route.path, b"Token=a"), (route.path, b"Token=b")]
    assert wire.statuses == [200, 504]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/"), 404),
        (b"GET /\r\n\r\n", 404),
        (get("/client/getticket/"), 404),
        (get("/client//getticket"), 404),
        (get("*"), 404),
        (get("//authnode/client/getticket"), 404),
        (get("/%2e%2e/client/getticket"), 404),
        (get("http:///client/getticket"), 404),
        (get(f"/{'a' * 12000}"), 404),
        (post("/metrics", b""), 404),
        (post("/nosuch", b"Token=a"), 404),
        (get(TICKET_PATH, method="PUT"), 405),
        (get("/nosuch", method="DELETE"), 405),
        (get(ADMIN, method="OPTIONS"), 405),
        (get("authnode:443", method="CONNECT"), 501),
    ],
)
def test_what_is_no_request_of_ours_never_reaches_the_front(request_bytes: bytes, status: int) -> None:
    for size in (0, 1):
        wire = Wire()
        wire.feed(request_bytes, size=size)
        assert wire.statuses == [status]
        assert wire.front.asked == []


def test_an_unknown_path_is_404_whenever_its_body_comes() -> None:
    wire = Wire()
    head, _, body = post("/nosuch", b"x" * 9000).partition(b"\r\n\r\n")
    wire.feed(head + b"\r\n\r\n")
    wire.feed(body)
    assert wire.statuses == [404]
    assert not wire.transport.is_closing()


def test_head_gets_no_body_and_what_follows_stays_in_step() -> None:
    wire = Wire()
    wire.feed(get(TICKET_PATH, method="HEAD") + TICKET)
    assert wire.statuses == [405, 200]
    assert wire.bodies[0] == b""


@pytest.mark.parametrize(
    "stream",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        post(TICKET_PATH, b"Token=a", "Content-Length: 3"),
        post(TICKET_PATH, b"Token=a", "Content-Length: 7"),
        post(TICKET_PATH, b"Token=a", "Transfer-Encoding: chunked"),
        b"POST /client/getticket HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /client/getticket HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /client/getticket HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /client/getticket HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"POST /client/getticket HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /client/getticket HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /client/getticket?\x00 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_cut_off(stream: bytes) -> None:
    wire = Wire()
    wire.feed(stream)
    assert wire.statuses == [400]
    assert wire.front.asked == []
    assert wire.transport.closed
    assert wire.count(Counter.REQUESTS_MALFORMED) == 1


# Sizes.


def test_a_head_without_end_is_refused() -> None:
    for size in (0, 1000):
        wire = Wire()
        wire.feed(b"GET /client/getticket?Token=" + b"A" * 70_000, size=size)
        assert wire.statuses == [413]
        assert wire.transport.closed
        wire = Wire()
        wire.feed(b"GET / HTTP/1.1\r\n" + b"X-A: " + b"b" * 70_000, size=size)
        assert wire.statuses == [413]
        wire = Wire()
        wire.feed(get("/", f"X-A: {'b' * (LIMITS.header_bytes + PIECE)}") + TICKET, size=size)
        assert wire.statuses == [413], "whole, and too large all the same"


@pytest.mark.parametrize(
    ("path", "largest"),
    [
        (TICKET_PATH, messages.MAX_TICKET_REQUEST),
        (ADMIN, messages.MAX_ADMIN_REQUEST),
        ("/nosuch", messages.MAX_TICKET_REQUEST),
    ],
)
def test_a_body_over_its_path_s_limit_is_refused_before_it_is_whole(path: str, largest: int) -> None:
    wire = Wire()
    wire.feed(post(path, b"A" * (largest + 70_000))[:-1000], size=1400)
    assert wire.statuses == [413]
    assert wire.transport.closed
    assert wire.front.asked == []
    wire = Wire()
    wire.feed(post(path, b"A" * largest), size=1400)
    assert len(wire.front.asked) == (path != "/nosuch")


def test_a_body_that_comes_with_its_head_is_bound_too() -> None:
    wire = Wire()
    wire.feed(post(TICKET_PATH, b"A" * (messages.MAX_TICKET_REQUEST + 1)))
    assert wire.statuses == [413]
    assert wire.front.asked == []


def test_half_sent_requests_together_are_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_HELD", 100_000)
    wire = Wire()
    wire.feed(post(ADMIN, b"A" * 90_000)[:-1000], size=1400)
    assert wire.transport.written == b""
    other = FakeTransport()
    second = wire.connect(other)
    for _ in range(20):
        if not other.closed:
            second.data_received(post(ADMIN, b"A" * 90_000)[:1400] if not _ else b"A" * 1400)
    assert [response.status for response in responses(bytes(other.written))] == [503]
    assert wire.count(Counter.OVERLOADED) == 1
    second.connection_lost(None)
    wire.feed(b"A" * 1000)
    assert len(wire.front.asked) == 1, "the first one was not the one too many"
    assert wire.all.held == 0

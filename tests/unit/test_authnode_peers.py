"""Whose request it is: the socket's address, or what a configured proxy says (section 11 rule 10)."""

from __future__ import annotations

import ipaddress

import pytest
from tests.support.http_fakes import FakeTransport, Wire, get, post

from cubeauth.messages import TICKET_PATH
from cubeauth_authnode.peers import NOBODY, peer_address

PROXY = "10.0.0.9"
PROXIES = (ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/64"))


@pytest.mark.parametrize(
    ("socket_says", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (None, NOBODY),
    ],
)
def test_the_socket_s_address_in_one_spelling(socket_says: str | None, address: str) -> None:
    assert peer_address(FakeTransport(socket_says)) == address


@pytest.mark.parametrize(
    ("headers", "peer"),
    [
        ([], PROXY),
        (["X-Real-Ip: 192.0.2.1"], "192.0.2.1"),
        (["x-real-ip:192.0.2.1  "], "192.0.2.1"),
        (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Real-Ip: 192.0.2.1"], "192.0.2.1"),
        (["X-Real-Ip: 2001:DB8:0::1"], "2001:db8::1"),
        (["X-Real-Ip: ::ffff:192.0.2.1"], "192.0.2.1"),
        # One of them is the client's own word.
        (["X-Forwarded-For: 192.0.2.1", "X-Real-Ip: 6.6.6.6"], PROXY),
        (["X-Real-Ip: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"], PROXY),
        (["X-Real-Ip: 192.0.2.1", "X-Real-Ip: 6.6.6.6"], PROXY),
        # No address.
        (["X-Real-Ip: localhost"], PROXY),
        (["X-Real-Ip: 192.0.2.1:4000"], PROXY),
        (["X-Real-Ip: 192.0.2.01"], PROXY),
        (['X-Real-Ip: fe80::1%","exp":9999999999,"x":"'], PROXY),
        (["X-Real-Ip: \xb2"], PROXY),
        (["X-Real-Ip:"], PROXY),
        (["X-Forwarded-For: 192.0.2.1,"], PROXY),
        (["X-Forwarded-For: 6.6.6.6, unknown"], PROXY),
    ],
)
def test_what_a_proxy_says(headers: list[str], peer: str) -> None:
    for size in (0, 1):
        wire = Wire(trusted=PROXIES, peer=PROXY)
        wire.feed(post(TICKET_PATH, b"Token=a", *headers), size=size)
        assert [asked.peer for asked in wire.front.asked] == [peer]
        wire = Wire(trusted=PROXIES, peer="10.0.1.9")
        wire.feed(post(TICKET_PATH, b"Token=a", *headers), size=size)
        assert [asked.peer for asked in wire.front.asked] == ["10.0.1.9"], "from nobody who is configured it counts for nothing"


def test_each_request_speaks_for_itself() -> None:
    wire = Wire(trusted=PROXIES, peer="fd00::9")
    wire.feed(get(TICKET_PATH, "X-Real-Ip: 192.0.2.1") + get(TICKET_PATH) + get(TICKET_PATH, "X-Real-Ip: 192.0.2.2"))
    assert [asked.peer for asked in wire.front.asked] == ["192.0.2.1", "fd00::9", "192.0.2.2"]


def test_a_trailer_is_no_header() -> None:
    head = b"POST /client/getticket HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Real-Ip: 192.0.2.1\r\n\r\n"
    wire = Wire(trusted=PROXIES, peer=PROXY)
    wire.feed(head + b"1\r\na\r\n0\r\nX-Real-Ip: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert [asked.peer for asked in wire.front.asked] == ["192.0.2.1"]

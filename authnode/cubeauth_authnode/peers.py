"""Who is at the other end: the socket's address, or what a configured proxy says (protocol-v1, section 11 rule 10)."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any, Protocol

NOBODY = "0.0.0.0"  # noqa: S104 - a name for a peer that is gone already, not a bind


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The address of the other end."""
    return address_of(transport.get_extra_info("peername"))


def address_of(peer: Sequence[Any] | None) -> str:
    """Of a socket's peer name: IPv4 as such on a socket that serves both, IPv6 without its zone, a thing of this machine."""
    return str(peer[0]).removeprefix("::ffff:").partition("%")[0] if peer else NOBODY


class Requests(Protocol):
    """What takes a parser's events; `peer` is who a request is from."""

    peer: str

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class BehindProxy:
    """The parser's view of a connection from a configured proxy: the one case in which a header means something.

    Proxies pass on what they do not set themselves, so of two headers that disagree one is the client's own word: then the
    proxy's address stands. Trailers come too late to count, a proxy need not even look at them.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._proxy = requests.peer
        self._real: set[str] = set()
        self._forwarded: set[str] = set()
        self.on_url = requests.on_url
        self.on_body = requests.on_body
        self.on_message_complete = requests.on_message_complete

    def on_message_begin(self) -> None:
        self._real.clear()
        self._forwarded.clear()
        self._requests.on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"x-real-ip":
            self._real |= _address(value)
        elif lower == b"x-forwarded-for":
            self._forwarded = _address(value.rpartition(b",")[2])  # what the proxy itself added stands last

    def on_headers_complete(self) -> None:
        said = self._real | self._forwarded
        self._requests.peer = said.pop() if len(said) == 1 else self._proxy
        self._requests.on_headers_complete()


def _address(text: bytes) -> set[str]:
    """The address in `text`, in its one spelling; none where it is no address, or one with a zone, which may hold anything."""
    try:
        address = ipaddress.ip_address(text.strip().decode("ascii"))
    except ValueError:
        return set()
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return set()
        address = address.ipv4_mapped or address
    return {str(address)}

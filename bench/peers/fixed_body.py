"""The least that a Python server does: uvloop, httptools, one fixed body. What a ticket costs is on top of this.

`python -m bench.peers.fixed_body PORT BYTES`, once for each process; they share the port.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

import httptools
import uvloop


class Fixed(asyncio.Protocol):
    """Parses as the Authnode's connection does, and answers everything alike."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body = body

    def on_message_complete(self) -> None:
        self._transport.write(self._reply)


async def serve(port: int, size: int) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    listening = socket.create_server(("127.0.0.1", port), reuse_port=True)
    server = await asyncio.get_running_loop().create_server(lambda: Fixed(reply), sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))

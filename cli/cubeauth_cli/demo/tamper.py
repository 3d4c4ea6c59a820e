"""Somebody in the middle: passes a connection on, keeps what a listener on the wire sees, and flips one bit when told."""

from __future__ import annotations

import asyncio

from cubeauth_runtime.tasks import TaskOwner

CHUNK = 64 * 1024


class Middleman:
    """Listens on `port` and passes on to the target. `seen` is what went by; `flip` makes it change the next bytes."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._tasks = TaskOwner(lambda _name, _error: None)  # a passed-on connection that breaks is what is shown here
        self.seen = bytearray()
        self.flip = False
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await self._tasks.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._tasks.start("to the service", self._pass(reader, far_writer, tamper=True))
        self._tasks.start("to the client", self._pass(far_reader, writer, tamper=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tamper: bool) -> None:
        try:
            while data := await reader.read(CHUNK):
                self.seen += data
                if tamper and self.flip:
                    self.flip = False
                    data = data[:-1] + bytes([data[-1] ^ 1])
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one end has gone; the other is told by closing it
        finally:
            writer.close()

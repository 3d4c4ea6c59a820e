"""`python -m cubeauth_cli.demo.service`: a TCP service that knows nothing of tickets. It gives every line back in capitals.

It stands in for a DataNode: it listens on loopback alone, so that only its
sidecar reaches it. The first line on standard output is its port.
"""

from __future__ import annotations

import asyncio
import contextlib

from cubeauth_cli import console

MAX_LINE = 64 * 1024


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: until its end, or a line that is too long."""
    try:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
    except (ConnectionError, ValueError):
        pass  # the peer has gone, or sent no line: nothing to give back
    finally:
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=MAX_LINE)
    console.out(str(server.sockets[0].getsockname()[1]))
    console.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())

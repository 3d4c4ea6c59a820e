"""A client's handshake with a secured port, without a sidecar: for tickets that no sidecar would present."""

from __future__ import annotations

import asyncio

from cubeauth import entropy
from cubeauth.channel import ClientChannel
from cubeauth.errors import ChannelError, RefusedByPeer
from cubeauth.events import ChannelFailed, HandshakeCompleted
from cubeauth.exchange import TicketGrant
from cubeauth.phases import Mode
from cubeauth_cli.demo.stage import PATIENCE
from cubeauth_runtime.clock import SystemClock

CHUNK = 64 * 1024


async def plain_bytes(port: int, data: bytes) -> bytes:
    """What comes back to who just talks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(_rest(reader), PATIENCE)
    finally:
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def handshake(port: int, grant: TicketGrant) -> str:
    """Present `grant`; what the wire says: "" when it was accepted, else the refusal."""
    clock = SystemClock()
    channel = ClientChannel(grant, Mode.SEALED, entropy.system, clock.now())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        channel.start()
        while True:
            writer.writelines(channel.data_to_send())
            data = await asyncio.wait_for(reader.read(CHUNK), PATIENCE)
            events = channel.receive_data(data, clock.now()) if data else channel.receive_eof(clock.now())
            for event in events:
                if isinstance(event, HandshakeCompleted):
                    return ""
                if isinstance(event, ChannelFailed):
                    return _as_told(event.error)
    finally:
        writer.close()


def _as_told(error: ChannelError) -> str:
    """The peer's own words where it said any, else what we made of it."""
    told = error.__cause__ if isinstance(error.__cause__, RefusedByPeer) else error
    return told.detail or told.reason.value


async def lines_through(port: int, *lines: bytes) -> list[bytes]:
    """Say lines to a plain port and give what it answers, one for each until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    try:
        for line in lines:
            writer.write(line + b"\n")
            answer = await asyncio.wait_for(reader.readline(), PATIENCE)
            if not answer:
                break
            answers.append(answer.rstrip(b"\n"))
    except ConnectionError:
        pass  # reset: the answers so far are what there is
    finally:
        writer.close()
    return answers

"""The metrics and health port: what it says, and how many it lets in for how long (section 11 rule 12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from cubeauth.errors import InputError
from cubeauth_runtime import endpoint
from cubeauth_runtime.endpoint import Endpoint


class State:
    live = ""
    ready = ""


@pytest.fixture
async def served() -> AsyncIterator[tuple[Endpoint, State]]:
    state = State()
    registry = CollectorRegistry()
    Gauge("things", "how many", registry=registry).set(3)
    it = Endpoint(registry, live=lambda: state.live, ready=lambda: state.ready)
    await it.start("127.0.0.1", 0)
    yield it, state
    await it.close()


async def get(it: Endpoint, target: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it ends."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_metrics_and_health_say_what_is(served: tuple[Endpoint, State]) -> None:
    it, state = served
    status, text = await get(it, "/metrics")
    assert status == 200
    assert "things 3.0" in text
    assert await get(it, "/livez") == (200, "ok\n")
    state.ready = "no worker serves"
    assert await get(it, "/readyz") == (503, "no worker serves\n")
    assert await get(it, "/healthz") == (503, "no worker serves\n")
    assert await get(it, "/livez") == (200, "ok\n")
    assert (await get(it, "/client/getticket"))[0] == 404


async def test_connections_over_the_limit_are_cut_off_and_leave_room_when_they_go(
    served: tuple[Endpoint, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    it, _ = served
    monkeypatch.setattr(endpoint, "MAX_CONNECTIONS", 2)
    held = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(2)]
    for _, writer in held:  # once each is answered, both are counted
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    for reader, _ in held:
        await reader.readuntil(b"ok\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    assert await end_of(reader) == b""
    writer.close()
    for _, writer in held:
        writer.transport.abort()
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await get(it, "/livez"))[0] == 200
                break
            except (ConnectionError, IndexError):
                await asyncio.sleep(0.01)


async def test_a_connection_that_says_nothing_is_cut_off(served: tuple[Endpoint, State], monkeypatch: pytest.MonkeyPatch) -> None:
    it, _ = served
    monkeypatch.setattr(endpoint, "CONNECTION_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    writer.write(b"GET /livez HT")
    assert await end_of(reader) == b""
    writer.close()


async def test_a_port_that_is_taken_is_named(served: tuple[Endpoint, State]) -> None:
    it, _ = served
    second = Endpoint(CollectorRegistry(), live=str, ready=str)
    with pytest.raises(InputError) as caught:
        await second.start("127.0.0.1", it.port)
    assert caught.value.field == "metrics"
    assert f"127.0.0.1:{it.port}" in caught.value.problem

"""The metrics and health port: what it says, and how many it lets in for how long (section 11 rule 12)."""

from __future__ import annotations

import asyncio
import logging
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
    assert caught.value.problem == f"cannot listen on 127.0.0.1:{it.port}: Address already in use"
    assert caught.value.remedy == "free the address, or choose another of this host"


MUCH = b"x" * 70_000
NO_REQUESTS = {
    "length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "header": b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Marker: " + MUCH + b"\r\n\r\n",
    "target": b"GET /" + MUCH + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "headers": b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Marker: 1\r\n" * 1000 + b"\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03marker\r\n\r\n",
    "second": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET marker\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS)
async def test_what_is_no_request_is_refused_without_a_log_line_or_an_echo(
    served: tuple[Endpoint, State], caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    it, _ = served
    caplog.set_level(logging.INFO)
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    writer.write(sent)
    answer = await end_of(reader)
    writer.close()
    assert b" 400 " in answer
    assert answer.endswith(b"\r\n\r\nbad request\n")
    for unsaid in (b"-5", b"Marker", b"marker", b"xxx", b"aiohttp", b"Python"):
        assert unsaid not in answer
    assert caplog.records == []
    assert (await get(it, "/livez"))[0] == 200


BROKEN_BODIES = {
    "chunk": b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nmarker\r\n\r\n",
    "later chunk": b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nmarker\r\n\r\n",
    "encoding": b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nmarker",
}


@pytest.mark.parametrize("sent", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_that_is_broken_writes_no_log_line(
    served: tuple[Endpoint, State], caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    it, _ = served
    caplog.set_level(logging.INFO)
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    head, _, body = sent.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    await reader.readuntil(b"ok\n")  # answered, and the body is awaited
    writer.write(body)
    writer.write_eof()
    assert b"marker" not in await end_of(reader)
    writer.close()
    assert (await get(it, "/livez"))[0] == 200
    assert caplog.records == []


@pytest.mark.parametrize("target", ["/livez", "/metrics", "/nosuch"])
async def test_no_answer_names_the_software_s_version(served: tuple[Endpoint, State], target: str) -> None:
    it, _ = served
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await end_of(reader)
    writer.close()
    assert b"\r\nServer: cubeauth\r\n" in answer
    assert b"aiohttp" not in answer


async def test_a_failure_of_our_own_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def collect() -> None:
        raise ValueError("ours")

    it = Endpoint(CollectorRegistry(), live=str, ready=str, collect=collect)
    await it.start("127.0.0.1", 0)
    assert await get(it, "/metrics") == (500, "internal error\n")
    await it.close()
    (record,) = caplog.records
    assert (record.name, record.exc_info is not None) == ("cubeauth.endpoint", True)

"""One POST to one endpoint, bounded in time and size.

No redirect is followed, no proxy taken from the environment, no cookie kept,
no encoding unpacked. Every request has a connection of its own, gone when the
answer is there: an idle one that the server closes just then would look like
stock's answer to a wrong key, and a createkey on it could not be told from
one that was carried out.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from cubeauth.messages import CONTENT_TYPE_FORM
from cubeauth_client.endpoints import Endpoint
from cubeauth_client.errors import Failure

CONNECT_TIMEOUT = 3.0
"""Seconds for name, TCP and TLS together."""

REPLY_TIMEOUT = 10.0
"""Seconds for one whole exchange; a stock follower asks its leader in between."""

_CHUNK = 64 * 1024
_HEADERS = {"Content-Type": CONTENT_TYPE_FORM, "Accept-Encoding": "identity", "User-Agent": "cubeauth"}
_NO_REPLY = (
    "the connection was closed without a reply, which is how a stock Authnode answers a wrong key or a ticket that does not open"
)
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class TryFailed(Exception):
    """No answer that can be used; `failure` says how it ended. Never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.problem)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with status 200 or 404. date: unix seconds of its Date header, if it has one."""

    status: int
    body: bytes
    date: float | None


class Transport:
    """Sends forms to endpoints. tls: for https endpoints."""

    def __init__(
        self, tls: ssl.SSLContext | None, *, connect_timeout: float = CONNECT_TIMEOUT, reply_timeout: float = REPLY_TIMEOUT
    ) -> None:
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout

    async def post(self, endpoint: Endpoint, path: str, form: bytes, *, time_left: float, max_reply: int) -> Answer:
        """The answer of at most `max_reply` bytes within the timeouts and `time_left` seconds. Raises TryFailed."""
        timeout = aiohttp.ClientTimeout(total=min(self._reply_timeout, time_left), sock_connect=self._connect_timeout)
        try:
            async with (
                self._session() as session,
                session.post(
                    endpoint.url + path, data=form, headers=_HEADERS, timeout=timeout, allow_redirects=False
                ) as response,
            ):
                return await _read(endpoint, response, max_reply)
        except (aiohttp.ClientError, OSError, ValueError) as e:  # ValueError: a host that is no host after all
            raise TryFailed(_failure(endpoint, e)) from None

    def _session(self) -> aiohttp.ClientSession:
        # Its connection is kept for reuse and closed with the session, which waits for that; with force_close nobody would.
        connector = aiohttp.TCPConnector(ssl=self._tls or True, use_dns_cache=False)
        return aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False)


async def _read(endpoint: Endpoint, response: aiohttp.ClientResponse, max_reply: int) -> Answer:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > max_reply:
            raise TryFailed(Failure(endpoint.url, f"a reply of more than {max_reply} bytes", False, True))
    status = response.status
    if 300 <= status < 400:
        raise TryFailed(Failure(endpoint.url, f"HTTP {status}: a redirect, which is not followed", False, False))
    if status not in (200, 404):
        raise TryFailed(Failure(endpoint.url, f"HTTP {status}", status in _TEMPORARY_STATUS, status >= 500))
    return Answer(status, bytes(body), _date(response.headers.get("Date")))


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _failure(endpoint: Endpoint, error: Exception) -> Failure:
    """What an aiohttp error means; the order is from the special to the general."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return Failure(endpoint.url, f"its certificate is not trusted: {_reason(error.certificate_error)}", False, False)
        case aiohttp.ClientSSLError():
            return Failure(endpoint.url, "no TLS connection: does it speak HTTPS?", False, False)
        case aiohttp.ClientConnectorDNSError():
            return Failure(endpoint.url, "the host name is not known", True, False)
        case aiohttp.ClientConnectorError():
            return Failure(endpoint.url, f"cannot connect: {_os_reason(endpoint, error.os_error)}", True, False)
        case aiohttp.ConnectionTimeoutError():
            return Failure(endpoint.url, "no connection in time", True, False)
        case TimeoutError():
            return Failure(endpoint.url, "no reply in time", True, True)
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return Failure(endpoint.url, _NO_REPLY, True, True)
        case aiohttp.ClientPayloadError():
            return Failure(endpoint.url, "the reply ended early", True, True)
        case aiohttp.InvalidURL():
            return Failure(endpoint.url, "no address that can be asked", False, False)
        case aiohttp.ClientResponseError():
            return Failure(endpoint.url, "the reply is not HTTP", False, True)
        case _:
            return Failure(endpoint.url, f"failed: {type(error).__name__}", True, True)


def _os_reason(endpoint: Endpoint, error: OSError) -> str:
    if endpoint.https and isinstance(error, ConnectionResetError):
        return "closed during the TLS handshake: does it speak TLS 1.2 or later?"
    # asyncio's own text repeats the address, and is long where a name has several.
    return os.strerror(error.errno) if error.errno else "closed at once"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return type(error).__name__

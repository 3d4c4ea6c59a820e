"""One Authnode behind one or more endpoints: failover, bounded retries, a fresh verifier for each try."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeVar

from cubeauth import entropy as chance
from cubeauth import messages
from cubeauth.entropy import Entropy
from cubeauth.errors import PeerError, ServerRefused
from cubeauth.exchange import Sent
from cubeauth_client import retry, tls
from cubeauth_client.endpoints import Endpoint, EndpointSet
from cubeauth_client.errors import AuthnodeRefused, AuthnodeUnreachable, Failure, NotSupported, refusal_hint
from cubeauth_client.observer import ClientObserver, Outcome
from cubeauth_client.retry import RetryPolicy
from cubeauth_client.transport import CONNECT_TIMEOUT, REPLY_TIMEOUT, Answer, Transport, TryFailed
from cubeauth_runtime.clock import Clock

log = logging.getLogger("cubeauth.client")

T = TypeVar("T")

CODE_NO_LEADER = 33
CODE_REDIRECT = 39
TEMPORARY_CODES = frozenset({CODE_NO_LEADER, CODE_REDIRECT})
"""A stock raft group between two leaders (protocol-v1, section 8): another endpoint, or a moment later, may know one."""

OWN_ROUTES = "/cubeauth/"
"""What a stock Authnode does not have (section 11 rule 13)."""


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """A request that can be made anew for each try, and how its reply is read.

    ask(now): the request, with a verifier of its own. accept: raises ServerRefused or another PeerError.
    repeatable: carried out twice, it leaves the same. max_reply: bytes.
    """

    path: str
    ask: Callable[[float], Sent]
    accept: Callable[[Sent, bytes], T]
    repeatable: bool = True
    max_reply: int = messages.MAX_REPLY


class Authnode:
    """The caller's end. It holds no connection: there is nothing to close."""

    def __init__(
        self,
        endpoints: EndpointSet,
        *,
        clock: Clock,
        entropy: Entropy = chance.system,
        tls_context: ssl.SSLContext | None = None,
        policy: RetryPolicy | None = None,
        observer: ClientObserver | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        reply_timeout: float = REPLY_TIMEOUT,
    ) -> None:
        if tls_context is None and endpoints.any_https:
            tls_context = tls.client_context()
        self.clock = clock
        self.entropy = entropy
        self._endpoints = endpoints
        self._policy = policy or RetryPolicy()
        self._observer = observer or ClientObserver()
        self._transport = Transport(tls_context, connect_timeout=connect_timeout, reply_timeout=reply_timeout)

    async def call(self, exchange: Exchange[T]) -> T:
        """The accepted reply of the first endpoint that answers.

        Raises AuthnodeRefused, NotSupported, AuthnodeUnreachable. A request that is not repeatable is sent again only where the
        one before cannot have been carried out.
        """
        started = self.clock.monotonic()
        failures: list[Failure] = []
        for rounds in itertools.count(1):
            for endpoint in self._hopeful(failures):
                try:
                    return await self._try(endpoint, exchange, started + self._policy.total, failures)
                except TryFailed as e:
                    self._note(endpoint, e.failure)
                    failures.append(e.failure)
                    if e.failure.may_be_done and not exchange.repeatable:
                        raise AuthnodeUnreachable(tuple(failures), outcome_unknown=True) from None
            elapsed = self.clock.monotonic() - started
            delay = retry.next_delay(self._policy, rounds=rounds, elapsed=elapsed, entropy=self.entropy)
            if delay is None or not self._hopeful(failures):
                break
            self._observer.retried(delay)
            await asyncio.sleep(delay)
        raise AuthnodeUnreachable(tuple(failures))

    def _hopeful(self, failures: list[Failure]) -> list[Endpoint]:
        """Where another try may help, in the order to try them."""
        hopeless = {failure.endpoint for failure in failures if not failure.temporary}
        return [e for e in self._endpoints.candidates(self.clock.monotonic()) if e.url not in hopeless]

    def _note(self, endpoint: Endpoint, failure: Failure) -> None:
        self._endpoints.failed(endpoint, self.clock.monotonic())
        self._observer.tried(endpoint.url, Outcome.FAILED)
        log.debug("%s: %s", failure.endpoint, failure.problem)

    async def _try(self, endpoint: Endpoint, exchange: Exchange[T], deadline: float, failures: list[Failure]) -> T:
        time_left = deadline - self.clock.monotonic()
        if time_left <= 0:
            raise AuthnodeUnreachable(tuple(failures))
        sent = exchange.ask(self.clock.now())
        answer = await self._transport.post(endpoint, exchange.path, sent.body, time_left=time_left, max_reply=exchange.max_reply)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise _not_found(endpoint, exchange.path)
        try:
            accepted = exchange.accept(sent, answer.body)
        except ServerRefused as e:
            raise self._refused(endpoint, e, answer) from None
        except PeerError as e:
            # Temporary: on the way back something else spoke, or the reply was cut; the next try asks anew.
            raise TryFailed(Failure(endpoint.url, f"not a reply to this request: {e}", True, True)) from None
        self._endpoints.answered(endpoint)
        self._observer.tried(endpoint.url, Outcome.ANSWERED)
        return accepted

    def _refused(self, endpoint: Endpoint, error: ServerRefused, answer: Answer) -> Exception:
        if error.server_code in TEMPORARY_CODES:
            return TryFailed(Failure(endpoint.url, str(error), True, False))
        self._endpoints.answered(endpoint)
        self._observer.tried(endpoint.url, Outcome.REFUSED)
        difference = None if answer.date is None else answer.date - self.clock.now()
        hint = refusal_hint(error.server_code, error.detail, difference)
        return AuthnodeRefused(endpoint.url, error.server_code, error.detail, hint)


def _not_found(endpoint: Endpoint, path: str) -> Exception:
    if path.startswith(OWN_ROUTES):
        return NotSupported(endpoint.url, path)
    return TryFailed(Failure(endpoint.url, f"HTTP 404 for {path}: is this an Authnode?", False, False))

"""What can go wrong between us and an Authnode, as one tree.

CubeauthError
`-- AuthnodeError
    |-- AuthnodeUnreachable   no endpoint gave an answer that can be used: what was tried, and how it ended
    |-- AuthnodeRefused       an Authnode answered no: its code and text
    |-- NotSupported          a stock Authnode, and a request that only ours has
    `-- TicketUnavailable     no ticket that is good now, and the last try to get one failed
"""

from __future__ import annotations

from dataclasses import dataclass

from cubeauth.errors import AUTHENTICATION_FAILED, CODE_EXPIRED_TICKET, CODE_INVALID_TICKET, CubeauthError
from cubeauth.verifier import SKEW


class AuthnodeError(CubeauthError):
    """Root of this package's errors."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How one try at one endpoint ended without an answer that can be used.

    temporary: worth another try at this endpoint. may_be_done: the request may have reached the Authnode and been carried out.
    """

    endpoint: str
    problem: str
    temporary: bool
    may_be_done: bool


class AuthnodeUnreachable(AuthnodeError):
    """No endpoint gave an answer that can be used. failures: every try, in order.

    outcome_unknown: the request changes something, must not be sent twice, and may have been carried out.
    """

    def __init__(self, failures: tuple[Failure, ...], *, outcome_unknown: bool = False) -> None:
        self.failures = failures
        self.outcome_unknown = outcome_unknown
        super().__init__(failures, outcome_unknown)

    def __str__(self) -> str:
        last = {failure.endpoint: failure.problem for failure in self.failures}
        tries = [failure.endpoint for failure in self.failures]
        parts = [
            f"{endpoint}: {problem}" + (f" ({tries.count(endpoint)} tries)" if tries.count(endpoint) > 1 else "")
            for endpoint, problem in last.items()
        ]
        text = "no Authnode gave an answer that can be used: " + ("; ".join(parts) or "no time was left to try")
        if self.outcome_unknown:
            text += "; the request may have been carried out all the same: look before you send it again"
        return text


class AuthnodeRefused(AuthnodeError):
    """An Authnode's answer was no. code, text: as it sent them; hint: what that usually means."""

    def __init__(self, endpoint: str, code: int, text: str, hint: str = "") -> None:
        self.endpoint = endpoint
        self.code = code
        self.text = text
        self.hint = hint
        super().__init__(endpoint, code, text, hint)

    def __str__(self) -> str:
        text = f"{self.endpoint} refused with code {self.code}: {self.text}"
        return f"{text}; {self.hint}" if self.hint else text


class NotSupported(AuthnodeError):
    """The Authnode has no such route: a stock one, asked for what only ours does."""

    def __init__(self, endpoint: str, path: str) -> None:
        self.endpoint = endpoint
        self.path = path
        super().__init__(endpoint, path)

    def __str__(self) -> str:
        return f"{self.endpoint} has no {self.path}: a stock Authnode cannot do this"


class TicketUnavailable(AuthnodeError):
    """No ticket for `service_id` is good now. cause: why the last try failed; the next one comes by itself."""

    def __init__(self, service_id: str, problem: str) -> None:
        self.service_id = service_id
        super().__init__(f"no ticket for {service_id}: {problem}")


def refusal_hint(code: int, text: str, clock_difference: float | None) -> str:
    """What a refusal usually means.

    Ours tells a caller that it does not know one thing only (protocol-v1, section 11 rule 5), so the usual causes are named
    here. clock_difference: seconds that the server's Date header is ahead of our clock, None if it sent none.
    """
    if code == CODE_EXPIRED_TICKET:
        return "the ticket has expired: get a new one"
    if code == CODE_INVALID_TICKET:
        return "the key was deleted or made anew: get a new ticket with the key that holds now"
    stock_skew = "verifier is timeout" in text
    if text != AUTHENTICATION_FAILED and not stock_skew:
        return ""
    clock = f"this host's clock differs from the Authnode's by {SKEW} s or more"
    if clock_difference is not None and abs(clock_difference) >= SKEW / 2:
        side = "behind" if clock_difference > 0 else "ahead"
        clock += f" (it is about {abs(clock_difference):.0f} s {side})"
    if stock_skew:
        return f"likely {clock}"
    return f"the key is wrong or was deleted, the ticket is not for this, the service is unknown, or {clock}"

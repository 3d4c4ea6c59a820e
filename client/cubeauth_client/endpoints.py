"""The addresses of one Authnode: which to try, in which order, and which is thought dead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from cubeauth.errors import InputError, shown

DEAD_FOR = 30.0
"""Seconds that an endpoint which failed is tried after the others: a restart is over by then."""

MAX_ENDPOINTS = 16
"""Of one Authnode; a raft group has 3 or 5."""

_REMEDY = "write HOST:PORT, http://HOST:PORT or https://HOST:PORT"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,32})?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of an Authnode."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def https(self) -> bool:
        return self.scheme == "https"


def parse_endpoint(text: str, *, https: bool = False, named: str = "") -> Endpoint:
    """An address as a person writes it; `https` says what it is without a scheme, `named` where it was written.

    Raises InputError. A user name or password in it is refused without being repeated.
    """
    told = "an address with a user name" if "@" in text else shown(text)
    scheme = "https" if https else "http"
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InputError(named, f"{told} is no address", _REMEDY) from None
    # urlsplit drops a newline in the middle of a name.
    if parts.scheme not in _DEFAULT_PORTS or "@" in text or not text.isprintable() or not _HOST.fullmatch(host):
        raise InputError(named, f"{told} is no address", _REMEDY)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InputError(named, f"{told} has more than an address", _REMEDY)
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise InputError(named, f"{told} has port 0", _REMEDY)
    return Endpoint(parts.scheme, host, port)


def parse_endpoints(texts: Iterable[str] | str, *, https: bool = False, named: str = "") -> tuple[Endpoint, ...]:
    """Several addresses, as a list or one text with commas; order is kept, repetitions are not. Raises InputError."""
    items = texts.split(",") if isinstance(texts, str) else texts
    found = tuple(dict.fromkeys(parse_endpoint(item.strip(), https=https, named=named) for item in items))
    if not found:
        raise InputError(named, "no Authnode address", _REMEDY)
    if len(found) > MAX_ENDPOINTS:
        raise InputError(named, f"{len(found)} Authnode addresses", f"at most {MAX_ENDPOINTS}")
    return found


class EndpointSet:
    """Configured order, the dead last. Times are monotonic seconds, given by the caller."""

    def __init__(self, endpoints: Iterable[Endpoint], *, dead_for: float = DEAD_FOR) -> None:
        self._endpoints = tuple(endpoints)
        self._dead_for = dead_for
        self._dead_until: dict[Endpoint, float] = {}

    @property
    def any_https(self) -> bool:
        return any(endpoint.https for endpoint in self._endpoints)

    def candidates(self, now: float) -> tuple[Endpoint, ...]:
        """All of them: first those not thought dead, then the dead, the longest dead first."""
        return tuple(sorted(self._endpoints, key=lambda e: max(0.0, self._dead_until.get(e, 0.0) - now)))

    def failed(self, endpoint: Endpoint, now: float) -> None:
        self._dead_until[endpoint] = now + self._dead_for

    def answered(self, endpoint: Endpoint) -> None:
        self._dead_until.pop(endpoint, None)

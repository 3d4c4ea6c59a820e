"""Where the time of a ticket goes: its parts one by one, in one process: `make bench BENCH=parts` or `python -m bench.parts`.

The parts are those of authnode/cubeauth_authnode/worker.py's path. `HTTP and
the rest` is what the whole path takes beyond their sum; the sockets, which
the kernel pays for, are in none of it: bench/tickets has the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.support import Row, median, report

from cubeauth import entropy, exchange, ids, messages, verifier
from cubeauth.caps import Capabilities
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes
from cubeauth_authnode import replay
from cubeauth_authnode.config import Limits
from cubeauth_authnode.connections import Connections
from cubeauth_authnode.directory import Directory
from cubeauth_authnode.front import Front
from cubeauth_authnode.link import Link
from cubeauth_authnode.proof import Policy, ProofChecker, auth_service_record
from cubeauth_authnode.replay import ReplayCache
from cubeauth_authnode.shared import Board
from cubeauth_authnode.tickets import Proven, TicketDesk
from cubeauth_runtime.audit import Audit
from cubeauth_runtime.clock import SystemClock

CLIENTS = 256
REQUESTS = 20_000
PEER = "127.0.0.1"
HEAD = b"POST /client/getticket HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"


class Nowhere(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Bench:
    """An Authnode's worker without sockets: 256 clients, one service."""

    def __init__(self, folder: Path) -> None:
        replay.prepare(folder / "replay", entries=1 << 21, skew=verifier.SKEW, now=time.time(), new_store=True)
        self.cache = ReplayCache(folder / "replay", skew=verifier.SKEW)
        caps = Capabilities(api=("master:getvol:access", "data:write:access"), owner_vol=("master:ltptest:*",)).to_json()
        self.clients = [_record(f"client{i}", ids.Role.CLIENT, caps) for i in range(CLIENTS)]
        policy = Policy(3600, verifier.SKEW, frozenset())
        directory = Directory([_record(ids.MASTER_SERVICE, ids.Role.SERVICE, caps), *self.clients], 1)
        root = auth_service_record(SecretBytes(entropy.system(32)))
        self.desk = TicketDesk(directory, root, ProofChecker(self.cache, policy, entropy.system), policy, entropy.system)
        self.keys = [exchange.prepared(client.auth_key) for client in self.clients]
        self.audit = Audit(folder / "audit.log")
        board, _ = Board.create()
        counters = board.block(0)
        clock = SystemClock()
        link = Link(lambda _kind, _payload: None, lambda: None)
        front = Front(self.desk, link, self.audit, clock, published=lambda: 1, counters=counters, pending_limit=1)
        self.connections = Connections(front, Limits(), counters, (), clock.monotonic)

    def forms(self, count: int) -> list[bytes]:
        """Requests as our clients make them, each with a proof of its own."""
        now, chance = time.time(), entropy.system
        chosen = (self.clients[i % CLIENTS] for i in range(count))
        return [exchange.ask_ticket(c.id, c.auth_key, ids.MASTER_SERVICE, now=now, entropy=chance).body for c in chosen]

    def parts(self) -> dict[str, float]:
        """Microseconds a ticket, by part."""
        now, took = time.time(), dict[str, float]()
        requests = _timed(took, "read the request", exchange.parse_ticket_request, self.forms(REQUESTS))
        pairs = list(zip(self.keys * (REQUESTS // CLIENTS + 1), requests, strict=False))
        proofs = _timed(took, "open the proof", lambda p: verifier.open_(p[0], p[1].unverified_proof), pairs)
        shown = list(zip(proofs, requests, strict=True))
        _timed(took, "time and binding", lambda p: _check(p[0], p[1], now), shown)
        _timed(took, "replay table", lambda p: self._remember(p[0], p[1], now), shown)
        proven = [Proven(request, proof, request.unverified_client_id, 1) for proof, request in shown]
        granted = _timed(took, "seal ticket and reply", lambda each: self.desk.issue(each, PEER, now), proven)
        _timed(took, "audit line", lambda g: self.audit.granted(g.client_id, g.service_id, g.jti, PEER, now), granted)
        return took

    def _remember(self, proof: verifier.Verifier, request: exchange.TicketRequest, now: float) -> None:
        key = verifier.replay_key(request.unverified_client_id, request.unverified_proof)
        self.cache.remember(key, proof_time=proof.time, now=now)

    def whole(self) -> float:
        """Microseconds a ticket, from the bytes of a request to those of its answer."""
        connection = self.connections.admit("192.0.2.1")
        assert connection is not None
        connection.connection_made(Nowhere())
        took = dict[str, float]()
        _timed(took, "whole", connection.data_received, [HEAD % (len(form), form) for form in self.forms(REQUESTS)])
        connection.connection_lost(None)
        return took["whole"]


def _record(principal: str, role: ids.Role, caps: str) -> KeyRecord:
    return KeyRecord(principal, 1, role, SecretBytes(entropy.system(32)), "", SecretBytes(b""), 1, caps)


def _check(proof: verifier.Verifier, request: exchange.TicketRequest, now: float) -> None:
    verifier.check(proof, now=now)
    exchange.check_binding(proof, request.unverified_body, request.unverified_body)


def _timed(took: dict[str, float], name: str, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    started = time.perf_counter()
    done = [work(item) for item in items]
    took[name] = (time.perf_counter() - started) / len(items) * 1e6
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a ticket goes.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cubeauth-bench-") as name:
        bench = Bench(Path(name))
        rounds = [(bench.parts(), bench.whole()) for _ in range(arguments.rounds)]
    parts = {part: median([taken[part] for taken, _ in rounds]) for part in rounds[0][0]}
    whole = median([each for _, each in rounds])
    parts["HTTP and the rest"] = max(0.0, whole - sum(parts.values()))
    rows = [Row(part, (f"{us:.1f}", f"{us / whole:.0%}"), {"us": us}) for part, us in parts.items()]
    rows.append(Row("whole", (f"{whole:.1f}", ""), {"us": whole}))
    note = f"medians of {arguments.rounds} rounds of {REQUESTS:,} tickets with bound verifiers; path {messages.TICKET_PATH}"
    report("Where the time of a ticket goes", ("us", "share"), rows, [note], as_json=arguments.json)


if __name__ == "__main__":
    main()

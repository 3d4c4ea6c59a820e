"""A worker's front: never an answer from before the last published write, never a request without an end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.desks import NOW, World

from cubeauth import entropy, exchange, strictjson, ticket
from cubeauth.ids import Role
from cubeauth.keys import KeyRecord
from cubeauth.messages import ADMIN_ROUTES, ROUTE_OF_WORD
from cubeauth_authnode import front
from cubeauth_authnode.front import PARENT_SECONDS, Front
from cubeauth_authnode.http import NO_ANSWER, OVERLOADED
from cubeauth_authnode.keystore.base import Change, ChangeKind
from cubeauth_authnode.link import NUMBER, Kind, Link
from cubeauth_authnode.shared import BLOCK_WORDS, Counter
from cubeauth_authnode.tickets import Granted, Proven
from cubeauth_runtime.audit import Audit

GRANTED, REFUSED = "granted", "refused"


class Clock:
    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> float:
        return NOW + self.elapsed

    def monotonic(self) -> float:
        return 5000.0 + self.elapsed


class Sent(Link):
    """The parent's end, as what came to it."""

    def __init__(self) -> None:
        super().__init__(lambda _kind, _payload: None, lambda: None)
        self.messages: list[tuple[Kind, bytes]] = []

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        self.messages.append((kind, payload))


class Bench:
    """A front over the desks of a World. `told` answers come with the name that was asked for."""

    def __init__(self, folder: Path, *, pending_limit: int = 4) -> None:
        self.world = World()
        self.world.create("MasterService", Role.SERVICE)
        self.client = self.world.create("ltptest", Role.CLIENT, "master:getvol:access")
        self.clock = Clock()
        self.link = Sent()
        self.audit = Audit(folder / "audit.log")
        self.path = folder / "audit.log"
        self.counters = memoryview(bytearray(8 * BLOCK_WORDS)).cast("Q")
        self.published = self.world.directory.sequence
        self.told: list[tuple[str, str]] = []
        self.front = Front(
            self.world.tickets,
            self.link,
            self.audit,
            self.clock,
            published=lambda: self.published,
            counters=self.counters,
            pending_limit=pending_limit,
        )

    def answer(self, name: str) -> Callable[[bytes, tuple[bytes, bytes] | None], None]:
        def take(body: bytes, status: tuple[bytes, bytes] | None) -> None:
            outcome = REFUSED
            if status is not None:
                outcome = status[0].decode()[:3]
            elif json.loads(body)["code"] == 0:
                outcome = GRANTED
            self.told.append((name, outcome))

        return take

    def ask(self, name: str, record: KeyRecord | None = None, service: str = "MasterService") -> exchange.Sent:
        record = record or self.client
        sent = exchange.ask_ticket(record.id, record.auth_key, service, now=self.clock.now(), entropy=entropy.system)
        self.front.ticket(sent.body, "192.0.2.1", self.answer(name))
        return sent

    def change(self, kind: ChangeKind, record: KeyRecord) -> Callable[[], None]:
        """A write as a worker sees it: the counter moves now, the change itself comes when the result is called."""
        self.published += 1
        change = Change(self.published, kind, record)

        def arrive() -> None:
            self.world.directory.apply(change)
            self.front.caught_up()

        return arrive

    def audit_lines(self) -> list[dict[str, Any]]:
        self.audit.flush()
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [{name: value for name, value in line.items() if name not in ("time", "from", "jti")} for line in lines]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_ticket_is_granted_counted_and_audited(bench: Bench) -> None:
    bench.ask("a")
    assert bench.told == [("a", GRANTED)]
    assert bench.counters[Counter.TICKETS_GRANTED] == 1
    assert bench.audit_lines() == [{"event": "ticket", "outcome": "granted", "client": "ltptest", "service": "MasterService"}]


def test_refusals_are_counted_and_audited_with_who_and_what_for(bench: Bench) -> None:
    wrong = dataclasses.replace(bench.client, auth_key=bench.world.auth_service.auth_key)
    bench.ask("wrong key", wrong)
    bench.ask("no service", service="nosuch")
    body = bench.ask("first").body
    bench.front.ticket(body, "192.0.2.1", bench.answer("second"))
    bench.front.ticket(b"Token=!", "192.0.2.1", bench.answer("nonsense"))
    assert [outcome for _, outcome in bench.told] == [REFUSED, REFUSED, GRANTED, REFUSED, REFUSED]
    refused = [line for line in bench.audit_lines() if line["outcome"] == "refused"]
    assert [{**line, "event": 0, "outcome": 0} for line in refused] == [
        {"event": 0, "outcome": 0, "reason": "bad_envelope", "claimed": "ltptest", "service": "MasterService"},
        {"event": 0, "outcome": 0, "reason": "unknown_service", "client": "ltptest", "service": "nosuch"},
        {"event": 0, "outcome": 0, "reason": "verifier_replayed", "claimed": "ltptest", "service": "MasterService"},
        {"event": 0, "outcome": 0, "reason": "malformed"},
    ]
    counted = {name: bench.counters[name] for name in (Counter.TICKETS_REFUSED, Counter.REPLAYS, Counter.REQUESTS_MALFORMED)}
    assert list(counted.values()) == [4, 1, 1]


# Writes.


def test_a_deleted_key_gets_nothing_from_the_moment_the_counter_moved(bench: Bench) -> None:
    arrive = bench.change(ChangeKind.DELETE, bench.client)
    bench.ask("after the counter, before the change")
    assert bench.told == []
    assert bench.counters[Counter.WAITED_FOR_WRITE] == 1
    arrive()
    assert bench.told == [("after the counter, before the change", REFUSED)]


def test_a_write_between_proof_and_answer_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter moves while the reply is sealed: it is made again from the newer state, for the same proof."""
    real = bench.world.tickets.issue
    arrivals: list[Callable[[], None]] = []

    def issue(proven: Proven, peer: str, now: float) -> Granted:
        granted = real(proven, peer, now)
        if not arrivals:
            arrivals.append(bench.change(ChangeKind.DELETE, bench.client))
        return granted

    monkeypatch.setattr(bench.world.tickets, "issue", issue)
    bench.ask("a")
    assert bench.told == []
    arrivals[0]()
    assert bench.told == [("a", REFUSED)]
    assert bench.counters[Counter.TICKETS_GRANTED] == 0


def test_new_capabilities_are_in_the_ticket_that_waited_for_them(bench: Bench) -> None:
    changed = dataclasses.replace(bench.client, caps='{"API":["new:new:new"]}')
    arrive = bench.change(ChangeKind.PUT, changed)
    seen: list[bytes] = []
    sent = exchange.ask_ticket("ltptest", bench.client.auth_key, "MasterService", now=NOW, entropy=entropy.system)
    bench.front.ticket(sent.body, "192.0.2.1", lambda body, _status: seen.append(body))
    arrive()
    grant = exchange.accept_ticket(sent, seen[0])
    service = bench.world.directory.get("MasterService")
    assert service is not None
    assert ticket.open_(service.auth_key.reveal(), grant.ticket).caps == changed.caps


def test_of_two_writes_the_last_is_waited_for(bench: Bench) -> None:
    first = bench.change(ChangeKind.PUT, bench.client)
    second = bench.change(ChangeKind.PUT, bench.client)
    bench.ask("a")
    first()
    assert bench.told == []
    second()
    assert bench.told == [("a", GRANTED)]


def test_a_write_that_never_arrives_ends_those_who_wait_for_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_BEHIND", 2)
    arrive = bench.change(ChangeKind.PUT, bench.client)
    bench.ask("a")
    bench.clock.elapsed = 1
    bench.ask("b")
    bench.ask("one too many")
    assert bench.told == [("one too many", "503")]
    bench.clock.elapsed = PARENT_SECONDS
    bench.front.sweep()
    assert bench.told[1:] == [("a", "504")]
    arrive()
    assert bench.told[2:] == [("b", REFUSED)], "its verifier has become too old meanwhile"


# Admin requests.


def test_an_admin_request_goes_to_the_parent_with_its_route_and_peer(bench: Bench) -> None:
    for number, route in enumerate(ADMIN_ROUTES):
        bench.front.admin(route.path, b"Token=x", "2001:db8::1", bench.answer(route.word))
        kind, payload = bench.link.messages[-1]
        assert kind is Kind.ADMIN
        assert payload[4:] == bytes([number, 11]) + b"2001:db8::1Token=x"
        bench.front.admin_reply(payload[:4] + b'{"code":0}')
    assert bench.told == [(route.word, GRANTED) for route in ADMIN_ROUTES]


def test_replies_find_their_requests_in_any_order_and_others_find_none(bench: Bench) -> None:
    path = ROUTE_OF_WORD["state"].path
    for name in ("a", "b", "c"):
        bench.front.admin(path, b"", "192.0.2.1", bench.answer(name))
    numbers = [payload[:4] for _, payload in bench.link.messages]
    assert len(set(numbers)) == 3
    for number in (numbers[2], numbers[0], numbers[0], NUMBER.pack(77), numbers[1]):
        bench.front.admin_reply(number + b'{"code":0}')
    assert [name for name, _ in bench.told] == ["c", "a", "b"]


def test_admin_requests_are_bounded_in_number_and_in_time(bench: Bench) -> None:
    path = ROUTE_OF_WORD["state"].path
    for number in range(6):
        bench.front.admin(path, b"", "192.0.2.1", bench.answer(str(number)))
    assert bench.told == [("4", OVERLOADED[0].decode()[:3]), ("5", "503")]
    assert len(bench.link.messages) == 4
    bench.clock.elapsed = PARENT_SECONDS - 0.1
    bench.front.sweep()
    assert len(bench.told) == 2
    bench.clock.elapsed = PARENT_SECONDS
    bench.front.sweep()
    assert bench.told[2:] == [(str(number), NO_ANSWER[0].decode()[:3]) for number in range(4)]
    for _, payload in bench.link.messages:
        bench.front.admin_reply(payload[:4] + strictjson.dumps({"code": 0}).encode())
    assert len(bench.told) == 6, "a late reply goes to nobody"
    bench.front.admin(path, b"", "192.0.2.1", bench.answer("again"))
    assert len(bench.link.messages) == 5

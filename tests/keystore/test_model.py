"""Whatever is asked of a keystore, in whatever order: it does what a dictionary would, and forgets nothing it must remember."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.keystore.backends import BACKENDS, NOW, Backend, create, imported

from cubeauth.caps import Capabilities
from cubeauth.keys import KeyRecord
from cubeauth_authnode.keystore.base import (
    CapabilityChange,
    Change,
    ChangeCapabilities,
    ChangeKind,
    CreateKey,
    DeleteKey,
    ImportKey,
    KeyExists,
    KeystoreError,
    KeyUnknown,
    Write,
)

IDS = ["alice", "bob", "carol"]
ACCESS_KEYS = ["A" * 16, "B" * 16]
POOL = ["master:getvol:access", "auth:getkey:access", "*:*:*"]

capabilities = st.lists(st.sampled_from(POOL), unique=True).map(lambda items: Capabilities(tuple(items)))


class ByOwner(NamedTuple):
    """A change for whoever holds the access key that `id` has, or last had."""

    change: CapabilityChange
    capabilities: Capabilities
    id: str


step = st.one_of(
    st.builds(create, st.sampled_from(IDS), capabilities),
    st.builds(imported, st.sampled_from(IDS), access_key=st.sampled_from([*ACCESS_KEYS, ""]), create_ts=st.integers(0, 2 * NOW)),
    st.builds(DeleteKey, st.sampled_from(IDS)),
    st.builds(ChangeCapabilities, st.sampled_from(CapabilityChange), capabilities, st.sampled_from(IDS)),
    st.builds(ByOwner, st.sampled_from(CapabilityChange), capabilities, st.sampled_from(IDS)),
)


@dataclass
class Known:
    """What the model knows of an id; live is None after a delete."""

    kvno: int
    create_ts: int
    access_key: str
    live: tuple[str, ...] | None


class Machine(RuleBasedStateMachine):
    make: Callable[[Path], Backend]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.backend = self.make(Path(self.folder.name))
        self.store = self.backend.open()
        self.keystore_id = self.store.keystore_id
        self.now = NOW
        self.known: dict[str, Known] = {}
        self.sequence = 0
        self.secrets: set[bytes] = set()

    @rule(steps=st.lists(step, max_size=4))
    def write(self, steps: list[Write | ByOwner]) -> None:
        writes = [self._addressed(step) if isinstance(step, ByOwner) else step for step in steps]
        outcomes = self.store.apply(writes, now=self.now)
        assert len(outcomes) == len(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            self._follow(write, outcome)

    def _addressed(self, step: ByOwner) -> ChangeCapabilities:
        known = self.known.get(step.id)
        access_key = known.access_key if known and known.access_key else "Z" * 16
        return ChangeCapabilities(step.change, step.capabilities, access_key=access_key)

    @rule(seconds=st.integers(-100_000, 100_000))
    def the_clock_steps(self, seconds: int) -> None:
        self.now = max(0, self.now + seconds)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.backend.open(now=self.now)

    def _follow(self, write: Write, outcome: Change | KeystoreError) -> None:
        wanted = self._refusal(write)
        if wanted is not None:
            assert type(outcome) is wanted
            return
        assert isinstance(outcome, Change)
        self.sequence += 1
        assert outcome.sequence == self.sequence
        record = outcome.record
        self.secrets |= {record.auth_key.reveal(), record.secret_key.reveal(), record.access_key.encode()} - {b""}
        match write:
            case CreateKey():
                self._follow_create(record)
                self.known[write.id] = Known(record.kvno, record.create_ts, record.access_key, write.capabilities.api)
            case ImportKey():
                assert (record.kvno, record.create_ts) == (1, write.create_ts)
                self.known[write.id] = Known(1, write.create_ts, write.access_key, write.capabilities.api)
            case DeleteKey():
                assert outcome.kind is ChangeKind.DELETE
                self.known[write.id].live = None
            case ChangeCapabilities():
                self._follow_capabilities(write)

    def _follow_create(self, record: KeyRecord) -> None:
        last = self.known.get(record.id)
        assert record.kvno == (last.kvno if last else 0) + 1
        assert record.create_ts == max(self.now, last.create_ts + 1 if last else 0)

    def _follow_capabilities(self, write: ChangeCapabilities) -> None:
        known = self.known[self._target(write)]
        held, given = known.live or (), write.capabilities.api
        match write.change:
            case CapabilityChange.ADD:
                known.live = tuple(dict.fromkeys((*held, *given)))
            case CapabilityChange.REMOVE:
                known.live = tuple(item for item in held if item not in given)
            case CapabilityChange.SET:
                known.live = given

    def _target(self, write: ChangeCapabilities) -> str:
        if write.id:
            return write.id
        return self._owner(write.access_key)

    def _owner(self, access_key: str) -> str:
        return next((id for id, known in self.known.items() if known.access_key == access_key and known.live is not None), "")

    def _refusal(self, write: Write) -> type[KeystoreError] | None:
        match write:
            case CreateKey():
                known = self.known.get(write.id)
                return KeyExists if known and known.live is not None else None
            case ImportKey():
                return KeyExists if write.id in self.known or (write.access_key and self._owner(write.access_key)) else None
            case DeleteKey():
                return self._unknown(write.id)
            case ChangeCapabilities():
                return self._unknown(self._target(write))

    def _unknown(self, principal: str) -> type[KeystoreError] | None:
        known = self.known.get(principal)
        return None if known and known.live is not None else KeyUnknown

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert (self.store.keystore_id, self.store.sequence) == (self.keystore_id, self.sequence)
        live = {id: known for id, known in self.known.items() if known.live is not None}
        records = {record.id: record for record in self.store.records()}
        assert records.keys() == live.keys()
        for id, known in live.items():
            record = records[id]
            assert self.store.get(id) == record
            assert (record.kvno, record.create_ts, record.access_key) == (known.kvno, known.create_ts, known.access_key)
            assert record.caps == Capabilities(known.live or ()).to_json()
            if known.access_key:
                assert self.store.find_access_key(known.access_key) == record

    def teardown(self) -> None:
        self.store.close()
        everything = self.backend.everything()
        self.folder.cleanup()
        assert not [secret for secret in self.secrets if secret in everything]


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_any_history_is_what_a_dictionary_says(name: str) -> None:
    machine = type("Machine", (Machine,), {"make": staticmethod(BACKENDS[name])})
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=25))

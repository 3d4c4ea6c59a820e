"""Kill -9 at random while writing, again and again: what was acknowledged is there, and nothing is there by half."""

from __future__ import annotations

import json
import random
import secrets
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.keystore.backends import MASTER, SqliteBackend
from tests.keystore.child import SUBMITTERS, State, find, ids_of, state
from tests.keystore.children import child, read_line, read_rest

from cubeauth.caps import Capabilities
from cubeauth_authnode.keystore.base import Keystore

ROUNDS = 25
NONE, GRANTED = Capabilities().to_json(), MASTER.to_json()


class Ack(NamedTuple):
    sequence: int
    id: str
    state: State | None


@dataclass
class Witnessed:
    """What must be in the store: the last acknowledged state of each id, and the kvno that each id had come to."""

    sequence: int = 0
    states: dict[str, State | None] = field(default_factory=dict)
    kvnos: dict[str, int] = field(default_factory=dict)

    def step(self, principal: str, now: State | None) -> None:
        """One write to an id: the next of its round (child.next_write), whole."""
        last = self.states.get(principal)
        if now is None:
            assert last is not None
            assert last.caps == GRANTED
        elif last is None:
            assert (now.kvno, now.caps) == (self.kvnos.get(principal, 0) + 1, NONE)
            self.kvnos[principal] = now.kvno
        else:
            assert last.caps == NONE
            assert now == last._replace(caps=GRANTED)
        self.states[principal] = now
        self.sequence += 1


def test_no_acknowledged_write_is_lost_and_none_is_half_there(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    sys.stdout.write(f"seed {seed}\n")  # pytest shows it with a failure
    chance = random.Random(seed)
    backend, witnessed, acknowledged = SqliteBackend(tmp_path), Witnessed(), 0
    for _ in range(ROUNDS):
        for ack in _write_and_kill(tmp_path, chance):
            witnessed.step(ack.id, ack.state)
            acknowledged += 1
        # Without accepting an older copy: a crash between commit and witness must not look like one.
        with closing(backend.open()) as store:
            _check(store, witnessed)
    assert acknowledged > ROUNDS


def _write_and_kill(folder: Path, chance: random.Random) -> list[Ack]:
    """Kill it after some acknowledgements and a moment more, or a moment after its start; every line it got out."""
    with child("write", folder) as process:
        lines = [read_line(process) for _ in range(chance.choice([0, 1, chance.randrange(200), chance.randrange(200)]))]
        # The kill is to fall anywhere; there is nothing to wait for.
        time.sleep(chance.uniform(0, 0.004 if lines else 0.25))
        process.kill()
        lines += read_rest(process)
    return [_ack(line) for line in lines]


def _ack(line: str) -> Ack:
    sequence, principal, told = json.loads(line)
    return Ack(sequence, principal, None if told is None else State(*told))


def _check(store: Keystore, witnessed: Witnessed) -> None:
    """Each submitter had one write under way at most: that may be there, whole, and nothing else may differ."""
    for n in range(SUBMITTERS):
        there = {id: None if (record := find(store, id)) is None else state(record) for id in ids_of(n)}
        ahead = [id for id in ids_of(n) if there[id] != witnessed.states.get(id)]
        assert len(ahead) <= 1
        for id in ahead:
            witnessed.step(id, there[id])
    assert store.sequence == witnessed.sequence

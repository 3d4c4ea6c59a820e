"""A small world to run actions in: an Authnode, a key folder and its journal, in memory, with the rules that a real run obeys.

`run` is one run of a caller: observe, decide, act; `writes` kills it before
the write of that number. Every write checks what must hold at that instant
(nothing is used before it is journalled, nothing is touched that is not ours),
so a test that only runs is a test already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cubeauth.caps import Capabilities
from cubeauth.ids import Role
from cubeauth.keys import KeyFile, parse_key_file
from cubeauth.secret import SecretBytes
from cubeauth_resources.actions import (
    Action,
    ClaimKey,
    CreateKey,
    DeleteKey,
    RecordKeystore,
    RecordMade,
    RemoveKeyFile,
    SetCapabilities,
    Unclaim,
    WriteKeyFile,
)
from cubeauth_resources.claims import Claim, Claims, ClaimState, parse_claims
from cubeauth_resources.decide import Decision, decide
from cubeauth_resources.manifests import Desired, Document, collect
from cubeauth_resources.observed import FileState, KeyState, Observed, judge_file, watched

Write = Callable[[], None]


def auth_key(name: str, **spec: Any) -> dict[str, Any]:
    """An AuthKey manifest; `labels` and `namespace` go to its metadata."""
    metadata = {"name": name} | {field: spec.pop(field) for field in ("labels", "namespace") if field in spec}
    return _manifest("AuthKey", metadata, {"role": "client"} | spec)


def capability(name: str, *subjects: str, **spec: Any) -> dict[str, Any]:
    """A Capability manifest for subjects by name, or with `selector`."""
    metadata = {"name": name} | {field: spec.pop(field) for field in ("labels", "namespace") if field in spec}
    bound = {"subjects": [{"kind": "AuthKey", "name": subject} for subject in subjects]} if subjects else {}
    return _manifest("Capability", metadata, bound | spec)


def _manifest(kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    spec = {"clusterRef": {"name": "authnode"}} | spec
    return {"apiVersion": "auth.cubefs.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def desired(*manifests: Mapping[str, Any]) -> Desired:
    """Collected from manifests, each named by its kind and name as its source."""
    return collect(Document(manifest, f"{manifest['kind']}-{manifest['metadata']['name']}.yaml") for manifest in manifests)


class Killed(Exception):
    """The run ended here."""


@dataclass(frozen=True)
class HeldKey:
    """A key at the Authnode; serial: tells every key that was ever made from every other."""

    record: KeyFile
    capabilities: Capabilities
    serial: int


@dataclass
class World:
    """stock: an Authnode without list, keystore id and atomic change of capabilities."""

    stock: bool = False
    keystore: str = "ks-1"
    keys: dict[str, HeldKey] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    journal: str = field(default_factory=lambda: Claims().to_json())
    minted: Counter[str] = field(default_factory=Counter)
    clock: int = 1_700_000_000
    serial: int = 0

    @property
    def claims(self) -> Claims:
        return parse_claims(self.journal)

    def observe(self, wanted: Desired) -> Observed:
        pairs = watched(wanted, self.claims)
        ids = {principal for principal, _ in pairs}
        return Observed(
            keys={i: KeyState(Role(k.record.role), k.capabilities, k.record.create_ts) for i, k in self.keys.items() if i in ids},
            listed=not self.stock,
            absent=frozenset(ids - set(self.keys)) if self.stock else frozenset(),
            files={(i, file): self.file_state(i, file) for i, file in pairs},
            keystore="" if self.stock else self.keystore,
        )

    def file_state(self, principal: str, file: str) -> FileState:
        if file not in self.files:
            return FileState.ABSENT
        held = self.keys.get(principal)
        return judge_file(self.files[file], principal, held.record if held else None)

    def decide(self, wanted: Desired, *, prune: bool = False, adopt: Iterable[str] = ()) -> Decision:
        return decide(wanted, self.observe(wanted), self.claims, prune=prune, adopt=frozenset(adopt))

    def run(self, wanted: Desired, *, prune: bool = False, adopt: Iterable[str] = (), writes: int | None = None) -> Decision:
        """One run; `writes`: how many writes it lives for. Raises Killed."""
        decision = self.decide(wanted, prune=prune, adopt=adopt)
        for number, write in enumerate(self._writes(decision.actions)):
            if number == writes:
                raise Killed
            write()
        return decision

    def survive(self, wanted: Desired, *, prune: bool = False, adopt: Iterable[str] = (), kills: Iterable[int] = ()) -> Decision:
        """Runs killed after so many writes each, and then one that is left alone."""
        for writes in kills:
            try:
                self.run(wanted, prune=prune, adopt=adopt, writes=writes)
            except Killed:
                continue
        return self.run(wanted, prune=prune, adopt=adopt)

    def _writes(self, actions: Iterable[Action]) -> Iterator[Write]:
        for action in actions:
            yield from self._writes_of(action)

    def _writes_of(self, action: Action) -> Iterator[Write]:
        if isinstance(action, SetCapabilities) and self.stock:
            yield lambda: self._set(action.id, self.keys[action.id].capabilities.minus(action.removed))
            yield lambda: self._set(action.id, self.keys[action.id].capabilities.union(action.added))
        else:
            yield lambda: self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case RecordKeystore():
                self._journal(self.claims.with_keystore(action.keystore))
            case ClaimKey():
                self._journal(self.claims.with_claim(action.claim))
            case CreateKey():
                assert self.claim(action.id).state is ClaimState.CLAIMED, "a key is journalled before it is made"
                self.make(action.id, action.role.value, action.capabilities)
                self.minted[action.id] += 1
            case RecordMade():
                held = self.keys[action.id].record.create_ts
                assert action.create_ts in (None, held)
                self._journal(self.claims.with_made(action.id, held))
            case SetCapabilities():
                assert self.keys[action.id].capabilities == action.before
                self._set(action.id, action.after)
            case WriteKeyFile():
                assert self._is_ours(action.id), "only a key that is ours is read into a file"
                self.files[action.file] = self.keys[action.id].record.to_json().encode()
            case DeleteKey():
                assert self._is_ours(action.id), "only a key that is ours is deleted"
                assert not self.claim(action.id).retains
                del self.keys[action.id]
            case RemoveKeyFile():
                assert self.claim(action.id).file == action.file, "only a file that is ours is removed"
                del self.files[action.file]
            case Unclaim():
                self._journal(self.claims.without(action.id))

    def claim(self, principal: str) -> Claim:
        claim = self.claims.of(principal)
        assert claim is not None, f"{principal} has no claim"
        return claim

    def _is_ours(self, principal: str) -> bool:
        claim = self.claim(principal)
        return claim.state is ClaimState.MADE and claim.create_ts == self.keys[principal].record.create_ts

    def _journal(self, claims: Claims) -> None:
        self.journal = claims.to_json()

    def make(self, principal: str, role: str = "client", capabilities: Capabilities | None = None) -> HeldKey:
        """A key made at the Authnode, by a run or by somebody else."""
        assert principal not in self.keys, f"{principal} exists"
        capabilities = capabilities or Capabilities()
        self.clock += 1
        self.serial += 1
        key = SecretBytes(self.serial.to_bytes(32, "big"))
        record = KeyFile(principal, key, "", SecretBytes(b""), self.clock, role, capabilities.to_json())
        self.keys[principal] = HeldKey(record, capabilities, self.serial)
        return self.keys[principal]

    def _set(self, principal: str, capabilities: Capabilities) -> None:
        held = self.keys[principal]
        self.keys[principal] = replace(held, capabilities=capabilities, record=replace(held.record, caps=capabilities.to_json()))

    def edit(self, principal: str, capabilities: Capabilities) -> None:
        """Somebody changes capabilities at the Authnode by hand."""
        self._set(principal, capabilities)

    def outcome(self) -> object:
        """What there is, without what is different in every world: secrets and times."""
        keys = {i: (k.record.role, sorted(_texts(k.capabilities))) for i, k in self.keys.items()}
        files = {
            name: (parse_key_file(text).id, self.file_state(parse_key_file(text).id, name)) for name, text in self.files.items()
        }
        journal = [replace(claim, create_ts=0) for claim in self.claims.entries]
        return keys, files, self.claims.keystore, journal


def _texts(capabilities: Capabilities) -> list[str]:
    return [*capabilities.api, *capabilities.owner_vol, *capabilities.none_owner_vol]

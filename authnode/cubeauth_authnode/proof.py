"""What every request must show, a ticket request or an admin request: a fresh verifier, seen once, made for this body."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

from cubeauth import exchange, ids, verifier
from cubeauth.caps import Capabilities
from cubeauth.entropy import Entropy
from cubeauth.errors import AuthenticationFailed
from cubeauth.keys import KEY_BYTES, KeyRecord
from cubeauth.secret import SecretBytes

AUTH_SERVICE_CAPS = Capabilities(api=("*:*:*",))


class ReplayMemory(Protocol):
    """Where a proof is remembered; the shared table, in a running Authnode."""

    def remember(self, key: bytes, *, proof_time: int, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What an administrator decided. lifetime, skew: seconds; require_bound: ids whose verifiers must be bound, None for all."""

    lifetime: int
    skew: int
    require_bound: frozenset[str] | None


def auth_service_record(service_key: SecretBytes) -> KeyRecord:
    """The built-in principal AuthService (protocol-v1, section 3): kvno 0, never in the keystore."""
    caps = AUTH_SERVICE_CAPS.to_json()
    return KeyRecord(ids.AUTH_SERVICE, 0, ids.Role.SERVICE, service_key, "", SecretBytes(b""), 0, caps)


class ProofChecker:
    """Opens verifiers, and remembers them once they are known to be good."""

    def __init__(self, replay: ReplayMemory, policy: Policy, entropy: Entropy) -> None:
        self._replay = replay
        self._policy = policy
        self._nobody = SecretBytes(entropy(KEY_BYTES))
        self.nobody = exchange.prepared(self._nobody)
        """A key that no principal has: what belongs to nobody is opened with it, for the same work and the same failure."""

    def waste_opening(self, proof: bytes) -> None:
        """The work of a verifier under a session key, where there is no session key."""
        with contextlib.suppress(AuthenticationFailed):
            verifier.open_(self._nobody.reveal(), proof)

    def waste_setting_up(self) -> None:
        """The work of setting a principal's key up, where it was set up already or there is none."""
        exchange.prepared(self._nobody)

    def check(
        self,
        key: bytes | exchange.PreparedKey,
        client_id: str,
        proof: bytes,
        *,
        body: dict[str, Any],
        holder: dict[str, Any],
        now: float,
    ) -> verifier.Verifier:
        """Open and check `proof`, the decoded verifier that stood in `holder`, a part of `body`. Raises AuthenticationFailed."""
        opened = verifier.open_(key, proof)
        required = self._policy.require_bound
        verifier.check(opened, now=now, skew=self._policy.skew, require_bound=required is None or client_id in required)
        exchange.check_binding(opened, body, holder)
        self._replay.remember(verifier.replay_key(client_id, proof), proof_time=opened.time, now=now)
        return opened

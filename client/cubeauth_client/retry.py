"""Whether and when to try again: a verdict, never a sleep.

Delays are exponential with full jitter: each is drawn evenly from nothing to
a bound that doubles, so that many clients of an Authnode that came back do
not arrive together.
"""

from __future__ import annotations

from dataclasses import dataclass

from cubeauth.entropy import Entropy

_DRAW_BYTES = 7  # 53 of their 56 bits fit a float whole


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """rounds: tries at each endpoint, the first included; base, ceiling: seconds, bounds of the first and of any delay;
    total: seconds that everything together may take."""

    rounds: int = 3
    base: float = 0.25
    ceiling: float = 4.0
    total: float = 20.0


def uniform(entropy: Entropy, bound: float) -> float:
    """Evenly from 0 up to, not including, `bound`."""
    return (int.from_bytes(entropy(_DRAW_BYTES)) >> 3) / 2**53 * bound


def full_jitter(base: float, ceiling: float, failures: int, entropy: Entropy) -> float:
    """Seconds to wait after `failures` (1 or more) in a row."""
    # The exponent is bounded, so that a service that is away for days does not overflow a float.
    return uniform(entropy, min(ceiling, base * 2.0 ** min(failures - 1, 32)))


def next_delay(policy: RetryPolicy, *, rounds: int, elapsed: float, entropy: Entropy) -> float | None:
    """Seconds until the next round, or None to give up. rounds: done so far; elapsed: seconds since the first began."""
    if rounds >= policy.rounds:
        return None
    delay = full_jitter(policy.base, policy.ceiling, rounds, entropy)
    return delay if elapsed + delay < policy.total else None

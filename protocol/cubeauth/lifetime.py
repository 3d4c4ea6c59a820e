"""How long a channel lives: its ticket's exp, later ones by renewal, and a grace (protocol-v1, section 7, Lifetime).

Grace is for the outage of an Authnode, and only on our own word: our own last
try at it, at most 60 s old, got no answer. A peer cannot ask for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

DEFAULT_GRACE = 3600.0
"""Seconds."""

TRY_COUNTS_FOR = 60.0
"""Seconds that an unanswered try stands for an Authnode that is away."""

UnansweredTry = Callable[[], float | None]


def always_answered() -> float | None:
    """For who never has grace."""
    return None


class Lifetime:
    """exp: unix seconds, inf where it is not known. in_grace: whether the channel lives on past it."""

    def __init__(self, exp: float, grace: float, unanswered_try: UnansweredTry) -> None:
        self.exp = exp
        self.in_grace = False
        self._grace = grace
        self._unanswered_try = unanswered_try

    def renew(self, exp: float) -> None:
        self.exp = exp
        self.in_grace = False

    def over(self, now: float) -> bool:
        """Whether the channel must end at `now`; decides about grace."""
        self.in_grace = now >= self.exp and now < self._grace_end()
        return now >= self.exp and not self.in_grace

    def next_check(self) -> float | None:
        """When `over` may turn true, unix seconds; None for never."""
        if math.isinf(self.exp):
            return None
        return self._grace_end() if self.in_grace else self.exp

    def _grace_end(self) -> float:
        last = self._unanswered_try()
        if last is None:
            return self.exp
        # "At most 60 s old" is still good at 60 s exactly, so the end is just after.
        return min(self.exp + self._grace, math.nextafter(last + TRY_COUNTS_FOR, math.inf))

"""The scenes in their order, played one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cubeauth.errors import CubeauthError
from cubeauth_cli.demo import scenes
from cubeauth_cli.demo.scenes import Outcome, Story
from cubeauth_runtime.clock import Clock


@dataclass(frozen=True)
class Step:
    """name: for programs; title: for people; refusal: the step shows somebody being refused."""

    name: str
    title: str
    play: Callable[[Story], Awaitable[Outcome]]
    refusal: bool = False


STEPS = (
    Step("authnode", "an Authnode starts", scenes.authnode_starts),
    Step("apply", "manifests become keys", scenes.keys_are_made),
    Step("apply-again", "and nothing is made twice", scenes.nothing_twice),
    Step("ticket", "a key gets a ticket", scenes.ticket_is_fetched),
    Step("sidecars", "a service and two sidecars start", scenes.sidecars_start),
    Step("through", "handshake, and bytes through", scenes.bytes_go_through),
    Step("no-ticket", "no ticket", scenes.no_ticket, refusal=True),
    Step("other-service", "a ticket for another service", scenes.ticket_for_another_service, refusal=True),
    Step("capability", "a ticket without the capability", scenes.missing_capability, refusal=True),
    Step("replay", "a verifier that was used before", scenes.replayed_verifier, refusal=True),
    Step("deleted", "a key that was deleted", scenes.deleted_key, refusal=True),
    Step("flipped-bit", "one bit of the stream flipped", scenes.flipped_bit, refusal=True),
    Step("expired", "a ticket whose time is over", scenes.expired_ticket, refusal=True),
    Step("goes-on", "who has the right goes on", scenes.still_works),
)


@dataclass
class Played:
    """A step that was played. problem: "" when it ended as it must; seconds: how long it took."""

    step: Step
    seconds: float
    outcome: Outcome = field(default_factory=lambda: Outcome([]))
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"step": self.step.name, "title": self.step.title, "ok": not self.problem}
        if self.step.refusal:
            facts |= {"wire": self.outcome.wire, "reason": self.outcome.audit.get("reason", "")}
        if self.problem:
            facts["problem"] = self.problem
        return facts | {"told": self.outcome.told, "audit": self.outcome.audit, "seconds": round(self.seconds, 2)}


async def play(story: Story, clock: Clock, begun: Callable[[Step], None], ended: Callable[[Played], None]) -> bool:
    """Whether every step ended as it must; the first that does not is the last that is played."""
    for step in STEPS:
        begun(step)
        started = clock.monotonic()
        played = Played(step, 0.0)
        try:
            played.outcome = await step.play(story)
        except (CubeauthError, OSError, TimeoutError) as e:
            played.problem = str(e) or type(e).__name__
        played.seconds = clock.monotonic() - started
        ended(played)
        if played.problem:
            return False
    return True

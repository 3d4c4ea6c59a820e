"""What a run tells: a line for each action with its reason, one for each problem, a summary; or all of it as one document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cubeauth_cli import console
from cubeauth_cli.apply.act import Outcome, chains, id_of
from cubeauth_resources.actions import (
    Action,
    ClaimKey,
    CreateKey,
    DeleteKey,
    RecordMade,
    RemoveKeyFile,
    SetCapabilities,
    Unclaim,
    WriteKeyFile,
)
from cubeauth_resources.reports import Notice, Problem

_COUNTED: dict[type, tuple[str, str]] = {
    CreateKey: ("key made", "keys made"),
    SetCapabilities: ("key changed", "keys changed"),
    DeleteKey: ("key deleted", "keys deleted"),
    WriteKeyFile: ("key file written", "key files written"),
    RemoveKeyFile: ("key file removed", "key files removed"),
}


@dataclass(slots=True)
class Report:
    """authnode: as the command line named it; keystore: its id, "" for a stock one; wanted: keys in the manifests.

    as_json: nothing is printed before `close`.
    """

    authnode: str
    wanted: int
    dry_run: bool
    as_json: bool
    keystore: str = ""
    actions: list[Action] = field(default_factory=list)
    problems: Sequence[Problem] = ()
    notices: Sequence[Notice] = ()
    outcomes: list[Outcome] = field(default_factory=list)

    def note(self, notices: Sequence[Notice]) -> None:
        self.notices = notices
        if not self.as_json:
            for notice in notices:
                console.note(f"cubeauth: note: {notice}")

    def planned(self, actions: Iterable[Action]) -> None:
        """What a dry run would do."""
        for chain in chains(actions):
            self.actions += chain
            for action in _worth_a_line(chain):
                self._say(f"would {action.summary} ({action.reason})")

    def done(self, outcome: Outcome) -> None:
        """One key's actions have ended."""
        self.outcomes.append(outcome)
        self.actions += outcome.done
        for action in _worth_a_line(outcome.done):
            self._say(f"{action.summary} ({action.reason})")
        if outcome.failed is not None and not self.as_json:
            console.error(f"{outcome.failed.summary}: {outcome.error}")

    def _say(self, text: str) -> None:
        if not self.as_json:
            console.out(text)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failed is not None]

    @property
    def not_tried(self) -> list[str]:
        return [outcome.id for outcome in self.outcomes if outcome.failed is None and outcome.left]

    @property
    def all_is_well(self) -> bool:
        return not (self.problems or self.failures or self.not_tried)

    def close(self, problems: Sequence[Problem]) -> None:
        """Tell what is left undone, and the summary."""
        self.problems = problems
        if self.as_json:
            console.out_json(self.document())
            return
        for problem in problems:
            console.error(str(problem))
        if self.not_tried:
            count = _of(len(self.not_tried), "key", "keys")
            console.error(f"not tried after that: {count}; apply again when the Authnode answers")
        console.out(self.summary())

    def summary(self) -> str:
        wrong = len(self.problems) + len(self.failures) + len(self.not_tried)
        left = f"; left undone: {wrong}" if wrong else ""
        if not self.actions:
            return f"nothing done{left}" if wrong else f"nothing to do: {_of(self.wanted, 'key is', 'keys are')} as wanted"
        count = Counter(type(action) for action in self.actions)
        parts = [_of(count[kind], *words) for kind, words in _COUNTED.items() if count[kind]]
        adopted = sum(isinstance(action, ClaimKey) and action.claim.adopted for action in self.actions)
        parts += [_of(adopted, "key adopted", "keys adopted")] if adopted else []
        text = ", ".join(parts) or "the journal brought up to date"
        return f"{'dry run, nothing was done; it would be: ' if self.dry_run else ''}{text}{left}"

    def document(self) -> dict[str, Any]:
        return {
            "authnode": self.authnode,
            "keystore": self.keystore,
            "dry_run": self.dry_run,
            "ok": self.all_is_well,
            "actions": [_action(action) for action in self.actions],
            "failures": [_failure(outcome) for outcome in self.failures],
            "not_tried": self.not_tried,
            "problems": [_problem(problem) for problem in self.problems],
            "notices": [{"source": notice.source, "subject": notice.subject, "text": notice.text} for notice in self.notices],
            "summary": self.summary(),
        }


def _worth_a_line(chain: Sequence[Action]) -> Sequence[Action]:
    """Of one key: what was done to it; what the journal needed for that only where nothing else was done, and in the document."""
    told = [action for action in chain if not _is_bookkeeping(action)]
    return told or chain


def _is_bookkeeping(action: Action) -> bool:
    return isinstance(action, (RecordMade, Unclaim)) or (isinstance(action, ClaimKey) and not action.claim.adopted)


def _of(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _action(action: Action) -> dict[str, str]:
    told = {"action": type(action).__name__, "summary": action.summary, "reason": action.reason}
    return {"id": id_of(action), **told}


def _failure(outcome: Outcome) -> dict[str, str]:
    return {"id": outcome.id, "action": type(outcome.failed).__name__, "error": outcome.error}


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "reason": problem.reason.value,
        "id": problem.id,
        "source": problem.source,
        "field": problem.field,
        "text": problem.text,
        "remedy": problem.remedy,
    }

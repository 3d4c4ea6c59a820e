"""`cubeauth apply`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import click

from cubeauth import ids
from cubeauth.errors import InputError, shown
from cubeauth_cli import console
from cubeauth_cli.administrator import Administrator, administrator
from cubeauth_cli.app import CONTEXT, json_option
from cubeauth_cli.apply.act import Outcome, Run, chains
from cubeauth_cli.apply.folder import KeyFolder
from cubeauth_cli.apply.journal import Journal
from cubeauth_cli.apply.manifest_files import read_documents
from cubeauth_cli.apply.observe import Seen, observe
from cubeauth_cli.apply.report import Report
from cubeauth_cli.endings import FAILED
from cubeauth_resources.actions import Action
from cubeauth_resources.claims import Claims
from cubeauth_resources.decide import decide
from cubeauth_resources.manifests import Desired, ManifestErrors, collect
from cubeauth_resources.observed import watched
from cubeauth_resources.reports import Problem, ProblemReason
from cubeauth_runtime.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line allows beside the manifests. accepted: a keystore that may take the place of the one before."""

    prune: bool
    dry_run: bool
    adopt: frozenset[str]
    accepted: str


@click.command("apply", context_settings=CONTEXT)
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="PATH", help="A manifest, a folder of them, or -.")
@click.option("--authnode", required=True, metavar="URL", help="The Authnode, or several addresses of it with commas.")
@click.option("--admin-key", required=True, type=Path, metavar="FILE", help="Key file of AuthService or another administrator.")
@click.option("--keys", required=True, type=Path, metavar="DIR", help="Where key files go, and the journal of what was made.")
@click.option("--ca-file", type=Path, metavar="FILE", help="The CA to trust for https, in place of the system's.")
@click.option("--prune", is_flag=True, help="Delete keys that were made here and are in no manifest any more.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing anywhere.")
@click.option("--adopt", multiple=True, metavar="ID", help="Take this key over though it was not made here.")
@click.option(
    "--accept-keystore", default="", metavar="ID", help="Go on with this keystore in place of the one the journal is about."
)
@json_option
def command(
    *,
    files: tuple[str, ...],
    authnode: str,
    admin_key: Path,
    keys: Path,
    ca_file: Path | None,
    prune: bool,
    dry_run: bool,
    adopt: tuple[str, ...],
    accept_keystore: str,
    as_json: bool,
) -> int:
    """Make keys, capabilities and key files what manifests say.

    AuthKeys become keys at the Authnode and key files (mode 0600) in DIR; Capabilities become what those keys may do. A second
    run does nothing. What was not made here is never touched.
    """
    try:
        desired = collect(read_documents(files))
    except ManifestErrors as e:
        for error in e.errors:
            console.error(str(error))
        return FAILED
    admin = administrator(authnode, admin_key, ca_file, option="--authnode", clock=SystemClock())
    wishes = Wishes(prune, dry_run, _adopted(adopt), accept_keystore)
    report = Report(authnode, len(desired.keys), dry_run, as_json)
    Applying(desired, admin, KeyFolder(keys), wishes, report).run()
    return 0 if report.all_is_well else FAILED


def _adopted(names: Sequence[str]) -> frozenset[str]:
    for name in names:
        if not ids.valid_id(name):
            raise InputError("--adopt", f"{shown(name, ids.MAX_SHOWN_ID)} is not an id", f"an id has {ids.ID_RULE}")
    return frozenset(names)


@dataclass(frozen=True, slots=True)
class Applying:
    """One run: observe, decide, act."""

    desired: Desired
    admin: Administrator
    folder: KeyFolder
    wishes: Wishes
    report: Report

    def run(self) -> None:
        """Raises InputError and the client's errors where it cannot begin, JournalUnwritable where it cannot go on."""
        with ExitStack() as held:
            if not self.wishes.dry_run:
                held.enter_context(self.folder.locked())
            claims = self.folder.read_journal()
            if not self.wishes.dry_run:
                self.folder.clear_unfinished([name for _, name in watched(self.desired, claims)])
            asyncio.run(self._run(claims))

    async def _run(self, claims: Claims) -> None:
        seen = await observe(self.admin, self.folder, watched(self.desired, claims))
        self.report.keystore = seen.observed.keystore
        if self.wishes.accepted and self.wishes.accepted == seen.observed.keystore:
            claims = claims.with_keystore("")
        decision = decide(self.desired, seen.observed, claims, prune=self.wishes.prune, adopt=self.wishes.adopt)
        self.report.note(decision.notices)
        if self.wishes.dry_run:
            self.report.planned(decision.actions)
        else:
            await self._act(decision.actions, Run(self.admin.client, self.folder, Journal(self.folder, claims), stock=seen.stock))
        self.report.close([_explained(problem, seen) for problem in decision.problems])

    async def _act(self, actions: Sequence[Action], run: Run) -> None:
        with console.progress("Applying", len(chains(actions))) as advance:

            def done(outcome: Outcome) -> None:
                self.report.done(outcome)
                advance()

            await run.act(actions, done)


def _explained(problem: Problem, seen: Seen) -> Problem:
    """With what only this side knows."""
    if problem.reason is ProblemReason.UNKNOWN and problem.id in seen.untold:
        return replace(problem, text=f"{problem.text} in a way that is understood here: {seen.untold[problem.id]}", remedy="")
    if problem.reason is ProblemReason.CLUSTER_CHANGED and seen.observed.keystore:
        keystore = seen.observed.keystore
        return replace(
            problem,
            remedy=f"{problem.remedy}; if this one took its place, say --accept-keystore {keystore}: lost keys are made anew",
        )
    return problem

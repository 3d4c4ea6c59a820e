"""The parts of `cubeauth apply` that no Authnode is needed for: requests in flight, the journal, the key folder, its report."""

from __future__ import annotations

import asyncio
import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.waiting import until

from cubeauth.caps import Capabilities
from cubeauth.errors import InputError, LocalMisuse
from cubeauth.ids import Role
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes
from cubeauth_cli.apply.act import Outcome, chains
from cubeauth_cli.apply.folder import JOURNAL, LOCK, KeyFolder
from cubeauth_cli.apply.journal import Journal, JournalUnwritable
from cubeauth_cli.apply.manifest_files import read_documents
from cubeauth_cli.apply.report import Report
from cubeauth_cli.in_flight import run_all
from cubeauth_resources.actions import ClaimKey, CreateKey, RecordMade, Unclaim, WriteKeyFile
from cubeauth_resources.claims import Claim, Claims, ClaimState, parse_claims
from cubeauth_resources.manifests import ManifestErrors
from cubeauth_resources.model import DeletionPolicy, ObjectRef
from cubeauth_resources.observed import FileState


def claim(principal: str) -> Claim:
    owner = ObjectRef("AuthKey", "", principal)
    return Claim(principal, owner, f"{principal}.json", DeletionPolicy.DELETE, False, ClaimState.CLAIMED, 0)


# Requests in flight.


async def test_at_most_so_many_run_and_all_are_told_in_order() -> None:
    running, most, told = 0, 0, list[int]()
    gates = [asyncio.Event() for _ in range(6)]

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if number == 2:
            for gate in gates:
                gate.set()
        elif number < 2:
            await gates[number].wait()
        running -= 1
        return number

    await run_all([partial(work, number) for number in range(6)], limit=3, on_done=told.append)
    assert (told, most) == ([0, 1, 2, 3, 4, 5], 3)


async def test_the_first_error_ends_the_others_and_is_raised_as_it_is() -> None:
    ended = list[str]()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def fails() -> None:
        raise InputError("field", "is wrong")

    with pytest.raises(InputError, match="field: is wrong"):
        await run_all([waits, fails], limit=2, on_done=lambda _: None)
    assert ended == ["cancelled"]


# The journal.


async def test_every_change_is_on_disk_when_its_caller_goes_on(tmp_path: Path) -> None:
    journal = Journal(KeyFolder(tmp_path), Claims("ks"))

    async def change(principal: str) -> None:
        await journal.put(claim(principal))
        assert parse_claims((tmp_path / JOURNAL).read_bytes()).of(principal) is not None
        await journal.record_made(principal, 7)
        found = parse_claims((tmp_path / JOURNAL).read_bytes()).of(principal)
        assert found is not None
        assert (found.state, found.create_ts) == (ClaimState.MADE, 7)

    await asyncio.gather(*(change(f"key{n}") for n in range(50)))
    await journal.drop("key7")
    claims = parse_claims((tmp_path / JOURNAL).read_bytes())
    assert (claims.keystore, len(claims.entries)) == ("ks", 49)


async def test_changes_that_wait_share_a_writing(tmp_path: Path) -> None:
    folder, writings, go = KeyFolder(tmp_path), list[int](), threading.Event()

    def write(claims: Claims) -> None:
        writings.append(len(claims.entries))
        assert go.wait(30)

    folder.write_journal = write  # type: ignore[method-assign]  # to hold the first writing up while others come
    journal = Journal(folder, Claims())
    tasks = [asyncio.get_running_loop().create_task(journal.put(claim(f"key{n}"))) for n in range(200)]
    await until("the first writing to begin", lambda: len(writings) > 0)
    go.set()
    await asyncio.gather(*tasks)
    assert writings == [1, 200]


async def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    journal = Journal(KeyFolder(tmp_path / "gone"), Claims())
    with pytest.raises(JournalUnwritable, match=r"gone/\.cubeauth-claims: cannot be written"):
        await journal.put(claim("alice"))


def test_what_no_decision_journalled_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(LocalMisuse):
        Journal(KeyFolder(tmp_path), Claims()).claim("alice")


# The key folder.


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    with folder.locked():
        assert oct(folder.path.stat().st_mode)[-3:] == "700"
        assert folder.read_journal() == Claims()


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    """Not even when it fails; a folder that was there stays."""
    for folder, left in ((tmp_path / "keys", [tmp_path / "there"]), (tmp_path / "there", [tmp_path / "there"])):
        (tmp_path / "there").mkdir(exist_ok=True)
        with pytest.raises(RuntimeError), KeyFolder(folder).locked():
            raise RuntimeError
        assert sorted(tmp_path.rglob("*")) == left


def test_a_run_that_wrote_its_journal_keeps_the_lock_beside_it(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    with folder.locked():
        folder.write_journal(Claims())
    assert sorted(path.name for path in folder.path.iterdir()) == [JOURNAL, LOCK]


def test_a_lock_that_was_cleared_away_before_it_was_taken_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    flock = fcntl.flock

    def cleared_away_first(fd: int, how: int) -> None:
        if not taken:
            (tmp_path / LOCK).unlink()
        taken.append(fd)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", cleared_away_first)
    with KeyFolder(tmp_path).locked():
        assert len(taken) == 2
        with pytest.raises(InputError, match="another cubeauth apply"), KeyFolder(tmp_path).locked():
            raise AssertionError("two have the lock")


def test_runs_that_clear_away_behind_each_other_still_take_turns(tmp_path: Path) -> None:
    inside, turns = [0], [0]

    def run() -> None:
        for _ in range(300):
            with suppress(InputError), KeyFolder(tmp_path / "keys").locked():
                inside[0] += 1
                assert inside[0] == 1, "two have the lock"
                turns[0] += 1
                inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(run) for _ in range(4)]:
            done.result()
    assert turns[0] > 0
    # The folder may stay: who made it finds another run's lock in it, and that one did not make it.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_run_at_a_time_and_the_next_one_after_it(tmp_path: Path) -> None:
    first, second = KeyFolder(tmp_path), KeyFolder(tmp_path)
    with first.locked(), pytest.raises(InputError, match="another cubeauth apply works in this folder"), second.locked():
        raise AssertionError("two have the lock")
    with second.locked():
        pass


def test_what_cannot_be_read_is_somebody_elses(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    held = KeyFile("alice", SecretBytes(b"k" * 32), caps="{}")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "dangling.json").symlink_to("nowhere")
    (tmp_path / "other.json").write_text(KeyFile("bob", SecretBytes(b"k" * 32)).to_json())
    folder.write_key("right.json", held)
    folder.write_key("stale.json", KeyFile("alice", SecretBytes(b"k" * 32)))
    folder.write_key("old.json", KeyFile("alice", SecretBytes(b"o" * 32)))
    states = {
        name: folder.judge(f"{name}.json", "alice", held)
        for name in ("absent", "folder", "dangling", "other", "right", "stale", "old")
    }
    assert states == {
        "absent": FileState.ABSENT,
        "folder": FileState.FOREIGN,
        "dangling": FileState.FOREIGN,
        "other": FileState.FOREIGN,
        "right": FileState.RIGHT,
        "stale": FileState.STALE,
        "old": FileState.DIFFERS,
    }


# Manifests.


def test_all_files_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.yaml").write_text("kind: AuthKey")
    with pytest.raises(ManifestErrors) as caught:
        read_documents([str(tmp_path), str(tmp_path / "gone.yaml")])
    assert [error.source.rpartition("/")[2] for error in caught.value.errors] == ["a.yaml:1", "b.json", "gone.yaml"]


def test_a_document_is_named_by_its_line_where_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# first\na: 1\n---\n# second\nb: 2\n")
    (tmp_path / "b.yaml").write_text("c: 3\n")
    sources = [document.source.rpartition("/")[2] for document in read_documents([str(tmp_path)])]
    assert sources == ["a.yaml:2", "a.yaml:3", "b.yaml"]
    (tmp_path / "a.yaml").write_text('{"a": 1}\n---\n{"b": 2}\n--- {"c": 3}\n')
    sources = [document.source.rpartition("/")[2] for document in read_documents([str(tmp_path / "a.yaml")])]
    assert sources == ["a.yaml:1", "a.yaml:2", "a.yaml:4"]


# What is told.


def actions(principal: str) -> list[ClaimKey | CreateKey | RecordMade | WriteKeyFile]:
    return [
        ClaimKey(claim(principal), "why"),
        CreateKey(principal, Role.CLIENT, Capabilities(), "why"),
        RecordMade(principal, None, "why"),
        WriteKeyFile(principal, f"{principal}.json", "why"),
    ]


def test_actions_of_one_key_stay_together_and_in_order() -> None:
    mixed = [action for pair in zip(actions("a"), actions("b"), strict=True) for action in pair]
    assert chains(mixed) == [actions("a"), actions("b")]


def test_the_journals_lines_are_told_where_nothing_else_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("a:1", 2, dry_run=False, as_json=False)
    report.done(Outcome("a", [*actions("a")]))
    report.done(Outcome("b", [Unclaim("b", "it is gone")]))
    report.close(())
    assert capsys.readouterr().out.splitlines() == [
        "create key a, role client, 0 capabilities (why)",
        "write key file a.json (why)",
        "drop b from the journal (it is gone)",
        "1 key made, 1 key file written",
    ]


def test_what_was_not_tried_counts_as_left_undone(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("a:1", 2, dry_run=False, as_json=False)
    report.done(Outcome("a", [], failed=actions("a")[1], error="no answer", left=(actions("a")[2],)))
    report.done(Outcome("b", [], left=tuple(actions("b"))))
    report.close(())
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "cubeauth: error: create key a, role client, 0 capabilities: no answer",
        "cubeauth: error: not tried after that: 1 key; apply again when the Authnode answers",
    ]
    assert captured.out == "nothing done; left undone: 2\n"
    assert not report.all_is_well

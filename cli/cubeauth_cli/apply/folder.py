"""The key folder: who works in it, the key files, and the journal beside them.

Key files are named by their manifests and never begin with a dot, so what
does begin with one is ours.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cubeauth.errors import InputError
from cubeauth.keys import KeyFile
from cubeauth_resources.claims import Claims, parse_claims
from cubeauth_resources.observed import FileState, judge_file
from cubeauth_runtime.files import MAX_FILE_BYTES, PRIVATE, read_bounded, sync_folder, write_atomically

JOURNAL = ".cubeauth-claims"
LOCK = ".cubeauth-claims.lock"
PRIVATE_FOLDER = 0o700

MAX_JOURNAL_BYTES = 16 * MAX_FILE_BYTES
"""Some 200 bytes a key."""

TRIES = 100
"""Each is lost only to another run that cleared away in that very moment."""

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")
"""What files.write_atomically leaves of a file when it is killed."""


class KeyFolder:
    """path: as `--keys` gave it; it need not be there until `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise InputError("--keys", "not a folder", "name the folder for key files", source=str(path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time, in a folder that is made, for its owner alone, where it is missing.

        The kernel's lock, which ends with the process. Where there is no journal in the end, nothing was made here: then the
        file of the lock goes too, and a folder that was made for this. Raises InputError.
        """
        made, fd = self._lock()
        try:
            yield
        finally:
            if not os.path.lexists(self.path / JOURNAL):
                self._clear_away(with_folder=made)
            os.close(fd)

    def _lock(self) -> tuple[bool, int]:
        """Whether the folder was made, and the lock's descriptor."""
        made = False
        for _ in range(TRIES):
            made = self._make() or made
            fd = self._open_lock()
            if fd is None:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                break
            if self._is_there(fd):
                return made, fd
            os.close(fd)
        problem = "another cubeauth apply works in this folder"
        raise InputError("--keys", problem, "run this one when that has ended", source=str(self.path))

    def _make(self) -> bool:
        try:
            self.path.mkdir(mode=PRIVATE_FOLDER)
        except FileExistsError:
            return False
        except OSError as e:
            raise InputError(
                "--keys", f"cannot be made: {e.strerror}", "make the folder it is in", source=str(self.path)
            ) from None
        return True

    def _open_lock(self) -> int | None:
        """None where another run has just cleared its folder away."""
        path = self.path / LOCK
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise InputError(
                "", f"cannot be written: {e.strerror}", "look at the folder's owner and mode", source=str(path)
            ) from None

    def _is_there(self, fd: int) -> bool:
        """Whether others find the lock that was taken: another run may have cleared the file away between opening and locking."""
        try:
            return os.path.samestat(os.fstat(fd), (self.path / LOCK).stat())
        except FileNotFoundError:
            return False

    def _clear_away(self, *, with_folder: bool) -> None:
        """Under the lock. A folder that holds anything, another run's new lock for one, stays."""
        with suppress(OSError):
            (self.path / LOCK).unlink()
            if with_folder:
                self.path.rmdir()

    def clear_unfinished(self, names: Collection[str]) -> None:
        """Take away what killed runs left of the journal and of these key files. Under the lock only."""
        ours = {JOURNAL, *names}
        for path in list(self.path.iterdir()):
            found = _UNFINISHED.fullmatch(path.name)
            if found and found["name"] in ours:
                path.unlink(missing_ok=True)

    # The journal.

    def read_journal(self) -> Claims:
        """What earlier runs made here. Raises InputError."""
        path = self.path / JOURNAL
        if not os.path.lexists(path):
            return Claims()
        try:
            return parse_claims(read_bounded(path, limit=MAX_JOURNAL_BYTES))
        except InputError as e:
            raise e.located(str(path)) from None

    def write_journal(self, claims: Claims) -> None:
        """Raises InputError."""
        write_atomically(self.path / JOURNAL, claims.to_json().encode("utf-8"))

    # Key files.

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path / name)

    def judge(self, name: str, principal: str, held: KeyFile | None) -> FileState:
        """How a file compares with what the Authnode holds; one that cannot be read is somebody else's."""
        if not self.has(name):
            return FileState.ABSENT
        try:
            content = read_bounded(self.path / name)
        except InputError:
            return FileState.FOREIGN
        return judge_file(content, principal, held)

    def write_key(self, name: str, key_file: KeyFile) -> None:
        """Mode 0600, whole or not at all. Raises InputError."""
        write_atomically(self.path / name, key_file.to_json().encode("utf-8"))

    def remove_key(self, name: str) -> None:
        """Raises InputError."""
        try:
            (self.path / name).unlink(missing_ok=True)
            sync_folder(self.path)
        except OSError as e:
            raise InputError("", f"cannot be removed: {e.strerror}", source=str(self.path / name)) from None

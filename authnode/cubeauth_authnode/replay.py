"""The replay cache: one bounded table that all processes of an Authnode share (protocol-v1, section 11 rule 4).

A proof is good once, whichever process it reaches. Layout of the file: a page
of header, then buckets of 256 bytes: eight 24-byte keys (SHA-256 cut short),
then eight 64-bit expiries, unix milliseconds. A key may stand in either of
two buckets of one stripe; a free place is one whose expiry has passed.

Dying in the middle is harmless at every instant. The key is stored first and
its expiry, one aligned 64-bit store, last: until then the place still counts
as free and no answer has been given. The stripe's lock is a record lock of
the kernel, which ends with the process that held it. What a corrupt expiry
could do is bounded too: one further away than any live proof's can be counts
as free, and the proof it would stand for is outside the skew anyway.

Full means refuse: forgetting a proof that is still good would let it in again.

The file survives the processes, so a restart forgets nothing. It does not
survive a power cut: after a boot that did not follow a clean stop, proofs
made before start + skew are refused instead.

A clock that is set back would make old proofs fresh again, long after their
places were given away. So the table knows the latest time that it was asked
at, goes by it, and refuses what was old by it; until the clock has caught up,
clients whose clocks are right may be refused too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path

from cubeauth.errors import AuthenticationFailed, InputError, LocalMisuse, Reason, ReplayDetected, ReplayTableFull
from cubeauth_runtime import files

_MAGIC = b"CAREPLAY"
_VERSION = 1
_HEADER_BYTES = 4096
_BUCKET_BYTES = 256
_SLOTS = 8
_KEY_BYTES = 24
_EXPIRIES = _SLOTS * _KEY_BYTES  # offset of the first expiry in a bucket
STRIPES = 64
MIN_ENTRIES = STRIPES * 2 * _SLOTS

# Header words after the magic: version, buckets, skew ms, clean flag, not-before second, latest ms, then 36 letters of boot id.
_WORD_VERSION, _WORD_BUCKETS, _WORD_SKEW, _WORD_CLEAN, _WORD_NOT_BEFORE, _WORD_LATEST = 1, 2, 3, 4, 5, 6
_BOOT_ID = slice(64, 100)

LOCK_YIELDS = 50
LOCK_NAPS = 250
NAP_SECONDS = 0.001
"""Another process holds a stripe for some microseconds, or, when it was put off the processor right then, for some
milliseconds: yield, then nap, and refuse after about a quarter of a second, which only a stopped process takes."""

STUCK_SECONDS = 1.0
"""How long a stripe that could not be had is refused at once, so that one stopped process does not hold up the others."""

LATEST_STEP = 100
"""Milliseconds: how far the latest time may lie behind, so that it is not stored with every proof."""

SAMPLED_BUCKETS = 1024
"""What `used` looks at: a full look would take a large table's owner seconds."""

_ROOM = _SLOTS // 2
"""Free slots that make a bucket good enough without a look at how many the other one has."""

_MADV_POPULATE_WRITE = 23
"""From Linux' mman.h; the mmap module has no name for it yet."""

_NEVER_MADE = "there was none"


@dataclass(frozen=True, slots=True)
class Opening:
    """What was found at start: an earlier table goes on (kept), or why not. not_before: as ReplayCache.not_before."""

    kept: bool
    reason: str
    not_before: int


class ReplayCache:
    """The table, mapped by one process. Every process opens the file itself: record locks belong to a process."""

    def __init__(self, path: Path, *, skew: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        size = os.fstat(self._fd).st_size
        self._map = mmap.mmap(self._fd, size)
        with contextlib.suppress(OSError):  # kernels before 5.14 fault the pages in one by one, as they are first written
            self._map.madvise(_MADV_POPULATE_WRITE)
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")
        self._buckets = self._words[_WORD_BUCKETS]
        if size != _HEADER_BYTES + self._buckets * _BUCKET_BYTES or self._words[_WORD_SKEW] != skew * 1000:
            raise LocalMisuse("replay table of another shape")
        self._per_stripe = self._buckets // STRIPES
        self._skew = skew * 1000
        self._life = 2 * self._skew
        self._furthest = 4 * self._skew
        self._stuck_until = [0] * STRIPES

    @property
    def capacity(self) -> int:
        """Entries."""
        return self._buckets * _SLOTS

    @property
    def not_before(self) -> int:
        """Proofs of this unix second and earlier are refused; 0 where the table knows them."""
        return self._words[_WORD_NOT_BEFORE]

    def remember(self, key: bytes, *, proof_time: int, now: float) -> None:
        """Take the proof `key` (32 bytes) of unix second `proof_time` as seen.

        Raises ReplayDetected where it was seen, ReplayTableFull where it could not be kept, AuthenticationFailed for a proof
        that may have been seen and forgotten: from before a start that lost the table, or old before the clock was set back.
        """
        if proof_time <= self._words[_WORD_NOT_BEFORE]:
            raise AuthenticationFailed("made before the table began", reason=Reason.VERIFIER_SKEW)
        at = self._latest(int(now * 1000))
        if proof_time * 1000 <= at - self._skew:
            raise AuthenticationFailed("old by the latest time seen", reason=Reason.VERIFIER_SKEW)
        short = key[:_KEY_BYTES]
        place = int.from_bytes(key[_KEY_BYTES:], "little")
        stripe = place % STRIPES
        place //= STRIPES
        first = place % self._per_stripe
        second = (place // self._per_stripe) % self._per_stripe
        self._lock(stripe, at)
        try:
            self._store(short, stripe, (first, second), at)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, stripe)

    def _latest(self, at: int) -> int:
        """The latest time that any process was asked at, unix milliseconds."""
        latest = self._words[_WORD_LATEST]
        if at - latest >= LATEST_STEP:
            self._words[_WORD_LATEST] = at
        return max(at, latest)

    def clock_behind(self, now: float) -> float:
        """Seconds that `now` is behind the latest time seen; 0 unless the clock was set back."""
        return max(0.0, self._words[_WORD_LATEST] / 1000 - now)

    def _store(self, short: bytes, stripe: int, places: tuple[int, int], now: int) -> None:
        words, whole, furthest = self._words, self._map, now + self._furthest
        free: list[int] = []
        into = 0
        for place in places:
            start = _HEADER_BYTES + (place * STRIPES + stripe) * _BUCKET_BYTES
            bucket = whole[start : start + _EXPIRIES]
            first = (start + _EXPIRIES) // 8
            if short in bucket and self._is_live(short, bucket, first, now, furthest):
                raise ReplayDetected("proof seen before")
            if len(free) < _ROOM:
                here = [
                    slot for slot, expiry in enumerate(words[first : first + _SLOTS].tolist()) if not now < expiry <= furthest
                ]
                if len(here) > len(free):
                    free, into = here, start
        if not free:
            raise ReplayTableFull("replay table full")
        at = into + free[0] * _KEY_BYTES
        whole[at : at + _KEY_BYTES] = short
        words[(into + _EXPIRIES) // 8 + free[0]] = now + self._life

    def _is_live(self, short: bytes, bucket: bytes, first_expiry: int, now: int, furthest: int) -> bool:
        """Whether the key stands in a slot, and not across two, whose expiry is to come."""
        at = bucket.find(short)
        while at >= 0:
            if at % _KEY_BYTES == 0 and now < self._words[first_expiry + at // _KEY_BYTES] <= furthest:
                return True
            at = bucket.find(short, at + 1)
        return False

    def _lock(self, stripe: int, at: int) -> None:
        tries = 0
        while not self._try_lock(stripe):
            tries += 1
            if tries < LOCK_YIELDS:
                os.sched_yield()
            elif tries < LOCK_YIELDS + LOCK_NAPS and at >= self._stuck_until[stripe]:
                time.sleep(NAP_SECONDS)
            else:
                self._stuck_until[stripe] = at + int(STUCK_SECONDS * 1000)
                raise ReplayTableFull("replay table busy")

    def _try_lock(self, stripe: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, stripe)
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        return True

    def used(self, now: float) -> int:
        """About how many places are taken, for metrics: keys are hashes, so a part of the table speaks for all of it."""
        start, end = int(now * 1000), int(now * 1000) + self._furthest
        step = max(1, self._buckets // SAMPLED_BUCKETS)
        taken = 0
        for bucket in range(0, self._buckets, step):
            word = (_HEADER_BYTES + bucket * _BUCKET_BYTES + _EXPIRIES) // 8
            taken += sum(start < expiry <= end for expiry in self._words[word : word + _SLOTS])
        return taken * step

    def mark_clean(self) -> None:
        """Parent only, after the last worker has ended: the table is whole on disk."""
        self._map.flush()
        self._words[_WORD_CLEAN] = 1
        self._map.flush(0, mmap.PAGESIZE)

    def close(self) -> None:
        self._words.release()
        self._view.release()
        self._map.close()
        os.close(self._fd)


def _boot_id() -> bytes:
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36]


def _buckets_for(entries: int) -> int:
    per_stripe = max(2, -(-entries // (_SLOTS * STRIPES)))
    return per_stripe * STRIPES


def prepare(path: Path, *, entries: int, skew: int, now: float, new_store: bool) -> Opening:
    """Parent only, before any worker: keep the table at `path` if it can be relied on, else begin an empty one.

    new_store: the keystore was just made, so no proof of its keys exists yet and an empty table knows all of them.
    Raises InputError where the file cannot be written.
    """
    why = _cannot_keep(path, entries=entries, skew=skew)
    if not why:
        cache = ReplayCache(path, skew=skew)
        cache._words[_WORD_CLEAN] = 0
        cache._map[_BOOT_ID] = _boot_id()
        cache._map.flush(0, mmap.PAGESIZE)
        opening = Opening(True, "", cache.not_before)
        cache.close()
        return opening
    temporary = path.with_name(f".{path.name}.new")
    not_before = 0 if new_store and why == _NEVER_MADE else int(now) + skew
    try:
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            buckets = _buckets_for(entries)
            os.posix_fallocate(fd, 0, _HEADER_BYTES + buckets * _BUCKET_BYTES)
            words = (_VERSION, buckets, skew * 1000, 0, not_before, 0)
            header = _MAGIC + b"".join(word.to_bytes(8, "little") for word in words)
            os.pwrite(fd, header.ljust(_BOOT_ID.start, b"\0") + _boot_id(), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        files.sync_folder(path.parent)
    except OSError as e:
        raise InputError(
            "storeDir", f"{path} cannot be made: {e.strerror}", "look at the folder's owner, mode and free space"
        ) from None
    return Opening(False, why, not_before)


def _cannot_keep(path: Path, *, entries: int, skew: int) -> str:
    """Why the table at `path` cannot go on; "" if it can."""
    if path.is_symlink():
        return "it is a link"
    try:
        with path.open("rb") as f:
            header = f.read(_BOOT_ID.stop)
            size = os.fstat(f.fileno()).st_size
    except FileNotFoundError:
        return _NEVER_MADE
    except OSError as e:
        return f"it cannot be read: {e.strerror}"
    if len(header) < _BOOT_ID.stop or header[:8] != _MAGIC:
        return "it is damaged"
    version, buckets, skew_ms, clean = (int.from_bytes(header[8 * i : 8 * i + 8], "little") for i in range(1, 5))
    if version != _VERSION or size != _HEADER_BYTES + buckets * _BUCKET_BYTES:
        return "it is of another version or damaged"
    if buckets != _buckets_for(entries) or skew_ms != skew * 1000:
        return "its size or the skew was changed"
    if not clean and header[_BOOT_ID] != _boot_id():
        return "the machine was restarted without a clean stop"
    return ""

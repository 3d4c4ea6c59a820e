"""Where a keystore may live: on a disk of this machine.

SQLite's WAL needs shared memory and locks that hold, and a network file
system gives neither (https://sqlite.org/wal.html, https://sqlite.org/faq.html
question 5). What is under a path is read from mountinfo (proc_pid_mountinfo(5)).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cubeauth.errors import InputError
from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_runtime.files import PRIVATE, read_text

MOUNTINFO = Path("/proc/self/mountinfo")
PRIVATE_FOLDER = 0o700

_NETWORK = re.compile(
    "9p|acfs|afs|autofs|beegfs|ceph|chubaofs|cifs|coda|cubefs|gfs2?|glusterfs|gpfs|kafs|lustre|ncpfs|nfs4?|ocfs2|orangefs|pvfs2|smb3|smbfs"
)
_LOCAL_FUSE = re.compile(r"fuseblk|fuse\.(bindfs|encfs|fuse-overlayfs|gocryptfs|mergerfs|ntfs-3g|unionfs)")
"""Of the file systems in user space these are local; any other may be a network's, and CubeFS's own client is one."""


def file_system(mountinfo: str, path: str) -> str:
    """The type of the file system that `path` (absolute, without symbolic links) is on; "" where no line covers it."""
    longest, found = "", ""
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 6:
            continue
        point = _unescape(fields[4])
        # Of two mounts at one point the later line hides the earlier.
        if len(point) >= len(longest) and _covers(point, path):
            longest, found = point, source.split(" ")[0]
    return found


def on_network(kind: str) -> bool:
    """Whether a file system of this type is a network's, or may be one."""
    if kind.startswith("fuse"):
        return _LOCAL_FUSE.fullmatch(kind) is None
    return _NETWORK.fullmatch(kind) is not None


def _covers(point: str, path: str) -> bool:
    return point in ("/", path) or path.startswith(point + "/")


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash are written in octal there."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def refuse_network(path: Path) -> None:
    """Raises KeystoreUnusable where `path`'s folder is on a network file system."""
    folder = path.parent.resolve()
    try:
        kind = file_system(read_text(MOUNTINFO), str(folder))
    except InputError as e:
        raise KeystoreUnusable(f"{path}: cannot tell which file system it is on: {e}") from None
    if on_network(kind):
        raise KeystoreUnusable(
            f"{path}: {folder} is on a network file system ({kind}), where locks and shared memory do not hold; "
            "use a folder on a local disk"
        )


class FolderUnusable(KeystoreUnusable):
    """A folder that a configuration names; for whoever knows the setting."""

    def __init__(self, folder: Path, problem: str, remedy: str) -> None:
        self.folder = folder
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{folder}: {problem}; {remedy}")


def prepare_folder(folder: Path) -> None:
    """Make it, for its owner alone, where it is missing. Raises FolderUnusable."""
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as e:
        raise FolderUnusable(folder, f"cannot be made: {e.strerror}", "make it, or name another folder") from None


def prepare_file(path: Path) -> None:
    """Make an empty file where there is none, and let only its owner read it. Raises KeystoreUnusable."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            os.fchmod(fd, PRIVATE)
        finally:
            os.close(fd)
    except OSError as e:
        raise KeystoreUnusable(f"{path}: cannot be opened for writing: {e.strerror}; look at its owner and mode") from None

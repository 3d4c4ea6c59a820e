"""Which file system a path is on, and whether it is a network's: from the text of mountinfo alone."""

from __future__ import annotations

import pytest

from cubeauth_authnode.keystore.filesystem import file_system, on_network

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
31 27 0:40 / /srv rw,relatime - nfs4 server:/export rw,vers=4.2
32 31 8:1 / /srv/local rw,relatime - xfs /dev/sda1 rw
33 27 0:41 / /mnt/with\040space rw,relatime - fuse.cubefs cubefs-ltptest rw
34 27 0:42 / /data rw,relatime - ext4 /dev/sdb rw
35 34 0:43 / /data rw,relatime - ceph 10.0.0.1:/ rw
nonsense
""".lstrip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/cubeauth", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/keystore", "nfs4"),
        ("/srv/local/keystore", "xfs"),
        ("/srv/locality", "nfs4"),
        ("/srvant", "ext4"),
        ("/mnt/with space/keystore", "fuse.cubefs"),
        ("/data/keystore", "ceph"),
    ],
)
def test_the_longest_mount_that_covers_the_path_decides_and_of_equals_the_last(path: str, kind: str) -> None:
    assert file_system(MOUNTS, path) == kind


def test_without_any_mount_nothing_is_known() -> None:
    assert file_system("", "/srv") == ""


NETWORK = """9p afs beegfs ceph cifs fuse fuse.ceph-fuse fuse.cfs fuse.chubaofs fuse.cubefs fuse.glusterfs fuse.s3fs fuse.sshfs
gfs2 glusterfs gpfs lustre nfs nfs4 ocfs2 smb3 smbfs"""
LOCAL = "btrfs ext4 f2fs fuse.fuse-overlayfs fuseblk overlay ramfs tmpfs xfs zfs"


@pytest.mark.parametrize("kind", NETWORK.split())
def test_a_network_file_system_is_one(kind: str) -> None:
    assert on_network(kind)


@pytest.mark.parametrize("kind", LOCAL.split())
def test_a_local_file_system_is_none(kind: str) -> None:
    assert not on_network(kind)

"""On what kind of file system a folder lies, as the kernel lists its mounts."""

from __future__ import annotations

import re
from pathlib import Path

# Names as in the kernel's list of mounts. Machines that share such a folder do not share memory,
# or locks arrive late: SQLite in write-ahead mode needs both.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "coda", "davfs", "drvfs"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "pvfs2", "panfs", "wekafs"),
        *("vboxsf", "vmhgfs", "fuse.vmhgfs-fuse", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"),
        *("fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs2", "fuse.juicefs", "fuse.mfs"),
    }
)
MOUNTS = Path("/proc/self/mountinfo")


def file_system_of(folder: Path) -> str:
    """The file system's name, such as `ext4`; empty where the kernel lists no mounts."""
    try:
        listing = MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return ""
    return find_file_system(listing, folder.resolve())


def find_file_system(listing: str, folder: Path) -> str:
    """The mount with the longest path above `folder`; of equals the last, which hides the others.

    `listing` is /proc/self/mountinfo: fields, the fifth the mount point, then " - " and the name.
    """
    longest, name = -1, ""
    for line in listing.splitlines():
        fields, _, after = line.partition(" - ")
        mount_point = Path(_unescape(fields.split(" ")[4]))
        depth = len(mount_point.parts)
        if depth >= longest and folder.is_relative_to(mount_point):
            longest, name = depth, after.split(" ")[0]
    return name


def _unescape(field: str) -> str:
    r"""Spaces and the like are written in octal: `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)

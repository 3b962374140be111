from __future__ import annotations

from pathlib import Path

import pytest

from cmbagent_site import filesystems
from cmbagent_site.filesystems import NETWORK_FILE_SYSTEMS, file_system_of, find_file_system

LISTING = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 22 0:26 / /data rw - nfs4 server:/data rw
32 31 0:27 / /data/scratch rw - tmpfs tmpfs rw
33 22 0:28 / /people rw - ext4 /dev/sdb1 rw
34 33 0:29 / /people rw - fuse.sshfs user@far: rw
35 22 0:30 / /my\040shares/nas rw master:3 - cifs //nas/all rw
""".strip()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv/var", "ext4"),
        ("/data/var", "nfs4"),
        ("/database", "ext4"),
        ("/data/scratch/x", "tmpfs"),
        ("/people/alice/var", "fuse.sshfs"),  # mounted over what was there
        ("/my shares/nas/x", "cifs"),
    ],
)
def test_the_mount_that_counts_is_found(folder: str, kind: str) -> None:
    assert find_file_system(LISTING, Path(folder)) == kind


def test_a_real_folder_of_this_machine_is_local(tmp_path: Path) -> None:
    kind = file_system_of(tmp_path)
    assert kind
    assert kind not in NETWORK_FILE_SYSTEMS


def test_a_symlink_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert file_system_of(tmp_path / "link") == "proc"


def test_without_a_list_of_mounts_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "MOUNTS", tmp_path / "absent")
    assert file_system_of(tmp_path) == ""

"""Directories: private, local, and with a socket path the kernel accepts."""

import subprocess
import sys
from pathlib import Path

import pytest

from gapfactory.errors import DatabaseError
from launchpad.embedded.locations import check_file_system, locations

TABLE = """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local ext4 rw 0 0
mds@tcp:/scratch /scratch lustre rw 0 0
beegfs_nodev /mnt/bee beegfs rw 0 0
gpfs0 /gpfs gpfs rw 0 0
//nas/share /mnt/with\\040space cifs rw 0 0
user@host: /mnt/ssh fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/db", "nfs4"),
        ("/scratch/db", "lustre"),
        ("/mnt/bee", "beegfs"),
        ("/gpfs/x/y", "gpfs"),
        ("/mnt/with space/db", "cifs"),
        ("/mnt/ssh/db", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_refused_with_the_remedy(path, kind):
    with pytest.raises(DatabaseError, match=rf"{kind}.*local disk") as error:
        check_file_system(Path(path), TABLE)
    assert path in str(error.value)


@pytest.mark.parametrize("path", ["/var/tmp/db", "/home/local/db", "/scratchy/db", "/homework"])  # noqa: S108
def test_local_file_systems_are_accepted(path):
    check_file_system(Path(path), TABLE)


def test_directories_are_made_private_and_links_refused(tmp_path):
    where = locations(tmp_path / "a" / "b")
    assert where.data_dir.stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    assert locations(tmp_path / "open").data_dir.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatabaseError, match="Choose another"):
        locations(tmp_path / "file")


def test_sockets_of_different_directories_differ_and_fit(tmp_path):
    one, two = locations(tmp_path / ("x" * 90) / "one"), locations(tmp_path / ("x" * 90) / "two")
    assert one.socket != two.socket
    assert len(str(one.socket)) <= 107
    assert locations(tmp_path / ("x" * 90) / "one").socket == one.socket
    assert one.socket.parent.stat().st_mode & 0o777 == 0o700


def test_importing_the_package_is_light():
    code = (
        "import sys, launchpad.embedded; "
        "print([m for m in ('sqlite3', 'mongomock', 'pymongo', 'bson', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

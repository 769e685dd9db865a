# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mount points on a disk that a guest gets: real mounts of fstab, which a real systemd unmounts and mounts again."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import Device, nvme_disk, pci
from host import NIC, NVME, driver_of, wait_for
from service import systemctl
from uses import disk_of, run

FSTAB = Path("/etc/fstab")
DATA, SUB = Path("/srv/lab data"), Path("/srv/lab data/sub-a")
DATA_UNIT, SUB_UNIT = r"srv-lab\x20data.mount", r"srv-lab\x20data-sub\x2da.mount"
SERVICE = Path("/run/systemd/system/lab-of-mount.service")
MOUNTS = f'[units]\n"{DATA}" = "down"\n'


@pytest.fixture
def data() -> Iterator[None]:
    """The disk, with another mount below it and a service that needs it. fstab has both, without nofail."""
    before = FSTAB.read_text() if FSTAB.exists() else ""
    DATA.mkdir()
    named = {path: str(path).replace(" ", "\\040") for path in (DATA, SUB)}
    FSTAB.write_text(
        f"{before}\n{disk_of(NVME)} {named[DATA]} auto defaults 0 0\ntmpfs {named[SUB]} tmpfs x-mount.mkdir 0 0\n"
    )
    SERVICE.write_text(f'[Unit]\nRequiresMountsFor="{DATA}"\n[Service]\nExecStart=/bin/sleep infinity\n')
    systemctl("daemon-reload")
    systemctl("start", DATA_UNIT, SUB_UNIT, SERVICE.name)
    assert (DATA.is_mount(), SUB.is_mount()) == (True, True)
    (DATA / "kept").write_text("kept")
    yield
    systemctl("stop", SERVICE.name)
    for path in (SUB, DATA):
        subprocess.run(["umount", path], check=False, capture_output=True, timeout=600)
    SERVICE.unlink()
    FSTAB.write_text(before)
    systemctl("daemon-reload")
    DATA.rmdir()


def _active(*names: str) -> list[str]:
    return [systemctl("show", "--value", "--property", "ActiveState", name) for name in names]


@pytest.mark.rest
@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("kind", [pci, nvme_disk], ids=["hostdev", "disk"])
def test_a_mounted_disk_is_the_guests_and_then_mounted_again(
    guest: MakeGuest, configure: Configure, kind: Callable[[str], Device]
) -> None:
    """With what goes along; local-fs.target, which requires it, stays active, and nothing failed."""
    device = kind(NVME)
    assert _active("local-fs.target") == ["active"]
    said = guest(device).start_refused()
    assert f'is mounted on "{DATA}"' in said
    configure(MOUNTS)
    one = guest(device).start()
    assert (DATA.is_mount(), SUB.is_mount(), driver_of(NVME)) == (False, False, "vfio-pci")
    assert _active(SERVICE.name, "local-fs.target", "emergency.target") == ["inactive", "active", "inactive"]
    one.destroy()
    wait_for("the mounts", lambda: DATA.is_mount() and SUB.is_mount())
    wait_for("the service", lambda: _active(SERVICE.name) == ["active"])
    assert (DATA / "kept").read_text() == "kept"
    assert (driver_of(NVME), _active("local-fs.target")) == ("nvme", ["active"])
    assert systemctl("list-units", "--failed", "--no-legend", "--plain", "srv-*") == ""


@pytest.mark.rest
@pytest.mark.usefixtures("data")
def test_a_busy_mount_refuses_the_start(guest: MakeGuest, configure: Configure) -> None:
    """umount says EBUSY to systemd. What was stopped with it comes back; the disk was not touched."""
    configure(MOUNTS)
    with (DATA / "kept").open():
        said = guest(pci(NVME)).start_refused()
    assert f'"{DATA}" cannot be unmounted: something has a file open there' in said
    assert (DATA.is_mount(), driver_of(NVME)) == (True, "nvme")
    wait_for("what was stopped", lambda: SUB.is_mount() and _active(SERVICE.name) == ["active"])


@pytest.mark.rest
def test_what_was_mounted_by_hand_is_refused(guest: MakeGuest, configure: Configure, tmp_path: Path) -> None:
    """systemd has a unit for it, and no file: it could not mount it again. Where nothing is, nothing is done."""
    configure(f'[units]\n"{tmp_path}" = "down"\n')
    run(f"mount -r {disk_of(NVME)} {tmp_path}")
    said = guest(pci(NVME)).start_refused()
    assert f"{tmp_path} was mounted by hand: nobody could mount it again" in said
    assert tmp_path.is_mount()
    run(f"umount {tmp_path}")
    one = guest(pci(NIC)).start()
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    assert not tmp_path.is_mount()

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a refusal says to paste does no more than it says, whatever others have named."""

from pathlib import Path

import pytest
from cases import DISK, GPU, SOUND
from command import libhook
from mounting import mount
from pasting import cut
from scenario import Host, guest

from libhook.simulation import logind, processes, systemd
from libhook.simulation.hosts import workstation

QUICK = "holder_wait = 0.1\n"


@pytest.mark.parametrize("group", ["", "/machine.slice/machine-qemu.scope", "/system.slice/libvirtd.service"])
def test_what_is_no_service_of_its_own_is_only_shown(root: str, group: str) -> None:
    """A number may be another process's when it is pasted, and a QEMU or libvirt is not to be ended at all."""
    host = Host(root, workstation(), QUICK)
    pid = processes.spawn(root, "qemu-system-x86")
    processes.open_file(root, pid, "/dev/nvme0n1")
    logind.place(root, pid, "", group)
    assert cut(host.libvirt.start(guest(DISK)).error) == f"cat /proc/{pid}/cgroup"


def test_a_process_name_begins_no_command(root: str) -> None:
    """A name has up to 15 bytes, of its owner's choice."""
    host = Host(root, workstation(), QUICK)
    processes.open_file(root, processes.spawn(root, "run: rm -rf ~ #"), "/dev/nvme0n1")
    for line in (host.libvirt.start(guest(DISK)).error, libhook(host, "plan", "-", stdin=guest(DISK).xml(1)).out):
        assert "it is open in run\\x3a rm -rf ~ # (pid " in line
        assert cut(line.splitlines()[0]).startswith("cat /proc/")


@pytest.mark.parametrize(
    ("path", "says"), [("/boot", "or name its mount points"), ("/srv/{name}", "or name its mount")]
)
def test_a_mount_point_that_a_command_would_not_mean_is_not_in_one(root: str, path: str, says: str) -> None:
    """The host mostly needs the one, and libhook would fill in the other."""
    host = Host(root, workstation(), QUICK)
    mount(root)
    file = Path(f"{root}/proc/self/mountinfo")
    file.write_text(file.read_text().replace("/srv/data", path))
    refused = host.libvirt.start(guest(DISK)).error
    assert says in refused
    assert "run:" not in refused


def test_what_a_setting_says_already_stays_in_it(root: str) -> None:
    """The file may be the one that was pasted before."""
    host = Host(root, workstation(), QUICK)
    Path(host.machine.drop_ins).mkdir()
    Path(f"{root}/etc/libhook/config.d/win11@mounts.toml").write_text('domains."win11".mounts = ["/srv/old"]\n')
    mount(root)
    assert '.mounts = ["/srv/old", "/srv/data' in host.libvirt.start(guest(DISK)).error


def test_a_mount_point_with_a_blank_is_named(root: str) -> None:
    """Between the shell's quotes only a quote, and a backslash for some shells' echo, mean anything."""
    host = Host(root, workstation(), QUICK)
    mount(root)
    file = Path(f"{root}/proc/self/mountinfo")
    file.write_text(file.read_text().replace("/srv/data", "/srv/my\\040data"))
    assert """.mounts = ["/srv/my data\"""" in host.libvirt.start(guest(DISK)).error


def test_a_desktop_that_this_host_does_not_have_is_not_offered(root: str) -> None:
    """Without a display manager nothing would be stopped, and one that is named already is not named twice."""
    host = Host(root, workstation(), QUICK)
    processes.add(root, 800, "Xorg", ["/dev/dri/card0"])
    assert cut(host.libvirt.start(guest(GPU, SOUND)).error) == "cat /proc/800/cgroup"
    systemd.add(root, "gdm.service", names=["display-manager.service"])
    assert 'units."display-manager.service" = "down"' in host.libvirt.start(guest(GPU, SOUND)).error
    host.configure(QUICK + '[domains.win11.units]\n"gdm.service" = "down"\n')
    assert 'end = ["sessions"]' in host.libvirt.start(guest(GPU, SOUND)).error

# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook devices``: the host's devices as people and programs are shown them."""

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
from cases import DISK, GPU, SOUND
from command import libhook
from scenario import LAUNCHER, Host, guest

from libhook.simulation import processes, store
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import many, nic, sriov, workstation
from libhook.simulation.kernel import SimulatedKernel

OTHER = "11111111-2222-3333-4444-555555555555"
_GPU = "AMD Radeon RX 6800/6800 XT / 6900 XT [1002:73bf]"
_DISK = "Samsung NVMe SSD Controller SM981/PM981/PM983 [144d:a808]"
_NIC = "Intel 82574L Gigabit Network Connection [8086:10d3]"
_PF = "Intel 82576 Gigabit Network Connection [8086:10c9]"
_VF = "Intel 82576 Virtual Function [8086:10ca]"


def test_devices_shows_the_groups_as_a_tree(root: str) -> None:
    """Driver, which guest has it; the same facts as JSON, and what follows from the guest. Said once of both."""
    host = Host(root, workstation())
    host.begin(guest(GPU, SOUND, name="win\x7f11"))
    processes.open_file(root, processes.spawn(root, "qemu"), "/dev/vfio/14")
    done = libhook(host, "devices")
    assert (done.code, done.err) == (0, "")
    (line,) = (line for line in done.out.splitlines() if line.startswith(f"  {GPU}"))
    assert line == (f'  {GPU}  VGA       vfio-pci  {_GPU}  [guest "win\\x7f11"]')
    assert '  pass both together; in the way: both are held by the guest "win\\x7f11"\n' in done.out
    groups = json.loads(libhook(host, "devices", "--json").out)["groups"]
    assert [group["group"] for group in groups] == [12, 14, 15]
    (gpu,) = (device for device in groups[1]["devices"] if device["address"] == GPU)
    assert gpu == {
        "address": GPU,
        "ids": "1002:73bf",
        "vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
        "model": "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]",
        "class": "0300",
        "driver": "vfio-pci",
        "override": "vfio-pci",
        "guest": {"uuid": Guest().uuid, "name": "win\x7f11"},
        "wanted_by": [],
        "in_use": "qemu (pid 2000, /dev/vfio/14)",
        "uses": [],
        "hangs": False,
        "pf": None,
        "vfs": [],
    }


def test_devices_names_who_else_has_a_guests_device(root: str) -> None:
    """Its own QEMU goes without saying, and so does the override; another process does not."""
    host = Host(root, workstation())
    host.begin(guest(GPU, SOUND))
    processes.open_file(root, processes.spawn(root, "dpdk"), "/dev/vfio/14")
    assert f"{_GPU}  [guest win11, open in dpdk (pid 2000, /dev/vfio/14)]\n" in libhook(host, "devices", "gpu").out
    Path(root, "sys/bus/pci/devices", DISK, "driver_override").write_text("vfio-pci\n")
    assert f"{_DISK}  [override vfio-pci]\n" in libhook(host, "devices", "disk").out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("hidden", ["run/libhook", "etc/libvirt/qemu"])
def test_devices_are_shown_to_a_user_who_is_not_root(root: str, hidden: str) -> None:
    """Which guests have them is for root; that is said on stderr, and doctor says no more than that."""
    host = Host(root, workstation())
    host.begin(guest(GPU, SOUND))
    Path(root, "win11.xml").write_bytes(guest(GPU, SOUND).xml())
    Path(root).chmod(0o755)
    Path(root, hidden).mkdir(mode=0o700, parents=True, exist_ok=True)
    if hidden != "run/libhook":
        Path(root, "run/libhook").rename(f"{root}/run/gone")
    done = _as_nobody(root, "devices")
    assert (done.returncode, done.stderr) == (0, "run it as root to see which guests have them\n")
    assert f"  {GPU}  VGA       vfio-pci  {_GPU}  [override vfio-pci]\n" in done.stdout
    found = [line for line in _as_nobody(root, "doctor").stdout.splitlines() if "another user's" in line]
    whose = [f"fail  {root}/run/libhook is another user's: run libhook doctor as root"]
    assert found == (whose if hidden == "run/libhook" else [])
    if hidden == "run/libhook":
        for command in (("status",), ("recover", "--dry-run"), ("plan", f"{root}/win11.xml")):
            said = _as_nobody(root, *command).stderr
            assert said.startswith((f"only root may look into {root}/run/libhook:", f"{root}/run/libhook/domains: "))
            assert said.endswith(": run it as root\n"), command


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("whose", [0, 1000, 65534, None])
def test_whoever_is_not_root_is_told_to_be_root(root: str, whose: int | None) -> None:
    """And not to remove what somebody else made, or to make it: /run/libhook is root's, another's, theirs, or none."""
    host = Host(root, workstation())
    Path(root, "win11.xml").write_bytes(guest(GPU, SOUND).xml())
    host.put("/etc/libhook/handlers/night.py", "def prepare(ask):\n    pass\n")
    for folder, mode in (("", 0o755), ("run", 0o755)):
        Path(root, folder).chmod(mode)
    state = Path(root, "run/libhook")
    if whose is not None:
        state.mkdir(mode=0o700)
        os.chown(state, whose, whose)
    commands = (
        *(("status",), ("status", "--json"), ("recover",), ("recover", "--dry-run"), ("recover", "--give-up", "x")),
        *(("plan", f"{root}/win11.xml"), ("inspect", f"{root}/win11.xml"), ("config",), ("config", "win11")),
        *(("devices",), ("accept", "win11"), ("handlers",), ("handlers", "enable", "night"), ("doctor",)),
    )
    said = {command: _as_nobody(root, *command) for command in commands}
    for command, done in said.items():
        assert "find out who" not in done.stderr + done.stdout, command
        assert "make sure that root" not in done.stderr + done.stdout, command
    denied = [command for command, done in said.items() if done.returncode and done.stderr.endswith("run it as root\n")]
    alone = [("handlers", "enable", "night")]  # all else only looks
    state_of = [command for command in commands if command[0] in ("status", "recover", "plan")]
    assert denied == {0: state_of + alone, 1000: state_of + alone, 65534: [], None: alone}[whose]


def _as_nobody(root: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ("/usr/bin/python3", "-m", "libhook", *words)
    return subprocess.run(
        command, env={"LIBHOOK_ROOT": root, "PATH": "/usr/bin:/bin"}, cwd=LAUNCHER.parents[1], user=65534, group=65534,
        extra_groups=(), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_devices_names_what_the_host_does_with_them(root: str) -> None:
    """In the words of the refusal that it would come to."""
    host = Host(root, workstation())
    with open(f"{root}/proc/self/mountinfo", "a") as mounts:
        mounts.write("40 22 259:1 / /srv rw - xfs /dev/nvme0n1 rw\n")
    Path(root, "sys/block/loop7/loop").mkdir(parents=True)
    Path(root, "sys/block/loop7/loop/backing_file").write_text("/dev/nvme0n1\n")
    processes.add(root, 812, "Xorg", ("/dev/dri/card0",))
    shown = libhook(host, "devices").out
    assert f"{GPU}  VGA       amdgpu         {_GPU}  [it is open in Xorg (pid 812, /dev/dri/card0)]" in shown
    assert f"{_DISK}  [/dev/nvme0n1 is behind /dev/loop7, /dev/nvme0n1 is mounted on /srv]" in shown
    assert f"  in the way: {DISK} is in use by the host: /dev/nvme0n1 is behind /dev/loop7" in shown
    groups = json.loads(libhook(host, "devices", "--json").out)["groups"]
    assert [device["uses"] for device in groups[1]["devices"] if device["address"] == GPU] == [
        ["it is open in Xorg (pid 812, /dev/dri/card0)"]
    ]


def test_devices_only_looks(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that it opened exclusively could not be mounted at that moment. Nor do status, doctor and recover."""

    def opened(_: SimulatedKernel, node: str) -> None:
        store.append(f"{root}/var/log/opened", {"node": node})

    monkeypatch.setattr(SimulatedKernel, "open_exclusively", opened)
    host = Host(root, workstation())
    host.begin(guest(GPU, SOUND))
    for command in ("devices", "status", "doctor", "recover"):
        libhook(host, command)
    assert not Path(root, "var/log/opened").exists()
    libhook(host, "plan", "-", stdin=guest(DISK, name="other")._replace(uuid=OTHER).xml())
    assert store.lines(f"{root}/var/log/opened") == [{"node": "/dev/nvme0n1"}]


def test_devices_knows_the_uses_of_more_than_are_looked_at_at_once(root: str) -> None:
    """With few descriptors to be had, as for a hook; the last device is looked at like the first."""
    world = many(100)
    named = (card._replace(children=(("net", f"eth{number}"),)) for number, card in enumerate(world.devices))
    host = Host(root, world._replace(devices=tuple(named)))
    with open(f"{root}/proc/net/route", "a") as routes:
        for name in ("eth0", "eth99"):
            routes.write(f"{name}\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        shown = libhook(host, "devices").out
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [line for line in shown.splitlines() if "default route" in line] == [
        f"  0000:00:00.0  Ethernet  e1000e  {_NIC}  [eth0 has the default route]",
        "  in the way: 0000:00:00.0 is in use by the host: eth0 has the default route",
        f"  0000:03:03.0  Ethernet  e1000e  {_NIC}  [eth99 has the default route]",
        "  in the way: 0000:03:03.0 is in use by the host: eth99 has the default route",
    ]


def test_devices_on_a_host_without_pci(root: str) -> None:
    """Said, not an empty answer."""
    host = Host(root, nic()._replace(devices=()))
    assert libhook(host, "devices") == (0, "no PCI devices\n", "")
    assert json.loads(libhook(host, "devices", "--json").out) == {"groups": []}


def test_a_vf_is_shown_below_its_pf(root: str) -> None:
    """With its group, in which there is nobody else; in another's group it stays there, and names its PF."""
    world = sriov(3)
    pf, alone, beside, shares = world.devices
    card = nic().devices[0]._replace(address=DISK, group=9, children=())
    others = (beside._replace(group=pf.group), shares._replace(group=9), card)
    host = Host(root, world._replace(devices=(pf, alone, *others), drivers=(*world.drivers, *nic().drivers[:1])))
    shown = libhook(host, "devices").out.splitlines()
    assert shown == [
        f"IOMMU group {pf.group}",
        f"  {pf.address}  Ethernet  igb     {_PF}",
        f"    VF {alone.address}  Ethernet  igbvf   {_VF}  [IOMMU group {alone.group}, can be passed]",
        f"    VF {beside.address}  Ethernet  igbvf   {_VF}",
        f"  pass both together; in the way: {pf.address} is a PF with VFs enabled (3)",
        "IOMMU group 9",
        f"  {shares.address}  Ethernet  igbvf   {_VF}  [VF of {pf.address}]",
        f"  {DISK}  Ethernet  e1000e  {_NIC}",
        "  can be passed, both together",
    ]
    groups = json.loads(libhook(host, "devices", "--json").out)["groups"]
    facts = {one["address"]: (one["pf"], one["vfs"]) for group in groups for one in group["devices"]}
    assert facts[pf.address] == (None, [alone.address, beside.address, shares.address])
    assert facts[alone.address] == (pf.address, [])
    assert facts[DISK] == (None, [])

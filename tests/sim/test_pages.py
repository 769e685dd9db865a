# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages in docs/ about uses: their settings are played as they stand there."""

from pathlib import Path

import holding
from cases import DISK, GPU, NIC, SOUND
from modules_out import CONSOLE, loaded, shown
from scenario import Host, guest

from libhook.kinds.sleep import LOGIND, UNIT
from libhook.simulation import commands, hosts, processes, systemd
from libhook.simulation.world import World

DOCS = Path(__file__).parents[2] / "docs"
SDDM, PERSISTENCED, TIMER = "sddm.service", "nvidia-persistenced.service", "backup.timer"
SWAPPINESS = "proc/sys/vm/swappiness"


def _settings(page: str) -> str:
    (block,) = (DOCS / page).read_text().split("```toml\n")[1:]
    return block.split("```")[0]


def _host(root: str, world: World, page: str) -> Host:
    host = Host(root, world, f"holder_wait = 0.3\n{_settings(page)}")
    for unit, active in ((UNIT, "inactive"), (LOGIND, "active"), (SDDM, "active"), (TIMER, "active")):
        systemd.add(root, unit, active=active, names=["display-manager.service"] if unit == SDDM else [])
    return host


def test_one_card_for_the_desktop_and_a_guest(root: str) -> None:
    """The desktop with its session goes, the card comes, and all but the session comes back."""
    host = _host(root, hosts.nvidia(console=True), "single-gpu.md")
    processes.add(root, 790, "sddm-greeter", [holding.CARD])
    systemd.change(root, SDDM, process=790)
    systemd.add(root, PERSISTENCED)
    holding.desktop(root)
    before = loaded(host)
    win11 = guest(GPU, SOUND)
    plan = host.call(("win11", "prepare", "begin", "-"), win11.xml(1, False), dry_run=True)
    assert [line.split(",")[0].split(" (")[0] for line in plan.stderr if line.startswith(("keep", "stop", "end"))] == [
        "keep the host from sleeping",
        f"stop {SDDM}",
        f"stop {PERSISTENCED}",
    ]
    begun = host.event(win11, "prepare")
    assert [line for line in begun.plan if line.startswith("end ")] == [
        f"end each session that has {GPU} open: this does not come back"
    ]
    assert begun.plan.count("keep the host from sleeping (start libhook-awake.service)") == 2, "planned, then done once"
    for operation in ("start", "started"):
        assert host.event(win11, operation).code == 0
    assert (host.driver(GPU), host.driver(SOUND)) == ("vfio-pci", "vfio-pci")
    units = (SDDM, PERSISTENCED, UNIT)
    assert [systemd.state(root, unit) for unit in units] == ["inactive", "inactive", "active"]
    assert not loaded(host) & {"nvidia", "nvidia_drm", "nvidia_modeset", "nvidia_uvm"}
    assert not Path(root, f"proc/{holding.KWIN}").exists()
    assert shown(host) == "(S) dummy device: 1"
    host.event(win11, "release", "shutdown")
    assert [systemd.state(root, unit) for unit in units] == ["active", "active", "inactive"]
    assert (loaded(host), shown(host), host.leftovers) == (before, CONSOLE, [])
    assert host.driver(GPU) == "nvidia"


def test_two_guests_that_share(root: str) -> None:
    """In either order of their ends, and the third that contradicts them is refused."""
    for last in (0, 1):
        host = _host(f"{root}-{last}", hosts.workstation(), "sharing.md")
        guests = [guest(NIC), guest(DISK, name="linux")._replace(uuid="11111111-2222-3333-4444-555555555555")]
        path = Path(host.root, SWAPPINESS)
        path.parent.mkdir(parents=True)
        path.write_text("60\n")
        for one in guests:
            host.begin(one)
        host.event(guests[1 - last], "release", "shutdown")
        assert (path.read_text(), systemd.state(host.root, TIMER)) == ("10\n", "inactive")
        host.event(guests[last], "release", "shutdown")
        assert (path.read_text(), systemd.state(host.root, TIMER)) == ("60\n", "active")
        assert host.leftovers == []


def test_old_scripts(root: str) -> None:
    """Each guest's own section, and the path of all."""
    host = Host(root, hosts.workstation(), _settings("old-scripts.md"))
    path = "/etc/libvirt/old-hooks/qemu"
    commands.add(root, path)
    seconds = {"win11": "180", "linux": "120"}
    for number, name in enumerate(("win11", "linux", "build")):
        one = guest(NIC, name=name)._replace(uuid=f"11111111-2222-3333-4444-55555555555{number}")
        plan = host.call((name, "prepare", "begin", "-"), one.xml(1, False), dry_run=True)
        line = f"run the old script {path} (prepare begin), for {seconds.get(name)} s at most"
        assert (line in plan.stderr) is (name in seconds)
        host.begin(one)
        host.event(one, "stopped")
        host.event(one, "release", "shutdown")
    called = [" ".join(one["argv"][1:]) for one in commands.ran(root)]
    ends = ("prepare begin -", "start begin -", "started begin -", "stopped end -", "release end shutdown")
    assert called == [f"{name} {end}" for name in seconds for end in ends]
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages in docs/ about uses: their settings are played as they stand there."""

from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND
from modules_out import CONSOLE, loaded, shown
from scenario import Host, guest

from libhook.simulation import commands, hosts, processes, store, systemd
from libhook.simulation.world import World

DOCS = Path(__file__).parents[2] / "docs"
SDDM, PERSISTENCED, TIMER = "sddm.service", "nvidia-persistenced.service", "backup.timer"
SWAPPINESS = "proc/sys/vm/swappiness"
SAMBA = "smbd.service"
SCRIPTS = "from-scripts.md"


def _settings(page: str, heading: str) -> str:
    """The settings of a page, or those below one of its headings."""
    text = (DOCS / page).read_text()
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = text.split("```toml\n")[1:]
    return block.split("```")[0]


def _host(root: str, world: World, page: str, heading: str = "") -> Host:
    host = Host(root, world, f"holder_wait = 0.3\n{_settings(page, heading)}")
    for unit, active in ((SDDM, "active"), (TIMER, "active")):
        systemd.add(root, unit, active=active, names=["display-manager.service"] if unit == SDDM else [])
    return host


def test_one_card_for_the_desktop_and_a_guest(root: str) -> None:
    """The host is kept awake, the desktop goes, the card comes, and all of it comes back."""
    host = _host(root, hosts.nvidia(console=True), "single-gpu.md")
    processes.add(root, 790, "sddm-greeter", ["/dev/dri/card0"])
    systemd.change(root, SDDM, process=790)
    systemd.add(root, PERSISTENCED)
    commands.add(root, "/usr/bin/systemd-inhibit")
    before = loaded(host)
    win11 = guest(GPU, SOUND)
    plan = host.call(("win11", "prepare", "begin", "-"), win11.xml(1, False), dry_run=True)
    assert [line.split(",")[0].split(" (")[0] for line in plan.stderr if line.startswith(("run", "stop"))] == [
        "run /usr/bin/systemd-inhibit '--what=sleep:handle-lid-switch' '--why=win11 runs' /usr/bin/sleep infinity",
        f"stop {SDDM}",
        f"stop {PERSISTENCED}",
    ]
    for operation in ("prepare", "start", "started"):
        assert host.event(win11, operation).code == 0
    assert (host.driver(GPU), host.driver(SOUND)) == ("vfio-pci", "vfio-pci")
    units = (SDDM, PERSISTENCED)
    assert [systemd.state(root, unit) for unit in units] == ["inactive", "inactive"]
    assert not loaded(host) & {"nvidia", "nvidia_drm", "nvidia_modeset", "nvidia_uvm"}
    assert shown(host) == "(S) dummy device: 1"
    assert [unit for unit in systemd.running(root) if unit.startswith("libhook-run-")] != []
    host.event(win11, "release", "shutdown")
    assert [systemd.state(root, unit) for unit in units] == ["active", "active"]
    assert (loaded(host), shown(host), host.leftovers) == (before, CONSOLE, [])
    assert [unit for unit in systemd.running(root) if unit.startswith("libhook-run-")] == []
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
    host = Host(root, hosts.workstation(), _settings("old-scripts.md", ""))
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


def _ran(host: Host) -> list[str]:
    return [" ".join(one["argv"]) for one in commands.ran(host.root)]


def _put(host: Host, path: str, text: str) -> Path:
    file = Path(host.root + path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_desktop_goes_on_on_the_other_card(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is down while the card goes and comes, and up while the guest runs and after it."""
    host = _host(root, hosts.workstation(), SCRIPTS, "Two cards: the desktop goes on on the other")
    commands.add(root, "/usr/bin/systemctl")
    run = commands.systemd_run

    def systemctl(root: str, arguments: tuple[str, ...], document: bytes, seconds: float) -> tuple[int, str]:
        verb, unit = arguments[arguments.index("--") + 2 :]
        systemd.systemctl(root, (verb, "--", unit), seconds)
        return run(root, arguments, document, seconds)

    monkeypatch.setattr(commands, "systemd_run", systemctl)
    win11 = guest(GPU, SOUND)
    assert host.event(win11, "prepare").code == 0
    assert (host.driver(GPU), systemd.state(root, SDDM)) == ("vfio-pci", "inactive")
    assert [host.event(win11, operation).code for operation in ("start", "started")] == [0, 0]
    assert systemd.state(root, SDDM) == "active"
    host.event(win11, "release", "shutdown")
    assert (host.driver(GPU), systemd.state(root, SDDM), host.leftovers) == ("amdgpu", "active", [])
    calls = store.lines(f"{root}/var/log/systemctl.jsonl")
    told = [one["verb"] for one in calls if one["names"] in ([SDDM], ["display-manager.service"])]
    assert [verb for verb in told if verb != "show"] == ["stop", "start", "stop", "start"]


def test_cpus_and_memory_of_its_own(root: str) -> None:
    """The governors and the pages are what they were; the host has all its CPUs again, in reverse."""
    host = _host(root, hosts.workstation(), SCRIPTS, "A guest with CPUs and memory of its own")
    commands.add(root, "/usr/bin/systemctl")
    governor = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    files = [_put(host, governor.format(at), was) for at, was in ((2, "powersave\n"), (3, "schedutil\n"))]
    files.append(_put(host, "/proc/sys/vm/nr_hugepages", "16\n"))
    host.begin(guest(NIC))
    assert [file.read_text() for file in files] == ["performance\n", "performance\n", "4096\n"]
    host.event(guest(NIC), "release", "shutdown")
    assert [file.read_text() for file in files] == ["powersave\n", "schedutil\n", "16\n"]
    units = ("system.slice", "user.slice", "init.scope")
    assert [line.removeprefix("/usr/bin/systemctl set-property --runtime ") for line in _ran(host)] == [
        *(f"{unit} AllowedCPUs=0-1" for unit in units),
        *(f"{unit} AllowedCPUs=0-3" for unit in reversed(units)),
    ]


def test_a_screen_that_two_computers_share(root: str) -> None:
    """Once the guest runs, and until it ends, whatever fails."""
    host = _host(root, hosts.workstation(), SCRIPTS, "A screen that two computers share")
    for program in ("/usr/bin/ddcutil", "/usr/bin/env"):
        commands.add(root, program, status=1)
    assert host.event(guest(), "prepare").code == 0
    assert _ran(host) == []
    assert [host.event(guest(), operation).code for operation in ("start", "started")] == [0, 0]
    keyboard = "/usr/bin/env DISPLAY=:0 /usr/bin/barriers --no-daemon"
    xrandr = "/usr/bin/env DISPLAY=:0 /usr/bin/xrandr --output DP-2"
    begun = ["/usr/bin/ddcutil setvcp 60 0x0f", f"{xrandr} --off", keyboard]
    assert _ran(host) == begun
    (running,) = (one for one in systemd.running(root) if one.startswith("libhook-run-"))
    assert host.event(guest(), "release", "shutdown").code == 0
    assert _ran(host) == [*begun, f"{xrandr} --auto", "/usr/bin/ddcutil setvcp 60 0x11"]
    assert [one["user"] for one in commands.ran(root)] == ["", "tim", "tim", "tim", ""]
    assert (running in systemd.running(root), host.leftovers) == (False, [])


def test_a_server_with_a_service_and_a_port(root: str) -> None:
    """The service is there for both guests, the port for one, and a mark keeps its guest alone from starting."""
    host = _host(root, hosts.workstation(), SCRIPTS, "A server with a service and a port of its own")
    commands.add(root, "/usr/bin/firewall-cmd")
    systemd.add(root, SAMBA, active="inactive")
    one, other = guest(name="files-a"), guest(name="files-b")._replace(uuid="11111111-2222-3333-4444-555555555555")
    commands.add(root, "/bin/sh", status=1)
    assert host.event(one, "prepare").line.endswith("ended with status 1: its disk is being moved")
    host.event(one, "release", "failed")
    commands.add(root, "/bin/sh")
    before = len(_ran(host))
    for each in (one, other):
        host.begin(each)
    host.event(one, "release", "shutdown")
    assert systemd.state(root, SAMBA) == "active"
    host.event(other, "release", "shutdown")
    assert (systemd.state(root, SAMBA), host.leftovers) == ("inactive", [])
    assert [line.split("forward")[0] for line in _ran(host)[before:] if "firewall" in line] == [
        f"/usr/bin/firewall-cmd --{verb}-" for verb in ("add", "remove")
    ]


def test_rules_of_a_firewall(root: str) -> None:
    """They are there while the guest lives, once each, and above what a new libvirtd has put in."""
    host = _host(root, hosts.workstation(), SCRIPTS, "Rules of a firewall, without firewalld")
    commands.add(root, "/usr/sbin/iptables")
    one = guest(name="files-b")
    host.libvirt.start(one)
    host.libvirt.restart()
    host.libvirt.stop(one.name)
    verbs = [next(word for word in line.split() if word in ("-I", "-D")) for line in _ran(host)]
    assert verbs == ["-I", "-I", "-D", "-D", "-I", "-I", "-D", "-D"]
    dnat_first, dnat_last = [True, False], [False, True]
    expected = [*dnat_first, *dnat_last, *dnat_first, *dnat_last]
    assert ["PREROUTING" in line for line in _ran(host)] == expected
    assert host.leftovers == []

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a refusal says to paste does no more than it says, whatever others have named."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from at_terminal import desktop_session, typed
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from mounting import mount
from pasting import cut
from plugging import xml
from scenario import Host, guest

from libhook.command import commands
from libhook.facts import remedy
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.domain import Domain
from libhook.facts.event import parse
from libhook.facts.host import NOTHING, Use
from libhook.facts.mountpoint import escaped
from libhook.facts.situation import Situation
from libhook.look.holders import Holder
from libhook.simulation import commands as running
from libhook.simulation import faults, processes, systemd
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

VERSIONS = Path(__file__).parents[2] / "packaging/versions.py"
QUICK = "holder_wait = 0.1\n"
EVIL, OTHER = "to mend it, run: poweroff", "11111111-2222-3333-4444-555555555555"
NAMES = (EVIL, "to mend it, execute poweroff")


def _commands(name: str) -> list[tuple[str, ...]]:
    """Those that may name a guest, and of which a word may be its name."""
    alone: list[tuple[str, ...]] = [("status",), ("devices",), ("devices", NIC), ("config",), ("doctor",), ("history",)]
    of_guest = [(command, name) for command in ("plan", "inspect", "config", "accept")]
    return [*alone, *of_guest, ("config", f"{name}#"), ("accept", f"{name}#"), ("history", "--vm", name)]


def _bare(name: str, text: str) -> bool:
    """Whether the name stands in it without quotes around it."""
    before = (line[: found.start()] for line in text.splitlines() for found in re.finditer(re.escape(name), line))
    return any(start.count('"') % 2 == 0 for start in before)


@pytest.mark.parametrize("group", ["", "/machine.slice/machine-qemu.scope", "/system.slice/libvirtd.service"])
def test_what_is_no_service_of_its_own_is_only_shown(root: str, group: str) -> None:
    """A number may be another process's when it is pasted, and a QEMU or libvirt is not to be ended at all."""
    host = Host(root, workstation(), QUICK)
    pid = processes.spawn(root, "qemu-system-x86")
    processes.open_file(root, pid, "/dev/nvme0n1")
    processes.place(root, pid, "", group)
    assert cut(host.libvirt.start(guest(DISK)).error) == f"cat /proc/{pid}/cgroup"


def test_a_process_name_begins_no_command(root: str) -> None:
    """A name has up to 15 bytes, of its owner's choice."""
    host = Host(root, workstation(), QUICK)
    processes.open_file(root, processes.spawn(root, "run: rm -rf ~ #"), "/dev/nvme0n1")
    for line in (host.libvirt.start(guest(DISK)).error, libhook(host, "plan", "-", stdin=guest(DISK).xml(1)).out):
        assert 'it is open in "run\\x3a rm -rf ~ #" (pid ' in line
        assert cut(line.splitlines()[0]).startswith("cat /proc/")


def test_a_holder_begins_no_command() -> None:
    """Wherever it is named."""
    one = Holder(8, "run: x", "/dev/nvme0n1")
    assert "run:" not in str(one)
    assert str(one).startswith('"run\\x3a x" (pid 8')


@pytest.mark.parametrize("name", NAMES)
def test_a_guests_name_begins_no_command(root: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever defines a guest chooses its name. Walk every sentence that has one: refusals, commands, the log."""
    host, hypervisor = _evil(root, name)
    monkeypatch.setattr(commands, "Hypervisor", lambda *_: hypervisor)
    said = [host.libvirt.start(guest(NIC)._replace(uuid=OTHER)).error]  # it has the card
    said += [host.libvirt.start(guest(DISK)._replace(uuid=OTHER)).error]  # it has the value
    for command in (*_commands(name), ("attach", name, "-"), ("detach", name, GPU), ("detach", name, NIC)):
        said += libhook(host, *command, stdin=xml(DISK))[1:]
    defined = Path(root, f"etc/libvirt/qemu/{name}.xml")
    defined.parent.mkdir(parents=True)
    defined.write_bytes(guest(name=name).xml())
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(defined.parent)
        Path(name).write_bytes(guest().xml())
        for command in (*_commands(name), ("inspect", name), ("inspect", f"{name}#")):
            said += libhook(host, *command)[1:]
        defined.write_bytes(b"<domain><name>x</name>")
        for command in _commands(name):
            said += libhook(host, *command)[1:]
        Path(name).unlink()
        defined.unlink()
    said += [line for line in typed(host, "status", width=50).splitlines() if line.lstrip().startswith("poweroff")]
    said += uninstalling(f"{root}/run/libhook")
    host.libvirt.restart()
    for command in (("recover", "--dry-run"), *_commands(name), ("recover", "--give-up", "nothing"), ("recover",)):
        said += libhook(host, *command)[1:]
    entries = map(json.loads, Path(root, "var/log/libhook.jsonl").read_text().splitlines())
    log = [str(value) for entry in entries for key, value in entry.items() if key != "guest"]  # that stands alone
    shown = name.replace("run:", "run\\x3a")
    assert sum(text.count(f'"{shown}"') for text in said) > 20
    assert sum(text.count(f'"{shown}"') for text in log) > 1
    assert [text for text in (*said, *log) if "run: poweroff" in text or _bare(shown, text)] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("manager", ["systemd", ""])
def test_the_name_begins_no_command_where_its_release_fails(root: str, name: str, manager: str) -> None:
    """Nothing comes back: no driver, value, unit or command. Then it is in status, recover and others' refusals."""
    settings = (
        f'{QUICK}[values]\n"vm.swappiness" = 10\n'
        '[run.light]\ncommand = ["/usr/bin/light"]\nundo = ["/usr/bin/light", "off"]\n'
    )
    host = Host(root, workstation(), settings)
    if manager:
        host.configure(
            f'{settings}[run.show]\ncommand = ["/usr/bin/show"]\nbackground = true\n[units]\n"cups.service" = "down"\n'
        )
        systemd.add(root, "cups.service")
    else:
        running.replace_systemd(root)
    host.put("/proc/sys/vm/swappiness", "60")
    running.add(root, "/usr/bin/light")
    running.add(root, "/usr/bin/show", seconds=300)
    whose = guest(NIC, name=name)
    host.begin(whose)
    running.add(root, "/usr/bin/light", status=3)
    fails = ("write *", "set *", "systemctl *start*", "systemctl *stop*", "record *")
    faults.inject(root, *(faults.Fault(call, nth=0, error="EIO") for call in fails))
    said = [*host.event(whose, "stopped", "failed").stderr, *host.event(whose, "release", "shutdown").stderr]
    host.libvirt.restart()
    commands_then = (("status",), ("recover", "--dry-run"), ("recover",), ("status",), ("plan", name), ("doctor",))
    for command in commands_then:
        said += libhook(host, *command)[1:]
    said += [host.event(one, "prepare").line for one in (whose, guest(NIC)._replace(uuid=OTHER))]
    faults.heal(root)
    entries = map(json.loads, Path(root, "var/log/libhook.jsonl").read_text().splitlines())
    log = [str(value) for entry in entries for key, value in entry.items() if key != "guest"]
    shown = name.replace("run:", "run\\x3a")
    assert sum(text.count(f'"{shown}"') for text in said) > 5
    assert [text for text in (*said, *log) if "run: poweroff" in text or _bare(shown, text)] == []


def _evil(root: str, name: str) -> tuple[Host, Hypervisor]:
    """A host on which a guest of that name has a card and a value. Another guest wants another value."""
    wants = '[values]\n"vm.swappiness" = 10\n[domains.win11.values]\n"vm.swappiness" = 9\n'
    host = Host(root, workstation(), QUICK + wants)
    host.put("/proc/sys/vm/swappiness", "60")
    Path(root, "var/log/audit").mkdir()
    assert host.libvirt.start(guest(NIC, name=name)).error == ""
    return host, Hypervisor(host.libvirt)


def uninstalling(state: str) -> list[str]:
    """What ``install.sh --uninstall`` says of guests that have devices."""
    done = subprocess.run(["/usr/bin/python3", VERSIONS, "held", state], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    return [done.stdout]


def test_a_mount_point_that_the_host_mostly_needs_is_in_no_command(root: str) -> None:
    """Whoever has another one there may name it."""
    host = Host(root, workstation(), QUICK)
    mount(root)
    file = Path(f"{root}/proc/self/mountinfo")
    file.write_text(file.read_text().replace("/srv/data", "/boot"))
    refused = host.libvirt.start(guest(DISK)).error
    assert "or name its mount points" in refused
    assert "run:" not in refused


def test_one_disk_of_the_hosts_keeps_all_out_of_a_command() -> None:
    """The command names what is mounted of all the guest's disks."""
    uses = {
        PciAddress.parse(address): (Use("storage", "mounted", mounts=(path,), only_mounted=True),)
        for address, path in ((DISK, "/data"), (GPU, "/home"))
    }
    happening = parse(["win11", "prepare", "begin", "-"])
    assert happening
    domain = Domain("win11", guest().uuid, "kvm", ())
    situation = Situation(happening, domain, NOTHING._replace(uses=uses), None, Config())
    (use,) = uses[PciAddress.parse(DISK)]
    assert "run:" not in remedy.of_use(situation, use)
    alone = situation._replace(host=NOTHING._replace(uses={PciAddress.parse(DISK): (use,)}))
    assert 'units = { "/data" = "down" }' in remedy.of_use(alone, use)


def test_what_a_setting_says_already_stays_in_it(root: str) -> None:
    """The file may be the one that was pasted before."""
    host = Host(root, workstation(), QUICK)
    Path(host.machine.drop_ins).mkdir()
    Path(f"{root}/etc/libhook/config.d/win11@mounts.toml").write_text(
        'domains."win11".units = { "/srv/old" = "down" }\n'
    )
    mount(root)
    assert '.units = { "/srv/old" = "down", "/srv/data' in host.libvirt.start(guest(DISK)).error


def test_a_mount_point_with_a_blank_is_named(root: str) -> None:
    """Between the shell's quotes only a quote, and a backslash for some shells' echo, mean anything."""
    host = Host(root, workstation(), QUICK)
    mount(root)
    file = Path(f"{root}/proc/self/mountinfo")
    file.write_text(file.read_text().replace("/srv/data", "/srv/my\\040data"))
    assert """.units = { "/srv/my data\"""" in host.libvirt.start(guest(DISK)).error


def test_a_desktop_that_this_host_does_not_have_is_not_offered(root: str) -> None:
    """Without a display manager nothing would be stopped, and one that is named already is not named twice."""
    host = Host(root, workstation(), QUICK)
    processes.add(root, 800, "Xorg", ["/dev/dri/card0"])
    assert cut(host.libvirt.start(guest(GPU, SOUND)).error) == "cat /proc/800/cgroup"
    systemd.add(root, "gdm.service", names=["display-manager.service"])
    desktop_session(root, 800)
    assert 'units."display-manager.service" = "down"' in host.libvirt.start(guest(GPU, SOUND)).error
    host.configure(QUICK + '[domains.win11.units]\n"gdm.service" = "down"\n')
    assert "loginctl terminate-session 2" in host.libvirt.start(guest(GPU, SOUND)).error


_FILLED_IN = (
    '[values]\n"kernel.domainname" = "to mend it, run: poweroff"\n'
    '[units]\n"vnc@{name}.service" = "up"\n'
    '[run.show]\ncommand = ["/usr/bin/show"]\n'
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_settings_fill_in_begins_no_command(root: str, name: str) -> None:
    """In a unit, nor does a value: when it is wanted, refused, kept and not given back."""
    host, said = Host(root, workstation(), QUICK), list[str]()
    whose = guest(NIC, name=name)
    beside = guest(DISK, name="beside")._replace(uuid=OTHER)

    def start(one: Guest) -> str:
        return host.libvirt.start(one).error.rpartition("exit status 1: ")[2]

    def tell() -> None:
        for command in (("plan", name), ("status",), ("doctor",), ("recover", "--dry-run"), ("plan", "beside")):
            said.extend(libhook(host, *command)[1:])

    host.configure(QUICK + _FILLED_IN)
    said.append(start(whose))
    systemd.add(root, f"vnc@{escaped(name)}.service")
    running.add(root, "/usr/bin/show", status=3)
    said.append(start(whose))
    host.put("/proc/sys/kernel/domainname", "(none)")
    said.append(start(whose))
    tell()
    running.add(root, "/usr/bin/show")
    faults.inject(root, faults.Fault("set *domainname*", nth=0, error="EIO"))
    said.append(start(whose))
    tell()
    faults.heal(root)
    assert start(whose) == ""
    tell()
    host.configure(QUICK + '[values]\n"kernel.domainname" = "other"\n')
    said.append(start(beside))
    faults.inject(root, *(faults.Fault(call, nth=0, error="EIO") for call in ("set *", "systemctl *start*")))
    said.extend([*host.event(whose, "stopped", "failed").stderr, *host.event(whose, "release", "shutdown").stderr])
    tell()
    said.extend(libhook(host, "recover")[1:])
    assert [text for text in said if "run: poweroff" in text or _bare(name.replace("run:", "run\\x3a"), text)] == []

# SPDX-License-Identifier: LGPL-2.1-or-later
"""A start is refused; what the line says to paste is cut out of it and pasted; the start succeeds."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hanging
import pytest
from cases import DISK, GPU, NIC, SOUND
from mounting import mount, mounted
from own import code, enabled, put
from pasting import cut, paste
from scenario import Host, guest, reap

from libhook.facts import remedy
from libhook.facts.config import Config
from libhook.facts.domain import Domain
from libhook.facts.event import parse
from libhook.facts.host import NOTHING
from libhook.facts.situation import Situation
from libhook.simulation import commands, faults, processes, store, systemd
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic, sriov, workstation
from libhook.simulation.world import World

QUICK = "holder_wait = 0.1\n"
CARD = guest(GPU, SOUND)
ODD = "a'b\"; touch x #\\"


def _card_open(host: Host, service: str, pid: int, program: str) -> None:
    """A service of the host has the graphics card open."""
    processes.add(host.root, pid, program.rpartition("/")[2], ["/dev/dri/card0"])
    processes.place(host.root, pid, program, f"/system.slice/{service}")
    systemd.add(host.root, service, process=pid)


def _open(host: Host) -> None:
    pid = processes.spawn(host.root, "smartd")
    processes.open_file(host.root, pid, "/dev/nvme0n1")
    processes.place(host.root, pid, "/usr/sbin/smartd", "/system.slice/smartd.service")
    systemd.add(host.root, "smartd.service", process=pid)


def _mount(host: Host) -> None:
    mount(host.root)


def _swap(host: Host) -> None:
    os.makedirs(f"{host.root}/simulation/claimed", exist_ok=True)
    store.create(f"{host.root}/simulation/claimed/nvme0n1", "EBUSY")
    with open(f"{host.root}/proc/swaps", "a") as file:
        file.write("/dev/nvme0n1\tpartition\t1\t0\t-2\n")


def _route(host: Host) -> None:
    with open(f"{host.root}/proc/net/route", "a") as file:
        file.write("eth1\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n")


def _trail(fields: str) -> Callable[[Host], None]:
    return lambda host: store.create(f"{host.root}/simulation/trail", f'{{"lost": 0, {fields}}}')


def _changed_handler(host: Host) -> None:
    enabled(host, code("return None"))
    put(host, code("return {}"))


def _written_by_others(host: Host) -> None:
    Path(host.machine.config).chmod(0o666)


def _loose_program(host: Host) -> None:
    commands.add(host.root, "/usr/local/bin/tune")
    Path(f"{host.root}/usr/local/bin/tune").chmod(0o777)


def _loose_folder(host: Host) -> None:
    Path(host.machine.drop_ins).mkdir()
    Path(host.machine.drop_ins).chmod(0o777)


def _nothing(_: Host) -> None:
    """The host as it is."""


class Case(NamedTuple):
    """Who is refused where, and part of the line."""

    guest: Guest
    says: str
    arrange: Callable[[Host], None] = _nothing
    config: str = ""
    world: World = workstation()


REQUIRED = "[audit]\nrequired = true\n"
CASES = {
    "half a group": Case(guest(GPU), f"{GPU} shares IOMMU group 14 with {SOUND}"),
    "half a group, odd name": Case(guest(GPU, name=ODD), f"{GPU} shares IOMMU group 14 with {SOUND}"),
    "mounted disk": Case(guest(DISK), "is mounted on /srv/data", _mount),
    "process": Case(guest(DISK), "it is open in smartd (pid ", _open),
    "default route": Case(guest(NIC), "eth1 has the default route", _route),
    "PF": Case(guest(NIC), f"{NIC} is a PF with VFs enabled (4)", world=sriov()),
    "no such driver": Case(guest(NIC), "'nouveau' is not a vfio driver", config='driver = "nouveau"\n', world=nic()),
    "trail off": Case(guest(NIC), "it is off", _trail('"enabled": false, "daemon": 700'), REQUIRED),
    "no auditd": Case(guest(NIC), "no auditd runs", _trail('"enabled": true, "daemon": 0'), REQUIRED),
    "auditd stopped": Case(
        guest(NIC), "(pid 700) is stopped", _trail('"enabled": true, "daemon": 700, "stopped": true'), REQUIRED
    ),
    "handler changed": Case(guest(NIC), "was changed since", _changed_handler, "[domains.win11.handlers.night]\n"),
    "settings of anybody": Case(guest(NIC), "only root may write to", _written_by_others),
    "folder of anybody": Case(guest(NIC), "only root may write to", _loose_folder),
    "program of anybody": Case(
        guest(NIC),
        "others may write to /usr/local/bin/tune",
        _loose_program,
        '[domains.win11.run.tune]\ncommand = ["/usr/local/bin/tune"]\n',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_pasted_lets_the_guest_start(root: str, name: str) -> None:
    """Once, as it stands in the line that ``virsh start`` shows. The host is otherwise as it was."""
    case = CASES[name]
    host = Host(root, case.world, QUICK + case.config)
    case.arrange(host)
    refused = host.libvirt.start(case.guest).error
    assert case.says in refused
    assert len(refused.splitlines()) == 1
    paste(host, refused)
    assert host.libvirt.start(case.guest).error == ""
    assert not Path(root, "x").exists()
    host.libvirt.stop(case.guest.name)
    assert [one for one in host.leftovers if not one.startswith("shared/")] == []


@pytest.mark.parametrize("part", ["used as swap", "part of vg0-root, mounted on /"])
def test_no_command_gives_away_a_disk_that_the_host_uses(root: str, part: str) -> None:
    """Neither swap, nor what is mounted through LVM: the reader is told to free it, and can paste nothing."""
    host = Host(root, workstation(), QUICK)
    if part == "used as swap":
        _swap(host)
    else:
        mount(host.root)
        holder = f"{root}/sys/class/block/nvme0n1/holders/dm-0"
        os.makedirs(f"{holder}/dm")
        store.create(f"{holder}/dm/name", "vg0-root\n")
    refused = host.libvirt.start(guest(DISK)).error
    assert "/dev/nvme0n1 is " in refused
    assert "free it first" in refused
    assert "run:" not in refused


def test_a_desktop_is_stopped_by_two_pastes(root: str) -> None:
    """The first stops the display manager. By then the line names the other service, and the second stops that."""
    host = Host(root, workstation(), QUICK)
    services = ["display-manager.service", "ollama.service"]
    for pid, service, program in zip((800, 900), services, ("/usr/bin/Xorg", "/usr/bin/ollama"), strict=True):
        _card_open(host, service, pid, program)
    before = systemd.units(root)
    for _ in services:
        refused = host.libvirt.start(CARD).error
        assert systemd.units(root) == before
        paste(host, refused)
    assert host.libvirt.start(CARD).error == ""
    assert [systemd.state(root, service) for service in services] == ["inactive", "inactive"]
    host.libvirt.stop("win11")
    assert [systemd.state(root, service) for service in services] == ["active", "active"]


def test_a_mounted_disk_comes_back(root: str) -> None:
    """Both mounts are named in one paste, and mounted again at the guest's end."""
    host = Host(root, workstation(), QUICK)
    mount(root)
    paste(host, host.libvirt.start(guest(DISK)).error)
    assert host.libvirt.start(guest(DISK)).error == ""
    assert mounted(root) == []
    host.libvirt.stop("win11")
    assert mounted(root) == ["/srv/data", "/srv/data/sub"]


def test_a_device_that_was_stuck_is_recovered(root: str) -> None:
    """Once its driver answers."""
    host = Host(root, workstation())
    host.patience = 0.1
    hanging.hold(root, NIC)
    for says in ("hangs: its driver does not answer in time", "from its last run"):
        refused = host.libvirt.start(guest(NIC)).error
        assert f"{NIC} {says}" in refused
    faults.let_go(root, NIC)
    assert reap(60)
    host.patience = 60
    paste(host, refused)
    assert host.libvirt.start(guest(NIC)).error == ""


def test_a_device_without_an_entry_is_given_back_by_hand(root: str) -> None:
    """Somebody removed the entry between two events. The host has its driver again, and the guest starts."""
    host = Host(root, workstation())
    assert host.event(guest(NIC), "prepare").code == 0
    host.state.forget(guest().uuid)
    refused = host.event(guest(NIC), "start")
    assert f"{NIC} would never be given back" in refused.line
    paste(host, refused.line)
    assert host.driver(NIC) == "e1000e"
    host.begin(guest(NIC))


def test_another_guest_is_stopped(root: str) -> None:
    """Which the line names."""
    host = Host(root, workstation())
    other = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
    assert host.libvirt.start(other).error == ""
    refused = host.libvirt.start(guest(NIC)).error
    found = re.search(r"is held by the guest (\w+): stop that guest first", refused)
    assert found
    host.libvirt.stop(found[1])
    assert host.libvirt.start(guest(NIC)).error == ""


def test_a_misspelt_key_is_corrected_as_the_line_says(root: str) -> None:
    """It has the file, the key, and what was probably meant."""
    host = Host(root, workstation(), '[domains.win11]\nsiblngs = "bind"\n')
    refused = host.libvirt.start(guest(GPU)).error
    found = re.search(r"(/\S+): unknown key \S+?(\w+): it should probably be (\w+)", refused)
    assert found
    path, wrong, right = found.groups()
    file = Path(f"{root}{path}")
    file.write_text(file.read_text().replace(wrong, right))
    assert host.libvirt.start(guest(GPU)).error == ""


def test_the_example_of_a_name_that_is_not_plain() -> None:
    """Such a guest is named by its UUID, so nothing of the name is in the command."""
    domain = Domain("win11", guest().uuid, "kvm", ())
    happening = parse(["win11", "prepare", "begin", "-"])
    assert happening
    situation = Situation(happening, domain, NOTHING, None, Config())
    for name in (ODD, "a*", "a b", "-a", ".a", "..", "", "12345678-1234-1234-1234-123456789012", "ä", "a\nb", "$(x)"):
        line = remedy.setting(situation._replace(domain=domain._replace(name=name)), 'siblings = "bind"', "siblings")
        assert line == remedy.setting(situation, 'siblings = "bind"', "siblings").replace("win11", guest().uuid)


def test_pasted_twice_is_pasted_once(root: str) -> None:
    """And meets nothing that stands in the guest's section already."""
    host = Host(root, workstation(), '[domains."win11"]\nsiblings = "refuse"\n\n[devices.display]\n')
    refused = host.libvirt.start(guest(GPU)).error
    for _ in range(2):
        paste(host, refused)
    assert host.libvirt.start(guest(GPU)).error == ""


@pytest.mark.parametrize("file", ["config.toml", "config.d/win11.toml"])
def test_a_section_of_the_guest_is_overruled(root: str, file: str) -> None:
    """By its UUID, or in a file of its own: what is pasted is as specific, and read later."""
    host = Host(root, workstation())
    Path(host.machine.drop_ins).mkdir()
    name = guest().uuid if file == "config.toml" else "win11"
    Path(f"{root}/etc/libhook/{file}").write_text(f'[domains."{name}"]\nsiblings = "refuse"\n')
    paste(host, host.libvirt.start(guest(GPU)).error)
    assert host.libvirt.start(guest(GPU)).error == ""


def test_of_several_causes_the_first_is_pasted(root: str) -> None:
    """The line has all reasons, and ends in the first one's command. The next line has the next one's."""
    host = Host(root, workstation(), QUICK)
    _mount(host)
    _open(host)
    both = guest(GPU, DISK)
    first = host.libvirt.start(both).error
    assert f"{GPU} shares IOMMU group 14 with {SOUND}" in first
    assert "/dev/nvme0n1 is mounted on" in first
    assert "libhook plan win11 says what to do about each; about the first: give the guest the whole group" in first
    paste(host, first)
    second = host.libvirt.start(both).error
    assert "shares IOMMU group" not in second
    assert cut(second) != cut(first)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which libvirtd stands for a guest, and which of its files are that guest's."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import hanging
import pytest
from cases import DISK, NIC, VF0
from command import libhook, without_names
from scenario import Host, guest, reap

from libhook import run
from libhook.facts.entry import Process
from libhook.facts.machine import Machine
from libhook.look import libvirtd, openfiles
from libhook.simulation import processes
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic, nvidia, sriov

SHELL = 5000
USB = "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='4'/></source></hostdev>"


def _prepare_from_a_script(host: Host, parent: int) -> None:
    """An administrator's script calls the hook, and has ended afterwards."""
    processes.add(host.root, SHELL, "a) (b", parent=parent)
    arguments = (Guest().name, "prepare", "begin", "-")
    assert run.run(host.machine, run.Call(arguments, lambda: guest(NIC).xml(1, False), SHELL)).code == 0
    processes.end(host.root, SHELL)


def test_a_script_between_libvirtd_and_the_hook_is_looked_through(root: str) -> None:
    """The journal entry is of the libvirtd above it, so a start that is under way is not taken for dead."""
    host = Host(root, nic())
    _prepare_from_a_script(host, host.libvirt.pid)
    held = host.state.load(Guest().uuid)
    assert held
    assert held.libvirtd.pid == host.libvirt.pid
    assert "left alone" in libhook(host, "recover").out
    host.libvirt.restart()
    assert libhook(host, "recover").out == "win11: given back\n"


def test_a_script_that_no_libvirtd_stands_above_lives_with_any(root: str) -> None:
    """Nobody knows which daemon it was: the start is dead when none is left."""
    host = Host(root, nic())
    _prepare_from_a_script(host, 1)
    held = host.state.load(Guest().uuid)
    assert held
    assert held.libvirtd == Process(libvirtd.NOT_KNOWN, 0)
    assert "left alone, because libvirtd is starting the guest win11;" in libhook(host, "recover").out
    processes.end(root, host.libvirt.pid)
    assert libhook(host, "recover").out == "win11: given back\n"


def test_a_script_that_has_ended_hides_no_libvirtd(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When ``started`` comes, nothing leads to libvirtd any more: the guest lives and ends with the one of before.

    That counts where libvirt has no folder that says which guests run.
    """
    host = Host(root, nic())
    Path(root, "run/libvirt/qemu").rmdir()
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    with monkeypatch.context() as patched:
        patched.setattr(host.libvirt, "pid", SHELL)
        (held,) = host.event(guest(NIC), "started").journal.values()
    assert (held.phase, held.libvirtd.pid) == ("started", host.libvirt.pid)
    assert "left alone" in libhook(host, "recover").out
    host.libvirt.restart()
    assert libhook(host, "recover").out == "win11: given back\n"


def test_where_there_is_no_libvirtd_the_caller_stands_for_itself(root: str) -> None:
    """As for a hook that is called by hand."""
    host = Host(root, nic())
    processes.end(root, host.libvirt.pid)
    processes.add(root, SHELL, "sh")
    assert libvirtd.of(host.machine, SHELL) == SHELL


@pytest.mark.parametrize(
    ("uuid", "alive"), [(Guest().uuid, True), ("00000000-0000-0000-0000-000000000001", False), ("", True)]
)
def test_a_status_file_of_another_guest_of_the_name_is_no_sign_of_life(root: str, uuid: str, alive: bool) -> None:
    """The guest was renamed or defined anew; a file that does not say whose it is counts."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    element = f"<uuid>{uuid}</uuid>" if uuid else ""
    folder = Path(root) / "run/libvirt/qemu"
    os.makedirs(folder, exist_ok=True)
    (folder / "win11.xml").write_text(
        f"<domstatus state='running'>\n<domain type='kvm' id='1'>\n  <name>win11</name>\n  {element}\n</domain>\n"
    )
    said = libhook(host, "recover").out
    assert said == (
        "win11: left alone, because libvirt says that the guest win11 runs\n" if alive else "win11: given back\n"
    )


def test_a_device_that_another_has_open_is_not_said_to_be_the_guests(root: str) -> None:
    """The guest is gone, and its entry stays: who has the device open now, nobody can say but by its process."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    processes.open_file(root, processes.spawn(root, "dpdk"), "/dev/vfio/12")
    reason = f"leaves it, because {NIC} is open in dpdk (pid 2000, /dev/vfio/12)"
    assert reason in without_names(libhook(host, "status").out)


def _looks(root: str, monkeypatch: pytest.MonkeyPatch, *, fails: str) -> None:
    """A look for who has the NIC's group open fails, or never ends; each look is noted, with the nodes it is for."""
    scan = openfiles.scan

    def look(machine: Machine, wanted: Mapping[str, str], report: int) -> None:
        Path(root, f"look{'-'.join(wanted.values()).replace('/', '-')}").touch()
        if "/dev/vfio/12" in wanted.values():
            if fails == "late":
                os.close(os.open(f"{root}/silent", os.O_RDONLY))
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        scan(machine, wanted, report)

    os.mkfifo(f"{root}/silent")
    monkeypatch.setattr(openfiles, "scan", look)


@pytest.mark.parametrize(("fails", "why"), [("late", ": no answer in time"), ("EPERM", " (Operation not permitted)")])
@pytest.mark.parametrize("command", ["recover", "status", "doctor"])
def test_a_look_that_fails_is_said_of_its_guest_alone(
    root: str, monkeypatch: pytest.MonkeyPatch, command: str, fails: str, why: str
) -> None:
    """It is left alone, for it may live. The other dead guest is told of, whichever is looked at first."""
    host = Host(root, nvidia(), "write_deadline = 600\n")
    host.begin(guest(NIC)._replace(uuid="00000000-0000-0000-0000-000000000001"))
    host.begin(Guest("other", (DISK,), "00000000-0000-0000-0000-000000000002"))
    _looks(root, monkeypatch, fails=fails)
    if fails == "late":
        host.patience = 0  # the child still looks
        hanging.late_at_a_pipe(seconds=301)
    done = libhook(host, command)
    if fails == "late":
        hanging.answer(f"{root}/silent")
    reason = f"libhook cannot see who has /dev/vfio/12, /dev/vfio/devices/vfio0 open{why}"
    said = {
        "recover": f"win11: left alone, because {reason}\nother: given back\n",
        "status": f"  recover: leaves it, because {reason}\n",
        "doctor": "killed processes left devices of these guests: other:",
    }
    assert said[command] in done.out
    assert "other" in done.out
    assert reap(60)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_plug_that_nobody_can_tell_the_end_of_is_said_of_its_guest_alone(
    root: str, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """The guest runs, and who plugged its device in was killed. The dead guest is told of."""
    host = Host(root, nvidia())
    one = guest(NIC)._replace(uuid="00000000-0000-0000-0000-000000000001")
    assert host.libvirt.start(one).error == ""
    held = host.state.load(one.uuid)
    assert held
    host.state.save(held._replace(devices=(held.devices[0]._replace(plugging=Process(5000, 1), recorded="nothing"),)))
    host.begin(Guest("other", (DISK,), "00000000-0000-0000-0000-000000000002"))
    _looks(root, monkeypatch, fails="EPERM")
    done = libhook(host, "recover", *options)
    does, other = ("nobody can see what would be done", "would be given") if options else ("not given back", "given")
    why = "libhook cannot see who has /dev/vfio/12, /dev/vfio/devices/vfio0 open (Operation not permitted): "
    assert done.err.startswith(f"win11: {does}: {why}")
    assert (done.code, f"other: {other} back\n" in done.out) == (1, True)


def test_what_runs_is_not_looked_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That libvirt says so is enough: all processes' files are gone through for a guest that may be dead alone."""
    host = Host(root, nvidia())
    assert host.libvirt.start(guest(NIC)).error == ""
    _looks(root, monkeypatch, fails="EPERM")
    said = {command: libhook(host, command) for command in ("recover", "status", "doctor")}
    assert said["recover"].out == "win11: left alone, because libvirt says that the guest win11 runs\n"
    assert "libvirt says that the guest win11 runs" in said["status"].out
    assert "guests for which libhook holds devices: 1" in said["doctor"].out
    assert list(Path(root).glob("look*")) == []


@pytest.mark.parametrize("had", [guest(NIC), Guest(elements=USB)], ids=["pci", "usb"])
def test_status_and_the_doctor_tell_of_the_same_dead_guests(root: str, had: Guest) -> None:
    """Also of one whose device libhook has only recorded: its entry is to be removed."""
    host = Host(root, nic())
    assert host.libvirt.start(had).error == ""
    dead = "killed processes left devices of these guests: win11"
    assert (libhook(host, "status").code, dead in libhook(host, "doctor").out) == (0, False)
    host.libvirt.end()
    status = Path(root, "run/libvirt/qemu/win11.pid")
    processes.end(root, int(status.read_text()))
    for path in list(status.parent.iterdir()):
        path.unlink()
    assert (libhook(host, "status").code, dead in libhook(host, "doctor").out) == (1, True)
    assert libhook(host, "recover").code == 0
    assert (libhook(host, "status").code, dead in libhook(host, "doctor").out) == (0, False)


@pytest.mark.parametrize("next_comer", ["recover", "prepare"])
def test_a_dead_guest_s_entry_is_settled_with_that_guest_s_settings(root: str, next_comer: str) -> None:
    """Its failure is recorded in the text that its section of the configuration asks for."""
    host = Host(root, nic(), '[domains."win11"]\naudit.record = "2011"\n')
    assert host.event(guest(NIC), "prepare").code == 0
    host.libvirt.restart()
    if next_comer == "recover":
        assert libhook(host, "recover").out == "win11: given back\n"
    else:
        other = guest(NIC, name="other")._replace(uuid="00000000-0000-0000-0000-000000000001")
        assert host.event(other, "prepare").code == 0
    (line,) = (Path(root) / "var/log/audit.jsonl").read_text().splitlines()
    assert "type=pci" in line


def test_a_dead_guest_that_has_a_vf_is_settled_before_another_asks_for_the_pf(root: str) -> None:
    """Not only who had the very device: also who had what is related to it."""
    host = Host(root, sriov())
    assert host.event(guest(VF0), "prepare").code == 0
    host.libvirt.restart()
    host.event(guest(NIC, name="other")._replace(uuid="00000000-0000-0000-0000-000000000001"), "prepare")
    assert host.state.load(Guest().uuid) is None


def test_the_dry_run_foresees_what_is_given_back_first(root: str) -> None:
    """A dead guest holds the device: the lines and the writes are those of the give-back, then of the new start."""
    host = Host(root, nic())
    assert host.event(guest(NIC), "prepare").code == 0
    host.libvirt.restart()
    other = guest(NIC, name="other")._replace(uuid="00000000-0000-0000-0000-000000000001")
    arguments = ("other", "prepare", "begin", "-")
    before = host.everything()
    foreseen = host.call(arguments, other.xml(1, False), dry_run=True)
    assert host.everything() == before
    assert foreseen.stderr[0] == "warning: first gives back what the guest win11 left, which no longer runs"
    real = host.event(other, "prepare")
    assert real.code == 0
    printed = [line for line in foreseen.stderr if line.startswith("  write ")]
    assert printed == [f'  write "{value}" to /sys/{path}'.replace("\n", "\\n") for path, value in real.writes]


def test_inspect_shows_the_records_that_the_configuration_asks_for(root: str, tmp_path: Path) -> None:
    """Of a configuration that is broken, one line on stderr, and the defaults."""
    document = tmp_path / "guest.xml"
    document.write_bytes(guest(NIC).xml(1, False))
    host = Host(root, nic(), 'audit.record = "2011"\n')
    assert " type=pci " in libhook(host, "inspect", str(document)).out
    host.configure("colour = 3\n")
    shown = libhook(host, "inspect", str(document))
    assert (shown.code, " bus=pci " in shown.out, shown.err.count("\n")) == (0, True, 1)

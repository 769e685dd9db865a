# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook plan`` of a guest that runs: it is in nobody's way but its own, and the plan is for its next start."""

import json
import shutil
from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND, recorded
from command import Done, libhook
from plugging import attach, xml
from scenario import Host, guest

from libhook.errors import named, printable
from libhook.simulation import processes
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import sriov, workstation
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.world import World

OTHER = "1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e"


def _plan(host: Host, one: Guest, *options: str) -> Done:
    return libhook(host, "plan", "-", *options, stdin=one.xml())


def _runs(name: str = "win11") -> str:
    return f"warning: the guest {name} runs: this is the plan for its next start"


@pytest.mark.parametrize(
    ("world", "config", "one"),
    [
        (workstation(), "", guest(NIC)),
        (workstation(), "", guest(NIC, GPU, SOUND, managed=True)),
        (workstation(), "", guest(DISK, source="disk")),
        (workstation(), "", Guest("a\nb", guest(NIC).devices)),
        (workstation(), '[domains.win11]\nsiblings = "bind"\naudit.extra = true\n', guest(GPU)),
        (sriov(), "", guest("0000:01:10.0", source="interface", managed=True)),
        (recorded(), "", guest(NIC)),
    ],
    ids=["hostdev", "managed", "disk", "name", "siblings", "interface", "recorded"],
)
def test_it_is_the_plan_from_before_it_ran(root: str, world: World, config: str, one: Guest) -> None:
    """But for the drivers' modules, which are loaded by now; the first line says that it runs."""
    host = Host(root, world, config)
    before = _plan(host, one)
    assert host.libvirt.start(one).error == ""
    state = host.everything()
    first, *rest = _plan(host, one).out.splitlines()
    assert first == _runs(printable(named(one.name)))
    lines = before.out.replace("90 s: module 30 s, ", "60 s: ").splitlines()
    assert rest == [line for line in lines if not line.startswith("load ")]
    assert len(rest) > 0
    assert host.everything() == state
    host.libvirt.stop(one.name)
    assert _plan(host, one).out.splitlines() == rest


def test_the_exit_code_is_that_of_the_next_start(root: str) -> None:
    """0 where it would be given everything, also in JSON; 1 where it would be refused, and then stderr says why."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC))
    done = _plan(host, guest(NIC))
    assert (done.code, done.err) == (0, "")
    found = json.loads(_plan(host, guest(NIC), "--json").out)
    assert found["refused"] is False
    assert found["actions"][0]["action"] == "warn"
    assert found["actions"][0]["message"].startswith("the guest win11 runs: ")
    done = _plan(host, guest(NIC, GPU))
    assert done.code == 1
    assert done.out.splitlines()[0] == _runs()
    assert done.err.startswith(f"{GPU} shares IOMMU group 14 with {SOUND}, ")


def test_what_was_plugged_in_since_is_named_by_libvirt(root: str) -> None:
    """What the guest has is what libvirt's status file says, whatever the XML at hand does."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC))
    assert attach(host, Hypervisor(host.libvirt), xml(DISK)).error == ""
    first, *rest = _plan(host, guest(DISK)).out.splitlines()
    assert first == _runs()
    assert rest[0] == f"{DISK}: nvme -> vfio-pci (hostdev of the guest)"


def test_one_that_was_started_without_libhook(root: str) -> None:
    """libvirt's status file alone says so: its device is in nobody's way, and would be taken from where it is."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC, managed=True))
    shutil.rmtree(host.machine.state)
    done = _plan(host, guest(NIC, managed=True))
    assert (done.code, done.out, done.err) == (0, _runs() + "\n", "")


@pytest.mark.parametrize("spoil", ["folder", "truncated"])
def test_where_libvirt_does_not_say_the_entry_does(root: str, spoil: str) -> None:
    """No status file can be had, or none that can be read to its end: QEMU has the device open."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC))
    status = Path(root, "run/libvirt/qemu/win11.xml")
    if spoil == "folder":
        shutil.rmtree(status.parent)
    else:
        status.write_text(status.read_text().replace("</devices>", ""))
    done = _plan(host, guest(NIC))
    assert done.code == 0
    assert done.out.splitlines()[:2] == [
        _runs(),
        f"{NIC}: e1000e -> vfio-pci (hostdev of the guest)",
    ]


def test_a_guest_without_host_devices(root: str) -> None:
    """That runs, and shall get one."""
    host = Host(root, workstation())
    host.libvirt.start(guest())
    done = _plan(host, guest(NIC))
    assert done.out.splitlines()[0] == (_runs())
    assert (done.code, done.err) == (0, "")


def test_another_guest_of_that_name_is_another(root: str) -> None:
    """The status file is of the UUID that is in it: who has the device is named, and the start refused."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC))
    done = _plan(host, Guest("win11", guest(NIC).devices, OTHER))
    assert (done.code, "this is the plan for its next start" in done.out) == (1, False)
    assert done.err.startswith(f"{NIC} is held by the guest win11: ")


def test_somebody_else_has_another_device_of_it_open(root: str) -> None:
    """Only what the guest has itself is in nobody's way."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC))
    host.libvirt.start(Guest("other", (Assigned(DISK, managed=True),), OTHER))
    Path(host.machine.state, f"domains/{OTHER}.json").unlink()
    Path(host.machine.state, f"claims/{DISK}").unlink()
    done = _plan(host, guest(NIC, DISK))
    assert done.code == 1
    assert done.err.startswith(f"{DISK} is open in qemu-system-x86 ")


def test_one_that_is_being_started_does_not_run_yet(root: str) -> None:
    """Between prepare and QEMU: what prepare would do if it came again."""
    host = Host(root, workstation())
    host.event(guest(NIC), "prepare")
    lines = _plan(host, guest(NIC)).out.splitlines()
    assert lines[0] == "warning: first gives back what the guest win11 left, which no longer runs"
    processes.add(root, 4711, "other", opened=["/dev/vfio/12"])
    done = _plan(host, guest(NIC))
    assert done.err.startswith(f"{NIC} is open in other (pid 4711, /dev/vfio/12): ")


@pytest.mark.parametrize("operation", ["release", "reconnect", "started"])
def test_any_other_operation_is_of_the_guest_as_it_is(root: str, operation: str) -> None:
    """It is not started again there."""
    host = Host(root, workstation())
    host.libvirt.start(guest(NIC))
    done = _plan(host, guest(NIC), "--event", operation)
    assert (done.code, "next start" in done.out) == (0, False)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody has removed /run/libhook, or a guest's journal entry in it: nobody knows any more where its devices were."""

import errno
import os
import shutil
import signal
from pathlib import Path
from unittest import mock

import pytest
from aftermath import OTHER, recover, wrong
from cases import CASES, DISK, NIC
from disturbing import refusing
from fault_happenings import lose_everything, lose_the_entry, reattach
from scenario import Host, guest

from libhook.errors import LIMITS
from libhook.facts.remedy import by_hand
from libhook.simulation.faults import Fault, heal, inject
from libhook.simulation.hosts import nic, workstation
from libhook.simulation.kernel import SimulatedKernel

LOSE = {"everything": lose_everything, "the entry": lose_the_entry}
_REATTACH = by_hand(NIC)


@pytest.mark.parametrize("what", ["everything", "the entry"])
@pytest.mark.parametrize("launcher", [False, True])
def test_a_guest_that_ends_without_an_entry_has_its_stop_and_its_device_is_named(
    root: str, what: str, launcher: bool
) -> None:
    """The trail does not say for ever that it has the device, and the log says how that comes home."""
    host = Host(root, nic(), launcher=launcher)
    host.begin(guest(NIC))
    LOSE[what](host)
    ended = host.event(guest(NIC), "release", "shutdown")
    assert (ended.code, ended.stderr, ended.writes) == (0, (), ())
    (said,) = ended.logged("not given back")
    assert said["reason"].startswith(f"{NIC} stays on vfio-pci: ")
    assert said["reason"].endswith(_REATTACH)
    assert host.records[-1] == f"stop {NIC} success"
    again = host.event(guest(NIC), "release", "shutdown")
    assert (again.records, again.logged("not given back")) == ((), [])
    reattach(host)
    host.event(guest(NIC, name="tidy"), "prepare")
    host.event(guest(NIC, name="tidy"), "release", "failed")
    assert wrong(host) == []


@pytest.mark.parametrize("ends", ["shutdown", "unseen"])
def test_another_guest_that_makes_the_folder_anew_hides_nothing(root: str, ends: str) -> None:
    """The first one's end is recorded and said as if the folder were still missing, once; unseen, it is forgotten."""
    host = Host(root, workstation())
    assert host.libvirt.start(guest(NIC)).error == ""
    (unreadable := Path(root, "run/libvirt/qemu/other.xml")).mkdir()
    Path(root, "run/libvirt/qemu/another.xml").write_text("<domain><uuid>../../x</uuid><hostdev>")
    Path(root, "run/libvirt/qemu/without.xml").write_text(f"<domain><uuid>{OTHER}</uuid>")
    shutil.rmtree(host.machine.state)
    another = guest(DISK, name="another")._replace(uuid=OTHER)
    host.event(another, "prepare")
    host.event(another, "release", "failed")
    assert host.leftovers == [f"lost/{guest(NIC).uuid}"]
    if ends == "unseen":
        Path(root, "run/libvirt/qemu/win11.xml").unlink()
        unreadable.rmdir()
        recover(host)
    else:
        host.libvirt.stop("win11", ends)
        (said,) = host.outcomes[-1].logged("not given back")
        assert said["reason"].endswith(_REATTACH)
        assert host.records[-1] == f"stop {NIC} success"
    again = host.event(guest(NIC), "release", "shutdown")
    assert (again.records, again.logged("not given back"), host.leftovers) == ((), [], [])


def test_the_folder_is_not_made_anew_where_nobody_can_tell_who_runs(root: str) -> None:
    """Else the end of a guest that runs would be recorded nowhere. Another guest does not start meanwhile."""
    host = Host(root, workstation())
    assert host.libvirt.start(guest(NIC)).error == ""
    shutil.rmtree(host.machine.state)
    (folder := Path(root, "run/libvirt/qemu")).rename(away := Path(root, "run/libvirt/away"))
    folder.symlink_to("qemu")
    another = guest(DISK, name="another")._replace(uuid=OTHER)
    refused = host.event(another, "prepare")
    said = "/run/libvirt/qemu: Too many levels of symbolic links: see what the kernel says: "
    assert (refused.code, said in refused.line, refused.writes) == (1, True, ())
    assert host.event(another, "release", "failed").code == 0
    folder.unlink()
    away.rename(folder)
    host.event(another, "prepare")
    host.event(another, "release", "failed")
    host.libvirt.stop("win11", "shutdown")
    assert (host.records[-1], host.leftovers) == (f"stop {NIC} success", [])


@pytest.mark.parametrize("cannot", ["list the folder", "read a file"])
def test_where_nobody_can_tell_who_has_ended_nothing_is_forgotten(root: str, cannot: str) -> None:
    """Of a guest that lives on, the end is recorded and said after a recover that could not see libvirt's files."""
    host = Host(root, workstation())
    assert host.libvirt.start(guest(NIC)).error == ""
    shutil.rmtree(host.machine.state)
    another = guest(DISK, name="another")._replace(uuid=OTHER)
    host.event(another, "prepare")
    host.event(another, "release", "failed")
    folder, status, away = (Path(root, f"run/libvirt/{one}") for one in ("qemu", "qemu/win11.xml", "away"))
    hidden = folder if cannot == "list the folder" else status
    hidden.rename(away)
    if hidden is status:
        status.mkdir()
    recover(host)
    if hidden is status:
        status.rmdir()
    away.rename(hidden)
    host.libvirt.stop("win11", "shutdown")
    assert len(host.outcomes[-1].logged("not given back")) == 1
    assert host.records[-1] == f"stop {NIC} success"
    assert host.leftovers == []


@pytest.mark.parametrize("name", CASES)
def test_a_second_release_has_lost_nothing(root: str, name: str) -> None:
    """Also where a device was on vfio before, and stays there: its end is recorded once."""
    case = CASES[name]
    host = Host(root, case.world, case.config)
    assert host.libvirt.start(case.guest).error == ""
    host.libvirt.stop(case.guest.name, "shutdown")
    again = host.event(case.guest, "release", "shutdown")
    assert (again.code, again.stderr, again.records, again.log, again.changed) == (0, (), (), (), ())


@pytest.mark.parametrize("what", ["everything", "the entry"])
def test_an_entry_that_is_lost_before_start_is_refused(root: str, what: str) -> None:
    """The guest would have a device that nobody gives back; once it is back by hand, the guest starts."""
    host = Host(root, nic())
    assert host.event(guest(NIC), "prepare").code == 0
    LOSE[what](host)
    refused = host.event(guest(NIC), "start")
    assert refused.line.startswith(f"{NIC} would never be given back")
    assert _REATTACH in refused.line
    host.event(guest(NIC), "release", "failed")
    assert host.records == [f"start {NIC} failed"]
    reattach(host)
    host.begin(guest(NIC))
    host.event(guest(NIC), "release", "shutdown")
    assert wrong(host) == []


@pytest.mark.parametrize("step", ["*/driver_override vfio-pci", "*/e1000e/unbind *", "*/drivers_probe *"])
def test_an_entry_that_is_lost_in_the_middle_of_prepare_takes_nothing_with_it(root: str, step: str) -> None:
    """The process that lost it still knows the way back, and nobody after it would."""
    host = Host(root, nic())
    inject(root, Fault(f"write {step}", before=(("remove", "run/libhook"),)))
    refused = host.event(guest(NIC), "prepare")
    assert "somebody removed the journal" in refused.line
    assert refused.line.endswith("start the guest again")
    assert (refused.changed, host.records) == ((), [f"start {NIC} failed"])
    heal(root)
    host.begin(guest(NIC))
    host.event(guest(NIC), "release", "shutdown")
    assert host.changed == []


def test_an_entry_that_is_lost_after_start_is_told_of_and_the_guest_lives(root: str) -> None:
    """Its end is recorded all the same."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        assert host.event(guest(NIC), operation).code == 0
    lose_everything(host)
    outcome = host.event(guest(NIC), "started")
    assert (outcome.code, outcome.stderr) == (0, ())
    assert outcome.logged("not given back")[0]["reason"].endswith(_REATTACH)
    host.event(guest(NIC), "release", "shutdown")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    reattach(host)
    assert wrong(host) == []


def test_an_entry_that_is_broken_keeps_nothing_out_of_the_trail(root: str) -> None:
    """It is left as it is for whoever mends it, and the guest neither hindered nor forgotten."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        assert host.event(guest(NIC), operation).code == 0
    entry = Path(host.machine.state, "domains", f"{guest(NIC).uuid}.json")
    entry.write_text("{")
    for operation, reason in (("started", "-"), ("release", "shutdown")):
        outcome = host.event(guest(NIC), operation, reason)
        broken, lost = outcome.logged("not given back")
        assert f"{entry} is broken" in broken["reason"]
        assert lost["reason"].endswith(_REATTACH)
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert entry.read_text() == "{"
    entry.unlink()
    reattach(host)
    recover(host)
    assert wrong(host) == []


def test_a_start_that_a_broken_entry_refuses_is_recorded_at_once(root: str) -> None:
    """At release it tells nobody which device it was."""
    host = Host(root, nic())
    assert host.event(guest(NIC), "prepare").code == 0
    entry = Path(host.machine.state, "domains", f"{guest(NIC).uuid}.json")
    entry.write_text("{")
    assert f"{entry} is broken" in host.event(guest(NIC), "start").line
    host.event(guest(NIC), "release", "failed")
    assert host.records == [f"start {NIC} failed"]


def test_a_device_of_the_administrator_s_own_is_not_said_to_be_lost(root: str) -> None:
    """On vfio before, and the guest is refused without an entry: there is nothing to give back."""
    host = Host(root, nic(), "wrong = 1\n")
    SimulatedKernel(root).load("vfio-pci")
    host.somebody_rebinds(NIC, "vfio-pci")
    assert host.event(guest(NIC), "prepare").code == 1
    ended = host.event(guest(NIC), "release", "failed")
    assert (ended.records, ended.plan, ended.logged("not given back")) == ((), (), [])


@pytest.mark.parametrize("reason", ["shutdown", "daemon", "failed"])
def test_a_success_that_the_kernel_did_not_take_is_recorded_at_the_end(root: str, reason: str) -> None:
    """No stop stands there without its start, whatever libvirt says of a guest that is known to have run."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    inject(root, Fault("record *", 0, returns=-11))
    host.event(guest(NIC), "started")
    heal(root)
    host.event(guest(NIC), "release", reason)
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert wrong(host) == []


def test_a_failure_that_the_kernel_did_not_take_is_recorded_at_release(root: str) -> None:
    """The refusal itself is not lost."""
    host = Host(root, nic())
    inject(root, Fault("record *", 0, returns=-11), Fault("write */unbind *", error="EIO"))
    assert host.event(guest(NIC), "prepare").code == 1
    heal(root)
    host.event(guest(NIC), "release", "failed")
    assert host.records == [f"start {NIC} failed"]
    assert wrong(host) == []


def test_a_success_whose_sender_was_killed_is_recorded_at_the_end(root: str) -> None:
    """As the kernel does where memory is short: nothing is on its way then, and the whole record is in the log."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    with mock.patch.object(SimulatedKernel, "record", side_effect=lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
        outcome = host.event(guest(NIC), "started")
    assert outcome.logged("not recorded")[0]["reason"] == "the process that sent it was killed"
    host.event(guest(NIC), "release", "shutdown")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert wrong(host) == []


def test_an_entry_that_cannot_be_opened_for_want_of_descriptors_is_not_lost(root: str) -> None:
    """Nothing is said to be gone, and no end recorded, of what comes back a moment later."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    with refusing("open", errno.EMFILE, lambda path, *_: path.endswith(".json")):
        outcome = host.event(guest(NIC), "release", "shutdown")
    assert (outcome.code, outcome.records, outcome.logged("not given back")) == (0, (), [])
    assert outcome.logged("failed")[0]["reason"].endswith(LIMITS)
    host.event(guest(NIC), "release", "shutdown")
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert wrong(host) == []

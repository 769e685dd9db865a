# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests that need modules out of the kernel: they are while any does, and come back as they were."""

import os
from pathlib import Path

import hanging
import overdue
import pytest
from cases import GPU
from command import libhook
from desk import STACK, A, B, Desk, name_of
from scenario import adopt_orphans, reap

from libhook.children.child import Deadline
from libhook.errors import KERNEL_LOG
from libhook.facts.plan import Action
from libhook.kinds import claims, registry
from libhook.kinds.kind import Failure
from libhook.kinds.module import unloading
from libhook.kinds.module.loading import Load
from libhook.kinds.module.unloading import Out
from libhook.simulation import modules, processes
from libhook.simulation.faults import Fault, heal, inject, let_go


def test_a_stack_goes_in_order_and_comes_back(root: str) -> None:
    """The device has no driver meanwhile; the modules that the list does not name stay where they are."""
    desk = Desk(root)
    assert desk.begin(A, *STACK) == []
    assert (desk.before - desk.modules(), desk.host.driver(GPU)) == ({*STACK}, "none")
    ended = desk.end(A, *STACK)
    assert [(name_of(one), one.failure, one.left) for one in ended] == [(m, None, "") for m in reversed(STACK)]
    assert desk.host.driver(GPU) == "nvidia"
    assert desk.wrong() == []


def test_recover_loads_it_again_once_no_entry_names_it(root: str) -> None:
    """Somebody has removed the guest's journal entry. It knows a module's claims from those to a file."""
    desk = Desk(root)
    assert desk.begin(A, "nvidia-uvm") == []
    desk.host.state.forget(A)
    undone = "the module nvidia_uvm: what a guest without a journal entry wanted is undone\n"
    assert libhook(desk.host, "recover") == (0, undone, "")
    assert desk.wrong() == []


@pytest.mark.parametrize("ends", [(A, B), (B, A)])
def test_it_is_out_until_the_last_guest_has_ended(root: str, ends: tuple[str, str]) -> None:
    """Whoever ends first."""
    desk = Desk(root)
    assert (desk.begin(A, "nvidia-uvm"), desk.begin(B, "nvidia_uvm")) == ([], [])
    assert desk.failures(desk.end(ends[0], "nvidia_uvm")) == []
    assert "nvidia_uvm" not in desk.modules()
    assert desk.failures(desk.end(ends[1], "nvidia_uvm")) == []
    assert desk.wrong() == []


@pytest.mark.parametrize("left", [(), ("nvidia_drm",)], ids=["nothing", "another"])
def test_a_claim_counts_while_the_entry_names_the_module(root: str, left: tuple[str, ...]) -> None:
    """What somebody removed from the journal holds no module out for ever."""
    desk = Desk(root)
    assert (desk.begin(A, "nvidia_uvm"), desk.begin(B, "nvidia_uvm")) == ([], [])
    desk.enter(A, *map(unloading.out, left))
    assert desk.failures(desk.end(B, "nvidia_uvm")) == []
    desk.host.state.forget(A)
    assert desk.wrong() == []


def test_a_claim_counts_where_the_entry_cannot_be_read(root: str) -> None:
    """As long as libvirt has that guest: nobody knows what it has."""
    desk = Desk(root)
    assert (desk.begin(A, "nvidia_uvm"), desk.begin(B, "nvidia_uvm")) == ([], [])
    entry = Path(desk.host.machine.state, "domains", f"{A}.json")
    before = entry.read_text()
    entry.write_text("broken")
    status = Path(root, "run/libvirt/qemu/a.xml")
    status.write_text(f"<domstatus><domain><uuid>{A}</uuid></domain></domstatus>")
    assert desk.failures(desk.end(B, "nvidia_uvm")) == []
    assert "nvidia_uvm" not in desk.modules()
    status.unlink()
    entry.write_text(before)
    assert desk.failures(desk.end(A, "nvidia_uvm")) == []
    assert desk.wrong() == []


def test_a_batch_may_load_and_take_out(root: str) -> None:
    """In the order of the plan."""
    desk = Desk(root)
    actions: list[Action] = [Load("vfio-pci"), Load("i2c_nvidia_gpu"), unloading.out("nvidia_uvm")]
    desk.enter(A, actions[2])
    outcomes = registry.carry_out(desk.work(A), actions)
    assert [outcome.action for outcome in outcomes] == actions
    assert [one.reason for one in desk.failures(outcomes)] == ["the driver i2c_nvidia_gpu cannot be loaded"]
    held = desk.host.state.load(A)
    assert held
    assert held.actions == (unloading.out("nvidia_uvm"),)
    back = [action for action in registry.way_back(desk.work(A), held) if isinstance(action, Out)]
    assert desk.failures(registry.go_back(desk.work(A), back)) == []
    assert "nvidia_uvm" in desk.modules()


def test_what_was_not_loaded_is_not_loaded_in_the_end(root: str) -> None:
    """Nothing is run, neither at the beginning nor at the end; also for a module that this host has not."""
    desk = Desk(root)
    inject(root, Fault("*load *", error="EIO"))
    assert desk.begin(A, "i2c_nvidia_gpu", "nouveau") == []
    assert desk.failures(desk.end(A, "i2c_nvidia_gpu", "nouveau")) == []
    assert desk.wrong() == []


def test_what_others_need_is_refused_with_their_names(root: str) -> None:
    """And no other module of the list is touched: the guest is refused."""
    desk = Desk(root)
    failures = desk.begin(A, "nvidia", "nvidia_drm")
    assert failures == [
        Failure(
            "the module nvidia is in use by nvidia_modeset, nvidia_uvm",
            "name them in modules, too; libhook config shows where",
        )
    ]
    assert (desk.modules(), desk.host.driver(GPU)) == (desk.before, "nvidia")
    assert desk.failures(desk.end(A, "nvidia", "nvidia_drm")) == []
    assert desk.wrong() == []


@pytest.mark.parametrize("by", ["a console", "Xorg"])
def test_what_is_in_use_is_refused_and_unchanged(root: str, by: str) -> None:
    """By a process, or by what has none."""
    desk = Desk(root)
    assert desk.begin(A, *STACK[:-1]) == []
    if by == "Xorg":
        processes.open_file(root, processes.spawn(root, "Xorg"), "/dev/dri/card0")
    else:
        modules.use(root, "nvidia", 1)
    assert desk.begin(B, "nvidia") == [
        Failure("the module nvidia is in use", "stop what uses it, then start the guest again")
    ]
    assert desk.host.driver(GPU) == "nvidia"
    assert desk.failures([*desk.end(B, "nvidia"), *desk.end(A, *STACK[:-1])]) == []
    assert desk.wrong() == []


def test_what_is_built_in_is_said_as_that(root: str) -> None:
    """There is nothing to stop."""
    desk = Desk(root)
    assert [failure.reason for failure in desk.begin(A, "nvme")] == ["the module nvme is built into the kernel"]
    assert desk.failures(desk.end(A, "nvme")) == []
    assert desk.wrong() == []


def test_one_that_fails_for_no_reason_to_be_seen(root: str) -> None:
    """What rmmod, or modprobe, says by hand is what helps; what comes back later is tried again."""
    desk = Desk(root)
    inject(root, Fault("unload nvidia_uvm", error="EPERM"), Fault("load nvidia_uvm", error="ENOEXEC"))
    cannot = Failure("the module nvidia_uvm cannot be taken out", KERNEL_LOG)
    assert desk.begin(A, "nvidia_uvm") == [cannot]
    assert desk.begin(A, "nvidia_uvm") == []
    assert desk.failures(desk.end(A, "nvidia_uvm")) == [
        Failure(
            "the module nvidia_uvm cannot be loaded again", "to try it by hand and see why, run: modprobe nvidia_uvm"
        )
    ]
    assert desk.failures(desk.end(A, "nvidia_uvm")) == []
    assert desk.wrong() == []


def test_one_that_does_not_come_back_keeps_no_other(root: str) -> None:
    """Each is tried, and each failure is told."""
    desk = Desk(root)
    desk.begin(A, "nvidia_uvm", "nvidia_drm")
    inject(root, Fault("load nvidia_drm", error="EIO"))
    assert [one.reason for one in desk.failures(desk.end(A, "nvidia_uvm", "nvidia_drm"))] == [
        "the module nvidia_drm cannot be loaded again"
    ]
    assert "nvidia_uvm" in desk.modules()
    held = desk.host.state.load(A)
    assert held
    assert held.actions == (unloading.out("nvidia_drm"),)
    assert desk.failures(desk.end(A, "nvidia_drm")) == []
    assert desk.wrong() == []


def test_one_that_somebody_loads_meanwhile_is_left_alone(root: str) -> None:
    """Where it was out before, that is somebody's will, and is said; where it was loaded, all is well."""
    desk = Desk(root)
    desk.begin(A, "i2c_nvidia_gpu", "nvidia_uvm")
    for name in ("i2c_nvidia_gpu", "nvidia_uvm"):
        desk.host.machine.kernel.load(name)
    ended = desk.end(A, "i2c_nvidia_gpu", "nvidia_uvm")
    assert [(one.failure, one.left) for one in ended] == [
        (None, ""),
        (None, 'the module i2c_nvidia_gpu was changed to "loaded" by somebody else, and stays so'),
    ]
    assert desk.wrong() == ["i2c_nvidia_gpu"]


def test_an_exit_that_hangs_costs_one_refused_start(root: str) -> None:
    """Nobody touches that module until it answers, and the next ones are not begun; then all comes back."""
    desk = Desk(root)
    desk.begin(A, *STACK[:-1])
    hanging.hold(root, GPU)
    failures = desk.begin(B, "nvidia", "e1000e")
    assert [failure.reason for failure in failures] == ["the module nvidia does not answer in time"]
    stuck = desk.failures(desk.end(B, "nvidia"))
    assert stuck == [
        Failure(
            "the module nvidia does not answer: it is still being changed",
            claims._WEDGED,
        )
    ]
    let_go(root, GPU)
    assert reap(60)
    assert desk.failures([*desk.end(B, "nvidia", "e1000e"), *desk.end(A, *STACK[:-1])]) == []
    assert desk.wrong() == []


def test_a_load_that_hangs_keeps_the_rest_for_later(root: str) -> None:
    """No other is begun after the deadline; all of them stay in the entry."""
    desk = Desk(root)
    desk.begin(A, "nvidia_uvm", "nvidia_drm")
    inject(root, Fault("load nvidia_drm", before=hanging.HANG))
    hanging.late(root)
    assert [one.reason for one in desk.failures(desk.end(A, "nvidia_uvm", "nvidia_drm"))] == [
        "the module nvidia_drm does not answer in time",
        "the module nvidia_uvm was left as it was, because the module nvidia_drm is in the way",
    ]
    hanging.let_go(root)
    assert reap(60)
    heal(root)
    assert desk.failures(desk.end(A, "nvidia_uvm", "nvidia_drm")) == []
    assert desk.wrong() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("verb", "victim"), [("unload", "parent"), ("load", "parent"), ("load", "writer")])
def test_a_crash_in_the_middle_is_undone(root: str, verb: str, victim: str, when: str) -> None:
    """The hook is killed while rmmod or modprobe is at work: whoever undoes the entry brings the modules back."""
    desk = Desk(root)
    adopt_orphans()
    if verb == "load":
        assert desk.begin(A, *STACK) == []
    else:
        desk.enter(A, *map(unloading.out, STACK))
    fault = Fault(f"{verb} nvidia_modeset")
    deed = (("kill", victim),)
    inject(root, fault._replace(before=deed) if when == "before" else fault._replace(after=deed))
    pid = os.fork()
    if pid == 0:
        try:
            if verb == "unload":
                desk.begin(A, *STACK)
            else:
                desk.end(A, *STACK)
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (-9 if victim == "parent" else 0)
    assert reap(60)
    heal(root)
    assert desk.failures(desk.end(A, *STACK)) == []
    assert desk.wrong() == []


def test_a_lock_that_is_not_free_fails_them_all(root: str) -> None:
    """In time, and with the lock's name."""
    desk = Desk(root)
    with desk.host.state.locked(["shared-module-nvidia_uvm"], Deadline.after(60)), overdue.at_a_lock():
        failures = desk.begin(A, "nvidia_uvm", "nvidia_drm")
    assert len(failures) == 2
    assert all("shared-module-nvidia_uvm is not free" in failure.reason for failure in failures)
    assert desk.failures(desk.end(A, "nvidia_uvm", "nvidia_drm")) == []
    assert desk.wrong() == []


def test_a_module_that_goes_while_its_reason_is_looked_for(root: str) -> None:
    """What cannot be read any more is no reason."""
    desk = Desk(root)
    one = unloading.resource(desk.host.machine, "gone")
    assert one.failed
    assert one.failed("out", "loaded", 0).reason == "the module gone cannot be taken out"


def test_devices_of_its_driver_are_driven_again(root: str) -> None:
    """One that has an override by then goes where that says."""
    desk = Desk(root)
    desk.begin(A, *STACK)
    desk.host.somebody_writes(f"bus/pci/devices/{GPU}/driver_override", "vfio-pci")
    desk.host.machine.kernel.load("vfio_pci")
    assert desk.failures(desk.end(A, *STACK)) == []
    assert desk.host.driver(GPU) == "vfio-pci"

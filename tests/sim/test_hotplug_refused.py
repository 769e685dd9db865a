# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is not plugged in, or out: refused, hanging, wanted by two at once."""

import errno
import os
import threading
from unittest import mock

import hanging
import pytest
from aftermath import recover
from cases import DISK, GPU, NIC
from command import libhook
from plugging import attach, detach, running, xml
from scenario import Host, guest, reap

from libhook.effects import files
from libhook.effects.log import Log
from libhook.errors import LibhookError
from libhook.facts.entry import Phase
from libhook.hotplug import plug
from libhook.hotplug.request import Request
from libhook.simulation import faults, processes, store
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

UUID = Guest().uuid
OTHER = Guest("other", (), "11111111-2222-3333-4444-555555555555")
NOT_DAEMON = '{"enabled": true, "daemon": 0, "lost": 0}'
HAS_LOST = '{"enabled": true, "daemon": 1, "lost": 9}'


def untouched(host: Host, *trail: str) -> None:
    """Nothing of libhook's reached /sys, and exactly these records were written, now and when the guest ends."""
    assert [line for line in store.lines(f"{host.root}/var/log/writes.jsonl") if line["by"] == "libhook"] == []
    host.libvirt.stop("win11", "shutdown")
    assert host.trail == list(trail)
    assert (host.changed, host.leftovers) == ([], [])


def test_preflight_refuses(root: str) -> None:
    """Half a group: the line is that of a start, libvirt is not asked, the refusal is recorded."""
    host = running(root)
    hypervisor = Hypervisor(host.libvirt)
    assert f"{GPU} shares IOMMU group 14 with 0000:03:00.1" in attach(host, hypervisor, xml(GPU)).error
    assert hypervisor.asked == []
    untouched(host, f"attach {GPU} failed")


def test_another_guest_has_it(root: str) -> None:
    """Said, recorded for whom it was refused, and the other keeps it."""
    host = running(root)
    host.libvirt.start(OTHER._replace(devices=guest(NIC).devices))
    assert f"{NIC} is held by the guest other" in attach(host, Hypervisor(host.libvirt), xml(NIC)).error
    assert host.driver(NIC) == "vfio-pci"
    assert host.trail == [f"start {NIC} success", f"attach {NIC} failed"]


def test_the_guest_has_it_already(root: str) -> None:
    """Refused before libvirt is asked, and it keeps what it has."""
    host = running(root, NIC)
    assert f"the guest has pci {NIC} already" in attach(host, Hypervisor(host.libvirt), xml(NIC)).error
    assert detach(host, Hypervisor(host.libvirt), xml(NIC)).error == ""
    assert host.trail == [f"start {NIC} success", f"attach {NIC} failed", f"detach {NIC} success"]


def test_the_trail_is_required_and_nobody_writes_it(root: str) -> None:
    """No device is handed over that the trail would not tell of."""
    host = running(root, config="audit.required = true\n")
    store.create(f"{root}/simulation/trail", NOT_DAEMON)
    assert "the audit trail is required, but no auditd" in attach(host, Hypervisor(host.libvirt), xml(NIC)).error
    untouched(host, f"attach {NIC} failed")


@pytest.mark.parametrize("has", [(), (DISK,)])
def test_what_the_trail_lost_long_ago_keeps_nobody(root: str, has: tuple[str, ...]) -> None:
    """Between prepare and start it would; a guest that has run for weeks may be given a card."""
    host = running(root, *has, config="audit.required = true\n")
    store.create(f"{root}/simulation/trail", HAS_LOST)
    assert attach(host, Hypervisor(host.libvirt), xml(NIC)).error == ""


def test_a_dry_run_that_the_configuration_asks_for(root: str) -> None:
    """attach only says what it would do, and why; what was handed over before can be had back."""
    host = running(root, NIC)
    host.configure("dry_run = true\n")
    hypervisor = Hypervisor(host.libvirt)
    done = attach(host, hypervisor, xml(DISK))
    assert done.lines[0] == "dry_run = true in the settings: this is only printed, not done"
    assert f'  write "vfio-pci" to /sys/bus/pci/devices/{DISK}/driver_override' in done.lines
    assert (done.error, hypervisor.asked, host.driver(DISK)) == ("", [], "nvme")
    assert detach(host, hypervisor, xml(NIC)).error == ""
    assert host.trail == [f"start {NIC} success", f"detach {NIC} success"]
    assert detach(host, hypervisor, xml(DISK)).error.startswith("the guest win11 has no such device")


def test_a_dry_run_foresees_each_refusal(root: str) -> None:
    """Also those that the guest's own journal entry makes; nothing is recorded."""
    host = running(root, NIC)
    for card, said in ((GPU, "0000:03:00.0 shares"), (NIC, f"the guest has pci {NIC} already")):
        done = attach(host, Hypervisor(host.libvirt), xml(card), dry_run=True)
        assert done.error.startswith(said)
        assert done.lines[0] == f"refuse: {done.error}"
    assert host.trail == [f"start {NIC} success"]


def test_a_broken_configuration_hands_nothing_over_and_keeps_nothing_back(root: str) -> None:
    """As at a start: attach names the key and is recorded as failed; detach gives the card back."""
    host = running(root, NIC)
    host.configure("siblings = 1\n")
    assert "siblings" in attach(host, Hypervisor(host.libvirt), xml(DISK)).error
    assert detach(host, Hypervisor(host.libvirt), xml(NIC)) == ([f"win11: gave up pci {NIC}"], "")
    assert host.driver(NIC) == "e1000e"
    assert host.trail == [f"start {NIC} success", f"attach {DISK} failed", f"detach {NIC} success"]


def test_the_configuration_breaks_while_libvirt_is_asked(root: str) -> None:
    """What was taken comes back all the same."""
    host = running(root)
    hypervisor = Hypervisor(host.libvirt, attach="monitor")
    hypervisor.meanwhile = lambda: host.configure("siblings = 1\n")
    assert "told to fail" in attach(host, hypervisor, xml(NIC)).error
    host.libvirt.stop("win11", "shutdown")
    assert host.trail == [f"attach {NIC} failed"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("phase", ["preparing", "prepared", "refused", "releasing"])
def test_a_guest_that_is_being_started_or_ended(root: str, phase: Phase) -> None:
    """Its journal entry is the hook's then: refused, and the entry stays as it is."""
    host = running(root, NIC)
    held = host.state.load(UUID)
    assert held
    host.state.save(held._replace(phase=phase))
    assert "the guest is being started or ended" in attach(host, Hypervisor(host.libvirt), xml(DISK)).error
    assert host.state.load(UUID) == held._replace(phase=phase)
    assert host.driver(DISK) == "nvme"


def test_a_guest_whose_started_was_lost(root: str) -> None:
    """It runs; its devices are recorded at its end, those that came later as well."""
    host = running(root, NIC)
    held = host.state.load(UUID)
    assert held
    lost = tuple(device._replace(recorded="nothing") for device in held.devices)
    host.state.save(held._replace(phase="starting", devices=lost))
    assert attach(host, Hypervisor(host.libvirt), xml(DISK)).error == ""
    host.libvirt.stop("win11", "shutdown")
    ends = [f"{what} {card} success" for card in (NIC, DISK) for what in ("start", "stop")]
    assert sorted(host.trail[2:]) == sorted([*ends[:2], f"stop {DISK} success"])
    assert (host.changed, host.leftovers) == ([], [])


def test_a_driver_that_never_lets_go_at_attach(root: str) -> None:
    """Refused within the deadline and recorded; when it lets go, recover gives the card back, with no second record."""
    host = running(root)
    host.patience = 0.2
    hanging.hold(root, NIC)
    hypervisor = Hypervisor(host.libvirt)
    assert f"{NIC} hangs" in attach(host, hypervisor, xml(NIC)).error
    assert hypervisor.asked == []
    assert "[hangs]" in libhook(host, "status").out
    again = attach(host, hypervisor, xml(NIC))
    assert f"{NIC} has not come back from the guest yet" in again.error
    faults.let_go(root, NIC)
    assert reap(60)
    assert f"{NIC}: would be given back" in libhook(host, "recover", "--dry-run").out
    assert "is ended" in recover(host)
    assert host.driver(NIC) == "e1000e"
    host.libvirt.stop("win11", "shutdown")
    assert host.trail == [f"attach {NIC} failed"] * 2
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("then", ["recover", "release"])
def test_a_driver_that_never_lets_go_at_detach(root: str, then: str) -> None:
    """The guest has given it up and the host has not got it: said, recorded failed, and mended by whoever comes."""
    host = running(root, NIC)
    host.patience = 0.2
    hanging.hold(root, NIC)
    done = detach(host, Hypervisor(host.libvirt), xml(NIC))
    assert done.error.startswith(f"the guest win11 gave up pci {NIC}, but {NIC} hangs")
    faults.let_go(root, NIC)
    assert reap(60)
    if then == "recover":
        assert f"recover: ends the unfinished hot-plug of pci {NIC}; else leaves it" in libhook(host, "status").out
        recover(host)
        assert host.driver(NIC) == "e1000e"
    host.libvirt.stop("win11", "shutdown")
    end = "detach" if then == "recover" else "stop"
    assert host.trail == [f"start {NIC} success", f"detach {NIC} failed", f"{end} {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_full_run_at_attach(root: str) -> None:
    """What cannot be journalled is not handed over."""
    host = running(root)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch.object(files, "replace", side_effect=full):
        assert "cannot be written (No space left on device)" in attach(host, Hypervisor(host.libvirt), xml(NIC)).error
    untouched(host, f"attach {NIC} failed")


def test_a_full_run_at_detach(root: str) -> None:
    """It holds nothing back, and no record is lost."""
    host = running(root, NIC)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch.object(files, "replace", side_effect=full):
        assert detach(host, Hypervisor(host.libvirt), xml(NIC)).error == ""
    assert host.driver(NIC) == "e1000e"
    host.libvirt.stop("win11", "shutdown")
    assert host.trail == [f"start {NIC} success", f"detach {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_an_entry_that_is_broken(root: str) -> None:
    """attach says which, and is recorded as failed."""
    host = running(root, NIC)
    store.create(f"{host.machine.state}/domains/{UUID}.json", "{")
    assert f"{UUID}.json is broken" in attach(host, Hypervisor(host.libvirt), xml(DISK)).error
    assert host.trail == [f"start {NIC} success", f"attach {DISK} failed"]


def test_release_does_not_wait_for_an_attach_that_waits_for_libvirt(root: str) -> None:
    """libvirt ends the guest, its real hook in a process of its own, before it answers: no lock is in its way."""
    host = Host(root, workstation(), launcher=True)
    host.libvirt.start(guest(DISK))
    inside, ended = threading.Event(), threading.Event()
    hypervisor = Hypervisor(host.libvirt)

    def wait_for_its_end() -> None:
        inside.set()
        assert ended.wait(60)

    hypervisor.meanwhile = wait_for_its_end
    errors: list[str] = []
    with mock.patch.object(hypervisor, "_name", return_value="win11"):
        attaching = threading.Thread(target=lambda: errors.append(_attach_unreaped(host, hypervisor)))
        attaching.start()
        assert inside.wait(60)
        assert host.driver(NIC) == "vfio-pci"
        outcome = host.libvirt.stop("win11", "destroyed")
        assert host.driver(NIC) == "e1000e", "release gave back what was being plugged in"
        ended.set()
        attaching.join(60)
    assert outcome.operations == "stopped release:destroyed"
    assert "domain is not running" in errors[0]
    assert reap(60)
    assert sorted(host.trail) == sorted([f"start {DISK} success", f"attach {NIC} failed", f"stop {DISK} success"])
    assert (host.changed, host.leftovers) == ([], [])


def _attach_unreaped(host: Host, hypervisor: Hypervisor) -> str:
    """In a thread: the children are the main thread's to wait for."""
    try:
        with Log(host.machine, operation="attach") as log:
            list(plug.attach(host.machine, log, hypervisor, Request("win11", xml(NIC))))
    except LibhookError as error:
        return error.line
    return ""


@pytest.mark.parametrize("same", [False, True])
def test_two_at_once_want_one_card(root: str, same: bool) -> None:
    """To one guest or to two, each attach in a process of its own: one gets it, the other is refused."""
    host = running(root, config="holder_wait = 0.1\n")
    host.libvirt.start(OTHER)
    hypervisor = Hypervisor(host.libvirt)
    # Each process has a libvirtd of its own here: who comes second must have been refused before he asks it.
    said: list[int] = []
    for name in ("win11", "win11" if same else "other"):
        pid = os.fork()
        if pid == 0:
            code = 255
            processes.add(root, os.getpid(), "libhook")
            try:
                with Log(host.machine, operation="attach") as log:
                    list(plug.attach(host.machine, log, hypervisor, Request(name, xml(NIC))))
                code = 0
            except LibhookError as error:
                code = 1 if "already" in error.line or "is held by the guest" in error.line else 2
            finally:
                os._exit(code)
        said.append(pid)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in said)
    assert reap(60)
    assert codes == [0, 1]
    assert host.driver(NIC) == "vfio-pci"
    assert sorted(host.trail) == [f"attach {NIC} failed", f"attach {NIC} success"]

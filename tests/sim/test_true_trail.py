# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the trail says when a call was lost, a device was plugged in, or something does not answer."""

import os
from pathlib import Path

import hanging
import pytest
from cases import DISK, NIC
from command import libhook
from launcher import put
from scenario import LAUNCHER, Host, adopt_orphans, guest, reap
from settings_reading import parse

from libhook.children.child import Deadline
from libhook.effects import audit
from libhook.simulation import store
from libhook.simulation.hosts import nic, workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.story.session import make_state

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def test_a_device_that_does_not_answer_keeps_no_other_from_being_given_back(root: str) -> None:
    """Somebody hangs with the lock of one: the other comes back at once, and the first when it answers again."""
    host = Host(root, workstation())
    both = guest(NIC, DISK)
    host.begin(both)
    host.patience = 0.1
    override = f"{root}/sys/bus/pci/devices/{NIC}/driver_override"
    os.rename(override, f"{root}/answer")
    os.mkfifo(override)
    hanging.late_at_a_pipe(seconds=8)  # one device has a quarter of the event's 30
    silent = host.event(both, "release", "shutdown")
    assert [f"{NIC}: driver" in line or NIC in line for line in silent.changed] == [False] * len(silent.changed)
    assert host.records[-2:] == [f"stop {NIC} failed", f"stop {DISK} success"]
    assert [device.address for device in silent.journal[both.uuid].devices] == [NIC]
    hanging.answer(override)  # wakes whoever still reads
    os.rename(f"{root}/answer", override)
    host.event(both, "release", "shutdown")
    assert host.records[-1] == f"stop {NIC} success"
    assert host.changed == []


@pytest.mark.parametrize("reason", ["shutdown", "destroyed", "crashed"])
def test_a_lost_started_is_made_up_for(root: str, reason: str) -> None:
    """Libvirt's reason says that the guest ran, so it had its device, though nobody could record it then."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    host.event(guest(NIC), "release", reason)
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert host.leftovers == []


def test_one_iscsi_name_of_two_servers_is_two_devices(root: str) -> None:
    """Both come and both go in the trail, as libvirt records them."""
    host = Host(root, nic())
    source = "<source protocol='iscsi' name='iqn.a/1'><host name='{}'/></source>"
    one = f"<hostdev mode='subsystem' type='scsi'>{source}</hostdev>"
    devices = "".join(map(one.format, ("a", "b"))).encode()
    for operation, extra in (("prepare", "-"), ("start", "-"), ("started", "-"), ("release", "shutdown")):
        sub = "end" if operation == "release" else "begin"
        host.call(("win11", operation, sub, extra), guest().xml(1).replace(b"<devices>", b"<devices>" + devices, 1))
    assert host.records == ["start iqn.a/1 success"] * 2 + ["stop iqn.a/1 success"] * 2


def test_a_dry_run_switched_on_meanwhile_does_not_silence_the_trail(root: str) -> None:
    """What was really handed over is really recorded."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    host.configure("dry_run = true\n")
    host.event(guest(NIC), "started")
    assert host.records == [f"start {NIC} success"]


def test_a_device_plugged_in_is_not_recorded_again_at_each_reconnect(root: str) -> None:
    """Libvirtd has recorded that it was attached; it did not start with the guest."""
    host = Host(root, workstation())
    host.begin(guest(NIC))
    for _ in range(3):
        host.event(guest(NIC, DISK), "reconnect")
    assert host.records == [f"start {NIC} success"]


def test_reconnect_records_what_started_could_not(root: str) -> None:
    """Libvirtd was killed between QEMU's start and that call; the guest has the device all the same."""
    host = Host(root, nic())
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    for _ in range(2):
        host.event(guest(NIC), "reconnect")
    assert host.records == [f"start {NIC} success"]


def test_a_trail_that_blocks_does_not_keep_libvirt_waiting(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A send that sleeps is left behind at the deadline, and the records are logged whole."""
    host = Host(root, nic())
    host.patience = 0
    for operation in ("prepare", "start"):
        host.event(guest(NIC), operation)
    monkeypatch.setattr(SimulatedKernel, "record", lambda *_: hanging.hang(root))
    hanging.late(root)
    answer = host.event(guest(NIC), "started")
    hanging.let_go(root)
    assert reap(60)
    assert answer.code == 0
    logged = store.lines(f"{root}/var/log/libhook.jsonl")
    (entry,) = [line for line in logged if line["event"] == "not recorded"]
    assert (entry["reason"], f'device="{NIC}" res=success' in entry["record"]) == ("no answer in time", True)


def test_in_a_container_nobody_is_sent_round(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is the host's to have, and no package brings it. A refusal has sent them to the doctor before.

    Docker's have no systemd, no modules of the host and no trail (kernel/audit.c, audit_netlink_ok), and no device is
    bound to vfio-pci yet.
    """
    host = Host(root, nic())
    adopt_orphans()  # a child of the hook writes the log, which may do so after the hook's end
    put(Path(root, "etc/libvirt/hooks/qemu"), LAUNCHER.parents[1])
    Path(root, "run/systemd/system").rmdir()
    Path(root, "lib/modules", os.uname().release, "modules.alias").unlink()
    monkeypatch.setattr(audit, "trail", lambda *_: None)
    before = host.everything()
    vfio, trail = (line for line in libhook(host, "doctor").out.splitlines() if "vfio" in line or "trail" in line)
    assert vfio.endswith(" has no vfio-pci: install the package with the kernel's modules; in a container: on the host")
    assert trail.startswith("note  the audit trail is not written: the kernel does not answer questions about it: ")
    assert trail.endswith("; in a container nobody has the trail: run libhook on the host")
    assert "doctor" not in vfio + trail
    assert (reap(60), host.everything() == before) == (True, True)
    assert not Path(root, "var/log/libhook.jsonl").exists()
    with make_state(host.machine).locked(["watch"], Deadline.after(60)):
        assert "ok    libhook watch runs" in libhook(host, "doctor").out


def test_a_question_about_the_trail_that_blocks_does_not_keep_libvirt_waiting(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full backlog the kernel lets whoever asks sleep too: the start is refused at the deadline."""
    host = Host(root, nic(), "audit.required = true\n")
    monkeypatch.setattr(SimulatedKernel, "trail", lambda _: hanging.hang(root))
    host.patience = 0
    hanging.late(root)
    answer = host.event(guest(NIC), "prepare")
    hanging.let_go(root)
    assert reap(60)
    assert (answer.code, "the kernel does not answer questions about it" in answer.line) == (1, True)
    assert (host.changed, host.records) == ([], [f"start {NIC} failed"])


@pytest.mark.parametrize("written", [UUID, UUID.upper()])
def test_a_section_that_is_a_uuid_is_for_no_guest_of_that_name(written: str) -> None:
    """Whoever may choose a guest's name must not choose another guest's consent, in whatever case it is written."""
    text = f'[domains."{written}"]\nsiblings = "bind"\n'
    assert parse(text, name="win11", uuid=UUID).siblings == "bind"
    assert parse(text, name=written, uuid=UUID.replace("c", "d")).siblings == "refuse"


def test_double_quotes_name_a_device_too(root: str) -> None:
    """Libvirt writes single ones, but a person may not."""
    host = Host(root, nic(), launcher=True)
    written = guest(NIC, source="interface").xml(1, False).replace(b"'", b'"')
    assert host.event(guest(NIC), "prepare", xml=written).writes

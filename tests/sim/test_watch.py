# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook makes of libvirt's events of hot-plug, on a simulated host: recorded once, given back, remembered."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import disturbing
import pytest
from cases import DISK, NIC
from disturbing import Point
from scenario import Host, guest, reap
from watch_play import UUID, Watched

from libhook.facts.entry import HeldDevice
from libhook.facts.plan import Record
from libhook.hotplug.watch import Watcher
from libhook.look.processes import process
from libhook.simulation import processes, store
from libhook.story.session import Session, make_state


@pytest.fixture(name="watched")
def _watched(watched: Watched) -> Watched:
    """A watch that is connected, and a guest with a card that began before its eyes."""
    watched.begin(guest(NIC))
    return watched


def test_what_others_plug_in_and_out_is_recorded_once(host: Host, watched: Watched) -> None:
    """Events that come twice, and a connection that is made again, add nothing."""
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    watched.tell("added", "hostdev1")
    watched.connect()
    watched.tell("removed", "hostdev1", guest(NIC))
    watched.tell("removed", "hostdev1")
    watched.again()
    assert host.trail == [f"start {NIC} success", f"attach {DISK} success", f"detach {DISK} success"]


def test_a_device_of_the_start_that_goes_early_is_given_back_then(host: Host, watched: Watched) -> None:
    """And does not end a second time with the guest."""
    host.libvirt.unplug("win11", NIC)
    watched.tell("removed", "hostdev0", guest())
    assert host.trail == [f"start {NIC} success", f"detach {NIC} success"]
    assert not [line for line in host.changed if "/sys/" in line or (NIC in line and "driver" in line)]
    host.libvirt.stop("win11")
    watched.tell("ended")
    assert len(host.trail) == 2
    assert host.changed == []


@pytest.mark.parametrize("shown", ["", "/dev/vfio/12 (deleted)", "/srv/mine"])
def test_a_device_that_somebody_holds_is_left_to_him(host: Host, watched: Watched, shown: str) -> None:
    """Also when libvirt has removed the node from the guest's /dev, and where a container has it under another path; it
    is recorded that it did not come back.
    """
    host.configure("holder_wait = 0.1\n")
    host.libvirt.unplug("win11", NIC)
    group = Path(f"{host.machine.sys}/bus/pci/devices/{NIC}/iommu_group").resolve().name
    processes.open_file(host.root, processes.spawn(host.root, "dpdk"), f"/dev/vfio/{group}", shown_as=shown)
    watched.tell("removed", "hostdev0", guest())
    assert host.driver(NIC) == "vfio-pci"
    assert host.trail == [f"start {NIC} success", f"detach {NIC} failed"]


def test_a_device_that_had_not_come_back_is_plugged_in_again(host: Host, watched: Watched) -> None:
    """It came with the guest's start; this beginning is another."""
    held = host.state.load(UUID)
    assert held
    host.state.save(held._replace(devices=(held.devices[0]._replace(recorded="unreturned"),)))
    watched.tell("added", "hostdev0")
    assert host.trail == [f"start {NIC} success", f"attach {NIC} success"]


def test_a_device_of_which_nobody_knew_that_went_and_is_there_again(host: Host) -> None:
    """From then on it is journalled and claimed, as any other that was plugged in."""
    host.libvirt.start(guest())
    watched = Watched(host)
    watched.guest = guest(DISK)
    watched.connect()
    watched.tell("removed", "hostdev0")
    assert host.trail == [f"detach {DISK} success", f"attach {DISK} success"]
    assert Path(host.machine.state, "claims", DISK).exists()


def test_a_guest_that_refuses(host: Host, watched: Watched) -> None:
    """It keeps the device, which is recorded; the device is not touched."""
    watched.tell("kept", "hostdev0")
    assert host.trail == [f"start {NIC} success", f"detach {NIC} failed"]
    assert host.state.load(UUID) is not None


def test_a_refusal_to_give_up_what_nobody_knew_outlives_the_watch(host: Host) -> None:
    """It is journalled before it is sent; and the guest has the device until it ends."""
    host.libvirt.start(guest())

    def deed() -> int:
        watched = Watched(host)
        watched.guest = guest(DISK)
        watched.connect()
        watched.tell("kept", "hostdev0")
        return 0

    assert disturbing.die(host, deed, Point(1, "record detach", "before", "parent")) == -signal.SIGKILL
    assert reap(60)
    again = Watched(host)
    again.guest = guest(DISK)
    again.connect()
    assert [*dict.fromkeys(host.trail)] == [f"detach {DISK} failed"]
    host.libvirt.stop("win11")
    assert host.trail[-1] == f"stop {DISK} success"


def test_a_refusal_is_left_to_who_asked(host: Host, watched: Watched) -> None:
    """`libhook detach` waits for the same answer, and records it."""
    held = host.state.load(UUID)
    assert held
    asked = held.devices[0]._replace(plugging=process(host.machine, host.libvirt.pid))
    host.state.save(held._replace(devices=(asked,)))
    watched.tell("kept", "hostdev0")
    assert host.trail == [f"start {NIC} success"]


@pytest.mark.parametrize("forgets", [False, True])
def test_what_happened_while_nobody_watched(host: Host, watched: Watched, forgets: bool) -> None:
    """The next watch compares with what the last one saw, or with the guest's journal entry where that is lost."""
    if forgets:
        Path(host.machine.state, "watched.json").write_text("[not ours")
    host.libvirt.unplug("win11", NIC)
    watched.guest = guest(DISK)
    watched.again()
    assert sorted(host.trail[1:]) == [f"attach {DISK} success", f"detach {NIC} success"]


def test_a_guest_that_began_before_anybody_looked(host: Host) -> None:
    """What it has, it has: nothing is recorded of it but what happens from then on."""
    host.libvirt.start(guest())
    watched = Watched(host)
    watched.guest = guest(NIC)
    watched.connect()
    assert host.trail == []
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    watched.tell("removed", "hostdev0", guest(DISK))
    assert host.trail == [f"attach {DISK} success", f"detach {NIC} success"]


def test_plugged_in_again_before_it_was_seen_to_go(host: Host, watched: Watched) -> None:
    """A device that the guest has again is not taken from under it."""
    before = host.state.load(UUID)
    watched.tell("removed", "hostdev0")
    watched.tell("added", "hostdev0")
    after = host.state.load(UUID)
    assert before
    assert after
    assert before.actions == after.actions
    assert host.trail == [f"start {NIC} success", f"detach {NIC} success", f"attach {NIC} success"]


@pytest.mark.parametrize("has_it", [False, True])
def test_what_a_killed_attach_left(host: Host, watched: Watched, has_it: bool) -> None:
    """The guest's XML says whether it has the device: recorded as such, and given back if not."""
    held = host.state.load(UUID)
    assert held
    gone = process(host.machine, 0)
    left = HeldDevice("pci", DISK, began="attach", plugging=gone)
    host.state.save(held._replace(devices=(*held.devices, left)))
    watched.guest = guest(NIC, DISK) if has_it else guest(NIC)
    watched.connect()
    assert host.trail[1:] == [f"attach {DISK} {'success' if has_it else 'failed'}"]


def test_a_dry_run_records_nothing(host: Host, watched: Watched) -> None:
    """As at a start."""
    host.configure("dry_run = true\n")
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    assert host.trail == [f"start {NIC} success"]


def test_what_somebody_is_at_work_on_is_left_to_him(host: Host, watched: Watched) -> None:
    """An entry that says of a device that it is being plugged says nothing yet of who has it."""
    held = host.state.load(UUID)
    assert held
    busy = HeldDevice("pci", DISK, began="attach", plugging=process(host.machine, host.libvirt.pid))
    host.state.save(held._replace(devices=(*held.devices, busy)))
    watched.connect()
    assert host.trail == [f"start {NIC} success"]
    after = host.state.load(UUID)
    assert after
    assert after.devices[-1] == busy


def test_a_guest_that_is_being_started_is_left_to_its_hook(host: Host) -> None:
    """QEMU may run already: its record follows, once, and what it has by then is not plugged in by anybody."""
    host.event(guest(NIC), "prepare")
    host.event(guest(NIC), "start")
    watched = Watched(host)
    watched.guest = guest(NIC)
    watched.connect()
    assert host.trail == []
    held = host.state.load(UUID)
    assert held
    assert (held.phase, [device.recorded for device in held.devices]) == ("starting", ["nothing"])
    host.event(guest(NIC), "started")
    assert host.trail == [f"start {NIC} success"]


@pytest.mark.parametrize("sends", [False, True], ids=["before", "after"])
def test_a_reconnect_that_is_killed_at_its_record(
    host: Host, watched: Watched, monkeypatch: pytest.MonkeyPatch, sends: bool
) -> None:
    """The device was plugged in, which is recorded again, and never as a failure; then it goes."""
    held = host.state.load(UUID)
    assert held
    left = HeldDevice("pci", DISK, began="attach", plugging=process(host.machine, 0))
    host.state.save(held._replace(devices=(*held.devices, left)))
    send = Session.send

    def killed(session: Session, records: Sequence[Record]) -> frozenset[str]:
        if sends:
            send(session, records)
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "send", killed)
    with pytest.raises(KeyboardInterrupt):
        host.event(guest(NIC, DISK), "reconnect")
    monkeypatch.setattr(Session, "send", send)
    watched.guest = guest(NIC)
    watched.connect()
    assert host.trail[1:] == [*[f"attach {DISK} success"] * (1 + sends), f"detach {DISK} success"]


def test_a_guest_that_ended_unseen_is_forgotten(host: Host, watched: Watched) -> None:
    """When it runs again, what it had before is not taken for what it has."""
    watched.guest = None
    host.libvirt.stop("win11")
    watched.connect()
    assert json.loads(Path(host.machine.state, "watched.json").read_text() or "{}") == {}
    watched.guest = guest(DISK)
    host.libvirt.start(guest(DISK))
    watched.connect()
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success", f"start {DISK} success"]


def test_a_configuration_that_cannot_be_read_keeps_nothing_from_being_recorded(host: Host, watched: Watched) -> None:
    """It is said, and what happened is seen to as without one."""
    host.configure("dry_run = maybe\n")
    watched.tell("added", "hostdev1", guest(NIC, DISK))
    assert host.trail[1:] == [f"attach {DISK} success"]
    logged = store.lines(f"{host.root}/var/log/libhook.jsonl")
    assert [line["level"] for line in logged if line["event"] == "configuration ignored"] == ["error"]


def test_a_defect_of_ours_ends_no_watch(host: Host, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged as what it is, and the next event is seen to."""
    with monkeypatch.context() as broken:
        broken.setattr("libhook.story.session.load_config", lambda *_: [][1])
        watched.tell("added", "hostdev1", guest(NIC, DISK))
    logged = store.lines(f"{host.root}/var/log/libhook.jsonl")
    (reason,) = [line["reason"] for line in logged if line["event"] == "libhook itself failed"]
    assert reason == 'IndexError: "list index out of range"'
    watched.tell("added", "hostdev1")
    assert host.trail[1:] == [f"attach {DISK} success"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"x": 1}',
        json.dumps({UUID: {"hostdev0": ["pci", "hostdev", False, DISK]}}),  # as an earlier version wrote it
        json.dumps({UUID: {"life": [0, 0], "devices": {"hostdev0": ["pci", "hostdev", False, "nonsense"]}}}),
        json.dumps({UUID: {"life": [0, 0], "devices": {"hostdev0": ["pci", "hostdev", "no", DISK]}}}),
        "[" * 9999,
    ],
)
def test_a_memory_that_is_not_ours(host: Host, text: str) -> None:
    """It was never written, then: what the guest has, it has, and nothing is missing."""
    host.libvirt.start(guest())
    make_state(host.machine)
    Path(host.machine.state, "watched.json").write_text(text)
    watched = Watched(host)
    watched.guest = guest(NIC)
    watched.connect()
    assert host.trail == []


def test_a_broken_guest_keeps_nobody_from_the_others(host: Host, watched: Watched) -> None:
    """What libvirt says cannot be read: logged, and the next event is seen to."""
    watched.watcher.connected({"11111111-1111-1111-1111-111111111111": b"<domain", UUID: guest(NIC, DISK).xml(1, True)})
    assert host.trail[1:] == [f"attach {DISK} success"]


def test_a_connection_that_comes_and_goes_is_told(host: Host) -> None:
    """Each reason once, however often it is tried, and that it is over; there and in the journal, as all else is."""
    shown: list[str] = []
    it = Watcher(host.machine, lambda _: guest(NIC, DISK).xml(1, prepared=True), show=shown.extend)
    it.connected({})
    assert shown == []
    for reason in ("no libvirtd", "no libvirtd", "no\nsocket"):
        it.lost(reason)
    it.connected({})
    it.connected({})
    host.libvirt.start(guest(NIC))
    it.happened("began", UUID)
    it.happened("added", UUID, "hostdev1")
    assert reap(60)
    assert [line.partition(f" uuid={UUID}")[0] for line in shown] == [
        "no connection to libvirtd operation=watch reason=no libvirtd",
        "no connection to libvirtd operation=watch reason=no\\nsocket",
        "connected to libvirtd again operation=watch",
        "recorded operation=watch",
    ]
    logged = [line for line in store.lines(f"{host.root}/var/log/libhook.jsonl") if line.get("operation") == "watch"]
    assert sorted(line["event"] for line in logged) == sorted(line.partition(" operation")[0] for line in shown)


def test_a_sign_of_life_after_each_guest(host: Host) -> None:
    """systemd's watchdog is not for many guests whose devices do not answer in time."""
    beats: list[int] = []
    Watcher(host.machine, lambda _: None, alive=lambda: beats.append(1)).connected({UUID: b"<domain", "b": b""})
    assert reap(60)
    assert beats == [1, 1]

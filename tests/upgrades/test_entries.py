# SPDX-License-Identifier: LGPL-2.1-or-later
"""What another version wrote in /run/libhook: an earlier one's is read, a later one's is left to it."""

import json
from pathlib import Path
from typing import Any

import pytest
from aftermath import recover
from cases import DISK, NIC, VF0
from command import libhook
from plugging import attach, detach, running, xml
from scenario import Host, guest, journal_text
from watch_play import Watched

from libhook.facts.entry import FORMAT
from libhook.facts.host import NO_CLASS
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import sriov
from libhook.simulation.hypervisor import Hypervisor
from libhook.story.session import make_state

UUID = Guest().uuid
WIN11 = guest(NIC)
LATER = f"{UUID}.json: a later libhook wrote it, in format {FORMAT + 1}; this version reads {FORMAT}"
OTHER = guest(NIC, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")


def rewrite(host: Host, **fields: object) -> Path:
    """The guest's entry as another version wrote it; None: that version knew no such field."""
    entry = Path(host.machine.state, "domains", f"{UUID}.json")
    changed = {**journal_text(host, UUID), **fields}
    if changed["format"] is None:
        changed = _of_first_format(changed)
    entry.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
    return entry


def _of_first_format(entry: dict[str, Any]) -> dict[str, Any]:
    """There an action stood with its device, as ``move``."""
    moves = {action["device"]: action for action in entry.pop("actions")}
    for action in moves.values():
        del action["kind"]
    devices = [{**device, "move": moves.get(device["address"])} for device in entry["devices"]]
    return {**entry, "devices": devices}


def test_an_earlier_one_is_read(host: Host) -> None:
    """Entries of the first releases had no number."""
    host.begin(WIN11)
    assert journal_text(host, UUID)["format"] == FORMAT
    rewrite(host, format=None, detached=None)
    assert host.event(WIN11, "release", "shutdown").code == 0
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]


def test_what_a_device_is_is_remembered(root: str) -> None:
    """Of what the guest starts with, of a VF that libvirt chose later, and of what is plugged in."""
    host = Host(root, sriov())
    pool = guest(VF0, source="interface", managed=True)
    host.event(guest(), "prepare")
    host.libvirt._lists.prepare(pool.name, pool.devices)
    host.event(pool, "start")
    (device,) = journal_text(host, UUID)["devices"]
    assert (device["address"], device["ids"], device["pci_class"]) == (VF0, "8086:10ca", 0x0200)
    host = running(f"{root}/plugged", NIC)
    assert attach(host, Hypervisor(host.libvirt), xml(DISK)).error == ""
    found = [(one["address"], one["ids"], one["pci_class"]) for one in journal_text(host, UUID)["devices"]]
    assert found == [(NIC, "8086:10d3", 0x0200), (DISK, "144d:a808", 0x0108)]


def test_an_entry_without_it_is_read(host: Host) -> None:
    """Nothing is known of the class then, and the device comes back."""
    host.begin(WIN11)
    devices = journal_text(host, UUID)["devices"]
    del devices[0]["pci_class"]
    rewrite(host, devices=devices)
    held = host.state.load(UUID)
    assert held
    assert held.devices[0].pci_class == NO_CLASS
    host.event(WIN11, "release", "shutdown")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


@pytest.mark.parametrize("operation", ["prepare", "start"])
def test_a_later_one_refuses_the_start(host: Host, operation: str) -> None:
    """In one line, with what to do; nothing is written."""
    host.begin(WIN11)
    rewrite(host, format=FORMAT + 1, devices={"in": "another way"})
    outcome = host.event(WIN11, operation)
    assert outcome.code == 1
    assert outcome.line.endswith(f"{LATER}: install that version again, as only it knows what to give back")
    assert outcome.writes == ()


def test_a_kind_of_action_that_only_a_later_one_has_is_left_to_it(host: Host) -> None:
    """It would not be undone by this one; so the whole entry waits for the version that can."""
    host.begin(WIN11)
    actions = journal_text(host, UUID)["actions"]
    rewrite(host, actions=[*actions, {"kind": "weather", "wanted": "rain"}])
    outcome = host.event(WIN11, "release", "shutdown")
    reason = outcome.logged("failed")[0]["reason"]
    assert "a later libhook wrote it, with an action of the kind weather, which this version does not know" in reason
    assert (outcome.code, outcome.writes) == (0, ())
    rewrite(host, actions=actions)
    host.event(WIN11, "release", "shutdown")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


@pytest.mark.parametrize("operation", ["started", "reconnect", "release"])
def test_a_later_one_harms_no_guest_and_is_left_alone(host: Host, operation: str) -> None:
    """It is logged; the version that wrote it gives back what it holds, and records it."""
    host.begin(WIN11)
    before, entry = journal_text(host, UUID), rewrite(host, format=FORMAT + 1)
    files, trail = host.everything(), host.trail
    outcome = host.event(WIN11, operation, "shutdown" if operation == "release" else "-")
    assert (outcome.code, outcome.stderr, outcome.writes) == (0, (), ())
    assert LATER in outcome.logged("failed")[0]["reason"]
    assert (host.everything(), host.trail) == (files, trail)
    entry.write_text(json.dumps(before))
    host.event(WIN11, "release", "shutdown")
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


def test_its_devices_are_nobody_else_s(host: Host) -> None:
    """Another guest is refused them, and told why; so is who would plug one in."""
    host.begin(WIN11)
    rewrite(host, format=FORMAT + 1)
    outcome = host.event(OTHER, "prepare")
    assert outcome.code == 1
    assert f"{UUID}, whose journal entry is from a later libhook" in outcome.line
    assert host.driver(NIC) == "vfio-pci"


def test_commands_name_it(host: Host) -> None:
    """And the rest of what they do is done."""
    host.libvirt.start(WIN11)
    entry = rewrite(host, format=FORMAT + 1)
    text = entry.read_text()
    assert LATER in attach(host, Hypervisor(host.libvirt), xml(DISK)).error
    for command in ("status", "recover"):
        done = libhook(host, command)
        assert done.code == 1
        assert LATER in done.err
    recover(host)
    assert (entry.read_text(), host.driver(DISK), host.driver(NIC)) == (text, "nvme", "vfio-pci")


def test_hot_plug_goes_on_from_an_earlier_one(host: Host) -> None:
    """What is plugged in is added to it, what is plugged out goes from it, and the rest comes back at the end."""
    host.libvirt.start(WIN11)
    rewrite(host, format=None)
    assert attach(host, Hypervisor(host.libvirt), xml(DISK)).error == ""
    assert journal_text(host, UUID)["format"] == FORMAT
    rewrite(host, format=None)
    assert detach(host, Hypervisor(host.libvirt), xml(DISK)).error == ""
    host.libvirt.stop("win11", "shutdown")
    assert (host.driver(NIC), host.driver(DISK), host.leftovers) == ("e1000e", "nvme", [])
    plugged = [f"attach {DISK} success", f"detach {DISK} success"]
    assert host.trail == [f"start {NIC} success", *plugged, f"stop {NIC} success"]


def test_what_an_earlier_one_plugged_by_halves_is_settled(host: Host) -> None:
    """It was killed in the middle; QEMU has not got the device."""
    host.libvirt.start(WIN11)
    assert "did not answer" in attach(host, Hypervisor(host.libvirt, attach="no answer, not"), xml(DISK)).error
    assert host.driver(DISK) == "vfio-pci"
    devices = journal_text(host, UUID)["devices"]
    for device in devices:
        if device["plugging"]:
            device["plugging"][1] = 1  # whoever has that pid by now is another process
    rewrite(host, format=None, devices=devices)
    recover(host)
    assert (host.driver(DISK), host.driver(NIC)) == ("nvme", "vfio-pci")
    host.libvirt.stop("win11", "shutdown")
    assert host.trail == [f"start {NIC} success", f"attach {DISK} failed", f"stop {NIC} success"]


@pytest.mark.parametrize("later", [{"format": 2}, [1, 2, 3], {UUID: {"life": "other", "devices": []}}, "text"])
def test_what_a_later_one_remembers_beside_it_is_passed_over(host: Host, later: object) -> None:
    """Where devices were, and what a watch saw: without it only that is not known, and no guest has less."""
    make_state(host.machine)
    Path(host.machine.state, "watched.json").write_text(json.dumps(later))
    Path(host.machine.state, f"homes/{NIC}").write_text(json.dumps(later))
    for file in ("watched.json", f"homes/{NIC}"):
        Path(host.machine.state, file).chmod(0o600)
    watch = Watched(host)
    watch.connect()
    watch.begin(WIN11)
    host.libvirt.stop("win11", "shutdown")
    watch.tell("ended", "")
    assert [entry for entry in host._lines("libhook") if entry["level"] == "error"] == []
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]
    assert host.driver(NIC) == "e1000e"

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The trail of a busy guest, read back: event by event what the test did, whatever was restarted in between."""

import json
from typing import Any

import pytest
from conftest import MakeGuest
from guests import Guest, Refused, kill_libvirtd, libhook, pci, start_libvirtd, usb
from host import NIC, NIC2, NIC3, USB_PEN, USB_STICK, wait_for
from test_hotplug import answering
from trail import rotate
from watching import Watch

BOTH, OURS = ["libhook", "libvirtd"], ["libhook"]
Told = tuple[str, str, str | None, str, list[str]]


def entries_of(guest: Guest) -> list[dict[str, Any]]:
    """The entries of the guest's history; not the times without a trail, nor the hosts."""
    lines = libhook("history", "--json", "--uuid", guest.uuid).splitlines()
    return [one for one in map(json.loads, lines) if "entry" in one]


def told(guest: Guest) -> list[Told]:
    """Device, beginning, end, result and recorders of each entry of the guest's history."""
    entries = entries_of(guest)
    assert all(entry["vm"] == guest.name and not entry["disagree"] for entry in entries)
    assert all((entry["to"] is None) == (entry["ended"] is None and entry["result"] == "success") for entry in entries)
    keys = ("device", "began", "ended", "result")
    return [(*(entry[key] for key in keys), sorted(entry["recorded_by"])) for entry in entries]  # type: ignore[misc]


@pytest.mark.rest
def test_what_happened_is_what_is_told(guest: MakeGuest) -> None:
    """Start, attach and detach by libhook and by virsh, a failure, restarts of everything, a rotated log, the end."""
    pen, stick = usb(USB_PEN), usb(USB_STICK)
    with Watch() as watch:
        one = answering(guest, pci(NIC)).start()
        one.plug("attach", pci(NIC2))
        one.plug("attach", pen, by="virsh")
        one.plug("detach", pci(NIC2), by="virsh")
        with pytest.raises(Refused):
            one.plug("attach", pci(NIC))
        kill_libvirtd()
        start_libvirtd()
        watch.wait_until_told("STATUS=watching")
    one.plug("detach", pen, by="virsh")
    rotate()
    with Watch():
        one.plug("attach", pci(NIC3, managed=True), by="virsh")
        one.plug("attach", stick)
        held = {(device, ended) for device, _, ended, result, _ in told(one) if result == "success"}
        assert {(NIC, None), (NIC3, None), (stick.record, None)} <= held, "what is held is shown as held"
        one.plug("detach", pci(NIC3, managed=True))
        one.destroy()
    wait_for("the whole trail", lambda: all(ended or result == "failed" for _, _, ended, result, _ in told(one)))
    assert told(one) == [
        (NIC, "start", "stop", "success", BOTH),
        (NIC2, "attach", "detach", "success", BOTH),
        (pen.record, "attach", "detach", "success", BOTH),
        (NIC, "attach", None, "failed", OURS),
        (NIC3, "attach", "detach", "success", BOTH),
        (stick.record, "attach", "stop", "success", BOTH),
    ]


@pytest.mark.rest
def test_a_start_that_failed(guest: MakeGuest) -> None:
    """libvirtd says success for each device of it; history says failed, and who disagrees."""
    first = guest(pci(NIC)).start()
    second = guest(pci(NIC), pci(NIC2))
    second.start_refused()
    first.destroy()
    entries = entries_of(second)
    assert {entry["device"]: entry["result"] for entry in entries} == {NIC: "failed", NIC2: "failed"}

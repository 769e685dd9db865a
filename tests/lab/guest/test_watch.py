# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other clients plug in and out, seen by `libhook watch` and recorded as if libhook had done it."""

import pytest
from conftest import MakeGuest
from guests import Guest, Refused, kill_libvirtd, libhook, pci, start_libvirtd, usb
from host import NIC, NIC2, USB_PEN, USB_STICK, driver_of, wait_for
from test_hotplug import answering, ours
from trail import in_log, records, rotate
from watching import Watch


def expect(guest: Guest, *steps: tuple[str, str]) -> None:
    """These are libhook's records for the guest, in this order, each a success."""
    wanted = [(reason, device, "success") for reason, device in steps]
    wait_for(f"the records {wanted}, not {ours(guest)}", lambda: len(in_log(guest, ours=True)) >= len(wanted))
    assert ours(guest) == wanted


@pytest.mark.rest
def test_plugged_by_virsh(guest: MakeGuest) -> None:
    """A managed card and a USB device that virsh plugs in and out are recorded once, and nothing else is."""
    with Watch():
        one = answering(guest).start()
        pen = usb(USB_PEN)
        for device in (pci(NIC, managed=True), pen):
            one.plug("attach", device, by="virsh")
            one.plug("detach", device, by="virsh")
        expect(one, ("attach", NIC), ("detach", NIC), ("attach", pen.record), ("detach", pen.record))
        assert driver_of(NIC) == "e1000e"
        one.destroy()
    assert len(ours(one)) == 4


@pytest.mark.rest
def test_what_libhook_had_bound_comes_back(guest: MakeGuest) -> None:
    """libhook plugged it in, virsh plugs it out: libvirt leaves it on vfio-pci, the watch gives it back."""
    with Watch():
        one = answering(guest).start()
        one.plug("attach", pci(NIC))
        one.plug("detach", pci(NIC), by="virsh")
        wait_for("the card on its driver", lambda: driver_of(NIC) == "e1000e")
        one.plug("attach", pci(NIC))
        one.plug("detach", pci(NIC))
        expect(one, *[("attach", NIC), ("detach", NIC)] * 2)


@pytest.mark.rest
def test_what_came_with_the_guest_and_goes_before_it(guest: MakeGuest) -> None:
    """A card of the start that virsh plugs out is given back then, and not again at the end."""
    with Watch():
        one = answering(guest, pci(NIC), pci(NIC2)).start()
        one.plug("detach", pci(NIC), by="virsh")
        wait_for("the card on its driver", lambda: driver_of(NIC) == "e1000e")
        assert driver_of(NIC2) == "vfio-pci"
        one.destroy()
    expect(one, ("start", NIC), ("start", NIC2), ("detach", NIC), ("stop", NIC2))


@pytest.mark.race
@pytest.mark.parametrize("killed", [False, True])
def test_a_watch_that_was_away(guest: MakeGuest, killed: bool) -> None:
    """What happened while no watch ran is recorded by the next one, once."""
    pen, stick = usb(USB_PEN), usb(USB_STICK)
    with Watch() as watch:
        one = guest(pci(NIC)).start()
        one.plug("attach", pen, by="virsh")
        expect(one, ("start", NIC), ("attach", pen.record))
        if killed:
            watch.kill()
    one.plug("detach", pen, by="virsh")
    one.plug("attach", stick, by="virsh")
    # Killed after it had sent its record and before it had journalled that, the next one sends it again.
    again = ("attach", pen.record, "success") if killed else None

    def since() -> list[tuple[str, ...]]:
        return sorted(record for record in ours(one)[2:] if record != again)

    seen = [("attach", stick.record, "success"), ("detach", pen.record, "success")]
    with Watch():
        wait_for("both records", lambda: len(since()) >= 2)
        assert since() == seen
    with Watch():
        one.destroy()
    ended = [("stop", NIC, "success"), ("stop", stick.record, "success")]
    wait_for("the records of the end", lambda: len(since()) >= 4)
    assert since() == [*seen, *ended]


@pytest.mark.rest
@pytest.mark.parametrize("has_it_again", [False, True])
def test_a_guest_that_started_again_while_the_watch_was_away(guest: MakeGuest, has_it_again: bool) -> None:
    """What its earlier life had ended with that, which the hook recorded; what the new one was given is recorded."""
    pen = usb(USB_PEN)
    with Watch():
        one = guest(pci(NIC)).start()
        one.plug("attach", pen, by="virsh")
        expect(one, ("start", NIC), ("attach", pen.record))
    one.destroy()
    one.start()
    if has_it_again:
        one.plug("attach", pen, by="virsh")
    before = [("start", NIC), ("attach", pen.record), ("stop", NIC), ("stop", pen.record), ("start", NIC)]
    with Watch():
        wanted = [*before, ("attach", pen.record)] if has_it_again else before
        wait_for("its records", lambda: len(in_log(one, ours=True)) >= len(wanted))
        one.plug("attach" if not has_it_again else "detach", pen, by="virsh")
        wait_for("one more", lambda: len(in_log(one, ours=True)) > len(wanted))
    last = ("detach" if has_it_again else "attach", pen.record)
    assert sorted(ours(one)) == sorted((reason, device, "success") for reason, device in [*wanted, last])
    one.destroy()


@pytest.mark.rest
def test_libvirtd_restarted_in_between(guest: MakeGuest) -> None:
    """The watch connects again, records nothing twice, and sees what comes then."""
    pen, stick = usb(USB_PEN), usb(USB_STICK)
    with Watch() as watch:
        one = guest().start()
        one.plug("attach", pen, by="virsh")
        expect(one, ("attach", pen.record))
        kill_libvirtd()
        start_libvirtd()
        watch.wait_until_told("STATUS=watching")
        one.plug("attach", stick, by="virsh")
        one.plug("detach", pen, by="virsh")
        expect(one, ("attach", pen.record), ("attach", stick.record), ("detach", pen.record))
        one.destroy()


@pytest.mark.rest
def test_auditd_rotates_in_between(guest: MakeGuest) -> None:
    """Records go on into the new log."""
    pen = usb(USB_PEN)
    with Watch():
        one = guest().start()
        one.plug("attach", pen, by="virsh")
        expect(one, ("attach", pen.record))
        rotate()
        one.plug("detach", pen, by="virsh")
        wait_for("the record of the detach", lambda: in_log(one, "detach", ours=True))
        one.destroy()
    assert len(records(one, ours=True)) == 1


@pytest.mark.rest
def test_only_one_watches() -> None:
    """A second watch says that there is one, and ends."""
    with Watch(), pytest.raises(Refused, match="another libhook watch is already running"):
        libhook("watch")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices plugged in and out that are not PCI, that only libvirt can find, or named wrongly; the command line."""

from unittest import mock

import pytest
from cases import NIC, VF0
from command import libhook
from plugging import Scripted, attach, detach, running, xml
from scenario import Host, document, guest

from libhook.children.child import Deadline
from libhook.errors import LibhookError
from libhook.hotplug.hypervisor import Gone
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import sriov, workstation
from libhook.simulation.hypervisor import Hypervisor

UUID = Guest().uuid
USB = "<hostdev mode='subsystem' type='usb' managed='no'><source>{}</source>{}</hostdev>"
BY_ID = "<vendor id='0x046d'/><product id='0x0825'/>"
PEN = USB.format("<address bus='1' device='7'/>", "<alias name='hostdev0'/>")
FOUND = USB.format(f"{BY_ID}<address bus='1' device='7'/>", "<alias name='hostdev0'/>")
POOL = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='pool'/></interface>"
OUT_OF_POOL = (
    "<interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:01'/><source><address type='pci' "
    "domain='0x0000' bus='0x01' slot='0x10' function='0x0'/></source><alias name='hostdev0'/></interface>"
)
BRIDGED = "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/></interface>"


@pytest.mark.parametrize("by_id", [False, True])
def test_usb(root: str, by_id: bool) -> None:
    """Recorded by its address, also where only libvirt finds that; kept until the end it is recorded then."""
    host = Host(root, workstation())
    asked = USB.format(BY_ID, "").encode() if by_id else PEN.encode()
    live = document(FOUND if by_id else PEN)
    assert attach(host, Scripted(host, document(), live), asked) == (["win11: has usb 001.007 now"], "")
    assert detach(host, Scripted(host, live, document()), asked) == (["win11: gave up usb 001.007"], "")
    assert host.trail == ["attach 001.007 success", "detach 001.007 success"]
    attach(host, Scripted(host, document(), live), asked)
    host.libvirt.stop("win11", "shutdown")
    assert host.trail[2:] == ["attach 001.007 success", "stop 001.007 success"]
    assert host.leftovers == []


def test_usb_that_libvirt_does_not_find(root: str) -> None:
    """Failed, by the only address there is."""
    host = Host(root, workstation())
    hypervisor = Scripted(host, document(), document())
    with mock.patch.object(Scripted, "attach", side_effect=LibhookError("libvirt: Did not find USB device")):
        assert "Did not find" in attach(host, hypervisor, USB.format(BY_ID, "").encode()).error
    assert (host.trail, host.leftovers) == (["attach 000.000 failed"], [])


def test_an_interface_out_of_a_pool(root: str) -> None:
    """Its VF is known only after; at detach its MAC finds it."""
    host = Host(root, sriov())
    live = document(OUT_OF_POOL)
    assert attach(host, Scripted(host, document(), live), POOL.encode()) == ([f"win11: has pci {VF0} now"], "")
    assert detach(host, Scripted(host, live, document()), POOL.encode()) == ([f"win11: gave up pci {VF0}"], "")
    assert host.trail == [f"attach {VF0} success", f"detach {VF0} success"]


def test_an_interface_that_is_no_host_device(root: str) -> None:
    """libvirt's to do, and nothing is recorded or kept."""
    host = Host(root, workstation())
    live = document(BRIDGED)
    said = ["win11: has it now; it is not a host device"]
    assert attach(host, Scripted(host, document(), live), BRIDGED.encode()) == (said, "")
    assert (host.trail, host.leftovers) == ([], [])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (b"<disk type='file' device='disk'/>", "<disk> names no host device: use virsh for it"),
        (b"<memballoon model='none'/>", "<memballoon> names no host device"),
        (b"<hostdev type='warp'/>", "<hostdev> names no host device (hostdev type 'warp' is not known"),
        (b"<hostdev", "the XML is malformed"),
        (b"", "the XML is"),
        (guest(NIC).xml(1), "<domain> is a guest, not a device: give a file that holds only the device's element"),
        (xml(VF0), f"{VF0} is not on this host"),
    ],
)
def test_nonsense(root: str, asked: bytes, said: str) -> None:
    """One line that says what is wrong."""
    host = running(root)
    assert said in attach(host, Hypervisor(host.libvirt), asked).error


@pytest.mark.parametrize("verb", ["attach", "detach"])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "the following arguments are required: DOMAIN, DEVICE-XML"),
        (("win11",), 2, "the following arguments are required: DEVICE-XML"),
        (("win11", "-", "--timeout", "soon"), 2, "--timeout: 'soon' is not a number of seconds between 0 and 3600"),
        (("win11", "-", "--timeout", "nan"), 2, "--timeout: 'nan' is not a number of seconds between 0 and 3600"),
        (("win11", "-", "--timeout", "0"), 2, "--timeout: '0' is not a number"),
        (("win11", "/nonexistent.xml"), 1, "/nonexistent.xml: No such file or directory: give a file with a device's"),
        (("nobody", "-"), 1, "libvirt: Domain not found: no domain with matching name 'nobody'"),
    ],
)
def test_wrong_use(root: str, verb: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Each is said in a line, after the usage where it is the command line's."""
    host = running(root)
    with mock.patch("libhook.command.commands.Hypervisor", return_value=Hypervisor(host.libvirt)):
        done = libhook(host, verb, *arguments, stdin=xml(NIC), columns=200)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_without_the_bindings(root: str, verb: str) -> None:
    """It says which package brings them, and nothing is changed."""
    host = running(root)
    with mock.patch.dict("sys.modules", {"libvirt": None}):
        done = libhook(host, verb, "win11", "-", stdin=xml(NIC))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("the module libvirt is missing: install python3-libvirt")
    assert (host.trail, host.driver(NIC), host.leftovers) == ([], "e1000e", [])


def test_the_command_line(root: str) -> None:
    """The whole of it, from argv to exit code."""
    host = running(root)
    with mock.patch("libhook.command.commands.Hypervisor", return_value=Hypervisor(host.libvirt)):
        assert libhook(host, "attach", "win11", "-", stdin=xml(NIC)) == (0, f"win11: has pci {NIC} now\n", "")
        assert libhook(host, "detach", UUID, "-", stdin=xml(NIC)) == (0, f"win11: gave up pci {NIC}\n", "")
        assert libhook(host, "detach", "win11", "-", stdin=xml(NIC))[::2] == (
            1,
            f"the guest win11 has no such device: virsh dumpxml {UUID} shows what it has\n",
        )


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-8"])
def test_a_document_in_any_encoding(root: str, encoding: str) -> None:
    """libvirt is handed what was read and judged, in the one encoding that it takes."""
    handed: list[str] = []

    class Reading(Hypervisor):
        def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
            handed.append(document.decode())
            super().attach(uuid, document, flags, deadline)

        def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
            handed.append(document.decode())
            return super().detach(uuid, document, alias, flags, deadline)

    host = running(root)
    device = xml(NIC).decode().replace("<source>", "<x y='\u00fc'/><source>")
    text = f"<?xml version='1.0' encoding='{encoding}'?>{device}"
    assert attach(host, Reading(host.libvirt), text.encode(encoding)) == ([f"win11: has pci {NIC} now"], "")
    assert detach(host, Reading(host.libvirt), text.encode(encoding)) == ([f"win11: gave up pci {NIC}"], "")
    assert [("\u00fc" in one, "encoding=" in one) for one in handed] == [(True, False)] * 2

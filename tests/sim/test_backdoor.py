# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host devices that <qemu:commandline> and <qemu:override> hand over past libvirt are seen, and said."""

import json

import pytest
from cases import NIC
from command import libhook
from scenario import Host, guest

from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic
from libhook.story.reading import begin
from libhook.xml import domxml
from libhook.xml.hostdevxml import quoted

_NAMESPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def _document(inner: str, devices: str = "") -> bytes:
    return (
        f"<domain type='kvm' {_NAMESPACE}>\n<name>win11</name>\n<uuid>{Guest().uuid}</uuid>\n"
        f"<devices>{devices}</devices>\n{inner}\n</domain>\n"
    ).encode()


def _commandline(*values: str) -> str:
    escaped = (value.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&apos;") for value in values)
    arguments = "".join(f"<qemu:arg value='{value}'/>" for value in escaped)
    return f"<qemu:commandline>{arguments}</qemu:commandline>"


def _override(name: str, value: str = "0000:01:00.0") -> str:
    what = f"<qemu:property name='{name}' type='string' value='{value}'/>"
    device = f"<qemu:device alias='hostdev0'><qemu:frontend>{what}</qemu:frontend></qemu:device>"
    return f"<qemu:override>{device}</qemu:override>"


def _doors(inner: str) -> tuple[str, ...]:
    return domxml.parse(_document(inner)).back_doors


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("-device", "vfio-pci,host=0000:01:00.0"),
        ("--device", "vfio-pci-nohotplug,sysfsdev=/sys/bus/mdev/devices/x"),
        ("-device", "id=x,driver=vfio-pci,host=01:00.0"),
        ("-device", '{"driver":"vfio-pci","host":"0000:01:00.0"}'),
        ("-device", "{'id': 'x', 'driver' : 'vfio-ccw'}"),
        ("-device", "vfio-ap,sysfsdev=/x"),
        ("-device", "usb-host,hostbus=1,hostaddr=4"),
        ("-device", "scsi-generic,drive=x"),
        ("-device", "scsi-block,drive=x"),
        ("-device", "vhost-scsi-pci,wwpn=naa.1"),
        ("-set", "device.hostdev0.host=0000:01:00.0"),
        ("-global", "vfio-pci.sysfsdev=/x"),
        ("-drive", "file=nvme://0000:01:00.0/1,if=none"),
        ("-blockdev", "driver=nvme,device=0000:01:00.0,namespace=1"),
        ("-blockdev", '{"driver":"raw","file":{"driver":"nvme","device":"0000:01:00.0"}}'),
    ],
)
def test_an_argument_that_hands_over_a_host_device_is_seen(option: str, value: str) -> None:
    """With the line it stands in; what comes before and after it is read as QEMU does."""
    (door,) = _doors(_commandline("-s", option, value, "-name", value))
    shown = quoted(f"-{option.lstrip('-')} {value}")
    assert door == f"{shown} in <qemu:commandline>, line 5"


@pytest.mark.parametrize(
    "values",
    [
        ("-device", "virtio-net-pci,host_mtu=1500"),
        ("-device", "vfio-user-pci,socket=/x"),
        ("-device", "{"),
        ("-device", "{} vfio-pci"),
        ("-device", ""),
        ("-device",),
        ("-name", "vfio-pci,host=01:00.0"),
        ("vfio-pci,host=01:00.0",),
        ("-set", "device.hostdev0.x-vga=on"),
        ("-global", "vfio-pci.x-no-mmap=on"),
        ("-drive", "file=/srv/nvme.img,if=none"),
        ("-blockdev", "driver=file,filename=/dev/nvme0n1"),
        ("-netdev", "user,host=10.0.0.1"),
    ],
)
def test_other_arguments_are_none(values: tuple[str, ...]) -> None:
    """Nothing is said of what hands over no device."""
    assert _doors(_commandline(*values)) == ()


@pytest.mark.parametrize("name", ["host", "sysfsdev", "hostbus", "x-igd-opregion"])
def test_a_property_that_names_another_device_is_seen(name: str) -> None:
    """libvirt's own device is then another than its XML says."""
    said = f"'{name}=0000:01:00.0 of hostdev0' in <qemu:override>, line 5"
    assert _doors(_override(name)) == (() if name.startswith("x-") else (said,))


def test_only_libvirts_own_element_counts() -> None:
    """In metadata, in another namespace, or deeper, it is the owner's text."""
    inner = _commandline("-device", "vfio-pci,host=01:00.0")
    assert _doors(f"<metadata>{inner}</metadata>") == ()
    assert _doors(inner.replace("qemu:", "")) == ()


def test_no_more_is_said_than_a_reader_can_use() -> None:
    """Whoever writes the XML chooses how many, and how long they are."""
    doors = _doors(_commandline(*["-device", f"vfio-pci,host=01:00.0,id={'x' * 500}"] * 1000))
    assert len(doors) == 17
    assert doors[-1] == "and 984 more"
    assert all(len(door) < 150 for door in doors)


def test_inspect_plan_and_the_log_say_it(root: str) -> None:
    """As text and as JSON, escaped; the start goes on, and the child that reads the XML has it too."""
    inner = _commandline("-device", "vfio-pci,host=02:00.0\u202e")
    xml = _document(inner, guest(NIC).devices[0].xml(0))
    host = Host(root, nic())
    door = "'-device vfio-pci,host=02:00.0\\u202e' in <qemu:commandline>"
    said = f"warning: a host device that libhook neither checks nor records: {door}"
    assert said in libhook(host, "inspect", "-", stdin=xml).out
    assert said in libhook(host, "inspect", "-", stdin=_document(inner)).out
    assert said in libhook(host, "plan", "-", stdin=xml).out
    (warning,) = json.loads(libhook(host, "inspect", "--json", "-", stdin=xml).out)["warnings"]
    assert warning.startswith(said.removeprefix("warning: ").replace("\\u202e", "\u202e"))
    planned = libhook(host, "plan", "--json", "-", stdin=xml).out
    assert planned.isascii()
    actions = json.loads(planned)["actions"]
    assert [action["message"] for action in actions if action["action"] == "warn"] == [warning]
    outcome = host.event(Guest(document=xml), "prepare")
    assert outcome.code == 0
    (entry,) = outcome.logged("device not checked")
    assert (entry["level"], f"warning: {entry['reason']}".startswith(said)) == ("warning", True)
    assert begin(xml)(b"").back_doors == domxml.parse(xml).back_doors


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("-device", "vfio-pci,host=02:00.0"),
        ("-device", '{"driver":"usb-host","hostbus":1}'),
        ("-device", "scsi-generic,drive=x"),
        ("-device", "vhost-scsi,wwpn=naa.1"),
        ("-drive", "file=nvme://0000:01:00.0/1,if=none"),
    ],
)
def test_a_guest_that_has_nothing_else_is_warned_of(root: str, option: str, value: str) -> None:
    """The launcher lets it through to Python, and is no stricter with it."""
    host = Host(root, nic(), launcher=True)
    outcome = host.event(Guest(document=_document(_commandline(option, value))), "prepare")
    assert (outcome.code, outcome.stderr) == (0, ())
    assert [entry["level"] for entry in outcome.logged("device not checked")] == ["warning"]

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices have their names wherever a command shows them, and nowhere in what the hook says or records."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import GPU, NIC, SOUND
from command import libhook
from plugging import running, xml
from scenario import Host, guest

from libhook.command import commands
from libhook.command.names import with_names
from libhook.hotplug import plug
from libhook.naming.name import UNKNOWN, Name
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

CARD = f"{NIC} (Intel 82574L Gigabit Network Connection [8086:10d3])"


def test_a_name_stands_behind_the_first_mention() -> None:
    """Also in indented lines; in a path and in the text of a record there is none, and those are no mention."""
    lines = [f'record bus=pci device="{NIC}" res=success', f'  write "x" to /sys/{NIC}/y', f"  pci {NIC}", NIC, GPU]
    found = with_names(lines, lambda address: Name("8086:10d3") if address == NIC else UNKNOWN)
    assert list(found) == [*lines[:2], f"  pci {NIC} ([8086:10d3])", NIC, GPU]


def test_plan_status_and_recover_name_devices(root: str) -> None:
    """Once each; the hook's own dry run does not, and is otherwise the same."""
    host = Host(root, workstation())
    plan = libhook(host, "plan", "-", stdin=guest(NIC).xml(1), names=True).out
    dry = host.call(("win11", "prepare", "begin", "-"), guest(NIC).xml(1), dry_run=True)
    assert f"{CARD}: e1000e -> vfio-pci (hostdev of the guest)" in plan.splitlines()
    assert plan.count("82574L") == 1
    assert plan.replace(CARD, NIC).splitlines() == list(dry.stderr)
    assert host.event(guest(NIC), "prepare").code == 0
    host.libvirt.restart()
    assert f"  pci {CARD}  e1000e -> vfio-pci" in libhook(host, "status", names=True).out.splitlines()
    assert f"  {CARD}: vfio-pci -> e1000e (give back)" in libhook(host, "recover", "--dry-run", names=True).out
    assert libhook(host, "recover").code == 0
    assert "82574L" not in Path(root, "var/log/audit.jsonl").read_text()


def test_status_json_names_what_the_guest_was_given(root: str) -> None:
    """What stands there now under another name is not it."""
    host = Host(root, workstation())
    host.libvirt.start(guest(GPU, SOUND))

    def models() -> list[tuple[str, str | None]]:
        (held,) = json.loads(libhook(host, "status", "--json").out)["guests"]
        return [(device["ids"], device["model"]) for device in held["devices"]]

    before = [
        ("1002:73bf", "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]"),
        ("1002:ab28", "Navi 21/23 HDMI/DP Audio Controller"),
    ]
    assert models() == before
    for name, text in (("vendor", "0x10de\n"), ("device", "0x2684\n")):
        attribute = Path(root, f"sys/bus/pci/devices/{GPU}/{name}")
        attribute.unlink()  # equal files of the simulation are one
        attribute.write_text(text)
    assert models() == [("1002:73bf", None), before[1]]


@pytest.mark.parametrize("options", [("--dry-run",), ()])
def test_a_dry_run_of_attach_names_devices(
    root: str, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """What is really done is said in fewer words."""
    host = running(root)
    attach: Callable[..., object] = plug.attach
    monkeypatch.setattr(plug, "attach", attach)
    monkeypatch.setattr(commands, "Hypervisor", lambda *_: Hypervisor(host.libvirt))
    done = libhook(host, "attach", Guest().name, "-", *options, stdin=xml(NIC), names=True)
    assert (done.code, done.err) == (0, "")
    assert (CARD in done.out) == bool(options)


def test_inspect_names_a_usb_device_by_the_ids_in_the_xml(root: str) -> None:
    """Where the XML names it so: on which port it is, nobody knows before the start."""
    host = Host(root, workstation())
    Path(root, "usr/share/hwdata/usb.ids").write_text("046d  Logitech, Inc.\n\tc52b  Unifying Receiver\n")
    source = "<source><vendor id='0x046d'/><product id='0xc52b'/></source>"
    document = guest().xml().replace(b"<devices>", f"<devices><hostdev type='usb'>{source}</hostdev>".encode())
    shown = libhook(host, "inspect", "-", stdin=document).out
    assert "000.000  Logitech Unifying Receiver [046d:c52b]  address known at start\n" in shown

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What audit.extra adds to the records: the same at each reason, from before the hand-over to after the end."""

import json
import sys
from pathlib import Path

import pytest
from cases import DISK, NIC, VF0
from scenario import Host, document, guest, journal_text

from libhook.children.child import Deadline
from libhook.command import parsing
from libhook.effects.log import Log
from libhook.facts.domain import HostDevice
from libhook.facts.entry import Held
from libhook.hotplug import handover
from libhook.kinds.registry import read
from libhook.look import processes
from libhook.simulation.faults import Fault, inject
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import nic, sriov, workstation
from libhook.story.session import Session, load_config
from libhook.xml.domxml import parse

ON = "[audit]\nextra = true\n"
CARD = ' device="0000:01:00.0" driver="e1000e" iommu-group=12 device-id="8086:10d3" '
PEN = "<hostdev mode='subsystem' type='usb'><source>{}</source></hostdev>"


def _ends(host: Host) -> list[str]:
    """Each record so far from its device= on."""
    texts = [record for outcome in host.outcomes for record in outcome.records]
    return [text[text.index(" device=") :] for text in texts]


@pytest.mark.parametrize("fails", ["host", "qemu"])
def test_a_start_that_fails_later_still_tells_of_the_driver_before(root: str, fails: str) -> None:
    """The card is on vfio-pci when it fails, and was on e1000e."""
    host = Host(root, nic(), ON)
    assert "told to fail" in host.libvirt.start(guest(NIC), fails).error
    assert _ends(host) == [f"{CARD}res=failed"]


def test_a_start_that_is_refused_tells_it_too(root: str) -> None:
    """By preflight, and where the device comes off no driver; a device that is not there has nothing more to tell."""
    host = Host(root, nic(), ON)
    absent = "0000:7f:00.0"
    host.event(guest(NIC, absent), "prepare")
    assert _ends(host) == [f' device="{absent}" res=failed']
    inject(root, Fault(f"write */unbind {NIC}", error="EBUSY"))
    host.event(guest(NIC), "release", "failed")
    assert "e1000e does not let go of it" in host.event(guest(NIC), "prepare").line
    assert _ends(host)[-1] == f"{CARD}res=failed"


def test_at_the_end_it_is_the_guests_entry_that_remembers(root: str) -> None:
    """A device that is gone from the host by then is told of all the same."""
    host = Host(root, workstation(), ON)
    host.begin(guest(DISK))
    begun = _ends(host)
    assert ' driver="nvme" ' in begun[0]
    inject(root, Fault(f"write */drivers_probe {DISK}", before=(("vanish", DISK),)))
    host.event(guest(DISK), "release", "shutdown")
    assert _ends(host) == [begun[0], begun[0]]


def test_a_vf_out_of_a_pool_has_no_driver_before_that_anybody_knows(root: str) -> None:
    """libvirt has bound it by the time libhook hears of it; its group and what it is are told."""
    host = Host(root, sriov(), ON)
    pool = guest(VF0, source="interface", managed=True)
    host.event(guest(), "prepare")
    host.libvirt._lists.prepare(pool.name, pool.devices)
    host.event(pool, "start")
    host.event(pool, "started")
    (text,) = _ends(host)
    assert f'device="{VF0}" iommu-group=' in text
    assert "driver" not in text


@pytest.mark.parametrize(("driver", "told"), [("igbvf", '"igbvf"'), (None, "(none)")])
def test_a_vf_out_of_a_pool_has_the_driver_that_it_had_for_an_earlier_guest(
    root: str, driver: str | None, told: str
) -> None:
    """libhook took it for that guest and gave it back, so it knows where the VF is at home."""
    world = sriov()
    vfs = (device._replace(driver=driver) if device.physfn else device for device in world.devices)
    host = Host(root, world._replace(devices=tuple(vfs)), ON)
    host.begin(guest(VF0))
    host.event(guest(VF0), "release", "shutdown")
    pool = guest(VF0, source="interface", managed=True)
    host.event(guest(), "prepare")
    host.libvirt._lists.prepare(pool.name, pool.devices)
    host.event(pool, "start")
    host.event(pool, "started")
    host.event(pool, "release", "shutdown")
    texts = _ends(host)
    assert f" driver={told} " in texts[0]
    assert texts == [texts[0]] * 4
    assert host.driver(VF0) == (driver or "none")


def test_a_usb_device_is_told_by_vendor_and_product(root: str) -> None:
    """By the bus where it is there, else as the XML names it; nothing where neither knows."""
    host = Host(root, nic(), ON)
    named = PEN.format("<vendor id='0x46f4'/><product id='0x1'/><address bus='1' device='2'/>")
    for name, text in (("busnum", "2"), ("devnum", "5"), ("idVendor", "0627"), ("idProduct", "0001")):
        path = Path(f"{root}/sys/bus/usb/devices/2-1/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    Path(f"{root}/sys/bus/usb/devices/usb2").mkdir()
    bare = [PEN.format(f"<address bus='{bus}' device='{device}'/>") for bus, device in ((2, 5), (3, 7))]
    host.event(guest(), "started", xml=document(named, *bare))
    assert _ends(host) == [
        ' device="001.002" device-id="46f4:0001" res=success',
        ' device="002.005" device-id="0627:0001" res=success',
        ' device="003.007" res=success',
    ]


def test_a_refusal_is_foretold_in_the_same_words(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``libhook plan`` prints the record that the refused start then makes; ``inspect`` that of one that succeeds."""
    host = Host(root, workstation(), ON)
    refused = guest("0000:03:00.0")
    path = Path(f"{root}/guest.xml")
    path.write_bytes(refused.xml(1))
    printed = []
    for command in ("plan", "inspect"):
        options = parsing.parser().parse_args([command, str(path)])
        options.command(host.machine, options)
        printed.append(capsys.readouterr().out)
    (record,) = host.event(refused, "prepare").records
    assert ' driver="amdgpu" iommu-group=14 ' in record
    assert f"record {record}\n" in printed[0]
    assert record.removesuffix(" res=failed") in printed[1]


def test_a_refusal_after_a_crash_is_foretold_as_if_the_device_were_back(root: str) -> None:
    """What the dead guest left on vfio-pci is given back first, so its driver before is its own."""
    host = Host(root, nic(), ON)
    host.event(guest(NIC), "prepare")
    host.libvirt.restart()
    other = Guest("other", (Assigned(NIC, model="no_vfio_pci"),), uuid="9a4b2c6e-0000-4000-8000-000000000001")
    call = ("other", "prepare", "begin", "-")
    said = host.call(call, other.xml(1), dry_run=True).stderr
    assert said[0] == "warning: first gives back what the guest win11 left, which no longer runs"
    assert said[-1].endswith(f"{CARD}res=failed")
    assert host.driver(NIC) == "vfio-pci"
    assert host.call(call, other.xml(1)).records[-1:] == (said[-1].removeprefix("record "),)


def test_nothing_is_read_or_kept_where_it_is_not_asked_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default costs nothing: nobody looks."""
    host = Host(root, nic())
    monkeypatch.delitem(sys.modules, "libhook.look.extra", raising=False)
    host.begin(guest(NIC))
    assert "libhook.look.extra" not in sys.modules
    assert [device["extra"] for device in journal_text(host, guest().uuid)["devices"]] == [None]


def test_an_entry_of_before_is_read(root: str) -> None:
    """A guest that an earlier version handed its device to, which remembered no more, ends without more."""
    host = Host(root, nic(), ON)
    host.begin(guest(NIC))
    path = Path(f"{host.machine.state}/domains/{guest().uuid}.json")
    written = json.loads(path.read_text())
    del written["devices"][0]["extra"]
    path.write_text(json.dumps(written))
    assert Held.from_json(written, read).devices[0].extra is None
    host.event(guest(NIC), "release", "shutdown")
    assert _ends(host)[-1] == ' device="0000:01:00.0" res=success'


def test_an_entry_that_remembers_nothing_is_completed_at_hot_plug(root: str) -> None:
    """The settings ask for more since the guest's start: what can be seen now is told."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    host.configure(ON)
    one = parse(guest(NIC).xml(1))
    config = load_config(host.machine, one)
    session = Session(host.machine, host.state, Log(host.machine), config, Deadline.after(200), host.libvirt.pid)
    handover.record_kept(session, one, one.devices)
    assert host._lines("audit")[-1]["text"].endswith(' device="0000:01:00.0" iommu-group=12 device-id="8086:10d3"')


def test_hot_plug_tells_the_same_at_attach_and_detach(root: str) -> None:
    """Plugged in, refused to be given up, given up, refused to be plugged in: each tells of the driver before."""
    host = Host(root, nic(), ON)
    one = parse(guest().xml(1))
    device = HostDevice("pci", "hostdev", False, NIC, parse(guest(NIC).xml(1)).devices[0].pci)

    def session() -> Session:
        config = load_config(host.machine, one)
        return Session(host.machine, host.state, Log(host.machine), config, Deadline.after(200), host.libvirt.pid)

    worker = processes.own(host.machine)
    handover.begin_attach(session(), one, [device], worker)
    handover.finish_attach(session(), one, [device])
    handover.begin_detach(session(), one, [device], worker)
    handover.record_kept(session(), one, [device], worker)
    assert handover.finish_detach(session(), one, [device]) is None
    handover.begin_attach(session(), one, [device], worker)
    assert handover.undo_attach(session(), one, [device]) is None
    told = [entry["text"] for entry in host._lines("audit")]
    assert [text[text.index("reason=") + 7 :].split()[0] for text in told] == ["attach", "detach", "detach", "attach"]
    assert [text[text.index(" device=") :] for text in told] == [CARD.rstrip()] * 4

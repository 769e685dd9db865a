# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may define a guest gives it thousands of host devices. Other guests wait for the locks that its events hold."""

import gc
import os
import shutil
from collections.abc import Callable

import pytest
from command import libhook
from growth import is_linear, used
from scenario import Host, document, guest
from xml_reading import hostdev

from libhook.run import Call, run
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import E1000E, many, nic
from libhook.simulation.world import Device, World
from libhook.story import taking

STRANGE = 'driver = "strange"'
"""No guest with PCI devices starts with that."""
KINDS: tuple[Callable[[int], str], ...] = (
    lambda number: hostdev("usb", f"<address bus='{1 + (number >> 8)}' device='{1 + (number & 255)}'/>"),
    lambda number: hostdev("scsi", f"<adapter name='scsi_host0'/><address bus='0' target='{number}' unit='0'/>"),
    lambda number: hostdev("mdev", f"<address uuid='{number:032x}'/>"),
)


def cost(host: Host, operation: str, xml: bytes) -> tuple[int, float]:
    """Call the hook; the exit code, and the processor time that it took with its children."""
    over = operation == "release"
    gc.collect()
    begun = used()
    with host.waiting():
        arguments = ("win11", operation, "end" if over else "begin", "-")
        answer = run(host.machine, Call(arguments, lambda: xml, host.libvirt.pid))
    return answer.code, used() - begun


@pytest.mark.rest
def test_a_refusal_grows_with_the_pci_devices(root: str) -> None:
    """Not with their square: its locks are held meanwhile."""
    world = many(taking.MOST, remove=0)
    host = Host(root, world, STRANGE)

    def refused(count: int) -> float:
        code, seconds = cost(host, "prepare", guest(*(device.address for device in world.devices[:count])).xml(1))
        assert code == 1
        return seconds

    is_linear(refused, taking.MOST // 16)


@pytest.mark.rest
def test_a_refusal_grows_with_an_iommu_group(root: str) -> None:
    """All its devices but one are given to the guest, and each is refused for that one."""
    addresses = [device.address for device in many(taking.MOST + 1).devices]

    def refused(count: int) -> float:
        devices = tuple(Device(address, "e1000e", 0) for address in addresses[: count + 1])
        host = Host(f"{root}/{count}", World(devices, (E1000E,)))
        code, seconds = cost(host, "prepare", guest(*addresses[:count]).xml(1))
        assert code == 1
        shutil.rmtree(host.root)
        return seconds

    is_linear(refused, taking.MOST // 16)


@pytest.mark.rest
def test_a_life_grows_with_the_other_devices(root: str) -> None:
    """All that libhook does for them is in the journal entry, and a record of each at the end."""
    host = Host(root, nic())

    def life(count: int) -> float:
        xml, whole = document(*(KINDS[number % len(KINDS)](number) for number in range(count))), 0.0
        for operation in ("prepare", "start", "release"):
            code, seconds = cost(host, operation, xml)
            assert code == 0
            whole += seconds
        return whole

    is_linear(life, 1000)
    assert host.leftovers == []


MANY = taking.MOST + 1


def test_more_devices_than_anybody_has_are_refused_before_anything_is_locked(root: str) -> None:
    """In one line. Each device has its record, and nothing is left behind, not even a folder."""
    host = Host(root, nic())
    one = Guest("win11", [f"0000:{at >> 8:02x}:{at >> 3 & 31:02x}.{at & 7}" for at in range(MANY)])
    foreseen = host.event(one, "prepare", dry_run=True)
    assert foreseen.code == 0
    outcome = host.event(one, "prepare")
    line = f"the guest has {MANY} PCI devices, and libhook hands over {taking.MOST} at most: give it fewer"
    assert foreseen.stderr[0] == f"refuse: {line}"
    assert (outcome.code, outcome.line, len(outcome.records)) == (1, line, MANY)
    assert not os.path.exists(host.machine.state)
    host.event(one, "release", "failed")
    assert (host.changed, host.leftovers) == ([], [])


def test_what_a_guest_has_above_that_is_given_back(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version without that limit, or a pool, may have given it so many. No operation but a start looks at that."""
    host = Host(root, many(3, remove=0))
    one = guest(*(device.address for device in many(3).devices))
    host.begin(one)
    monkeypatch.setattr(taking, "MOST", 2)
    assert host.event(one, "reconnect").code == 0
    assert host.event(one, "release", "shutdown").code == 0
    assert (host.changed, host.leftovers) == ([], [])
    assert len(host.records) == 6
    assert host.event(one, "prepare").code == 1


@pytest.mark.rest
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_devices_grows_with_the_groups(root: str, options: tuple[str, ...]) -> None:
    """What a start would say of each group is found without a look at all others."""
    hosts = {count: Host(f"{root}/{count}", many(count, remove=0)) for count in (100, 400, 1600)}

    def shown(count: int) -> float:
        gc.collect()
        begun = used()
        done = libhook(hosts[count], "devices", *options, names=True)
        assert (done.code, done.out.count("[8086:10d3]") + done.out.count('"8086:10d3"')) == (0, count)
        return used() - begun

    is_linear(shown, 100)

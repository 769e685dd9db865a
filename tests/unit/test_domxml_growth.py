# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain with four times the devices takes four times as long to read, whatever kind they are."""

import gc
import time
from collections.abc import Callable

import pytest
from growth import grows_with
from xml_reading import document, hostdev, pci

from libhook.xml import domxml

SIZE = 16_000


def _address(number: int) -> str:
    return f"domain='{number >> 8}' bus='{number & 255}' slot='0' function='0'"


def _nvme(number: int, target: str) -> str:
    source = f"<source type='pci' namespace='1'><address {_address(number)}/></source>"
    return f"<disk type='nvme'>{source}<target dev='{target}'/></disk>"


KINDS: dict[str, Callable[[int], str]] = {
    "pci": lambda number: pci(_address(number)),
    "usb": lambda number: hostdev("usb", f"<address bus='{1 + (number >> 8)}' device='{1 + (number & 255)}'/>"),
    "usb by vendor": lambda number: hostdev("usb", f"<vendor id='{number}'/><product id='1'/>"),
    "scsi": lambda number: hostdev(
        "scsi", f"<adapter name='scsi_host0'/><address bus='0' target='{number}' unit='0'/>"
    ),
    "iscsi": lambda number: hostdev("scsi", "<host name='h' port='1'/>", "").replace(
        "<source>", f"<source protocol='iscsi' name='iqn.2026-11.a:b/{number}'>"
    ),
    "scsi_host": lambda number: hostdev("scsi_host", "").replace(
        "<source>", f"<source protocol='vhost' wwpn='naa.{number:016x}'>"
    ),
    "mdev": lambda number: hostdev("mdev", f"<address uuid='{number:032x}'/>"),
    "capabilities": lambda number: (
        f"<hostdev mode='capabilities' type='misc'><source><char>/dev/{number}</char></source></hostdev>"
    ),
    "redirdev": lambda _: "<redirdev bus='usb' type='spicevmc'/>",
    "interface": lambda number: (
        f"<interface type='hostdev'><mac address='52:54:00:0:{number >> 8:x}:{number & 255:x}'/>"
        f"<source><address type='pci' {_address(number)}/></source></interface>"
    ),
    "NVMe": lambda number: _nvme(number, f"vd{number}"),
    "NVMe of one controller": lambda number: _nvme(0, f"vd{number}"),
    "not known": lambda number: hostdev("new", f"<a b='{number}'/>"),
}


@pytest.mark.rest
@pytest.mark.parametrize("kind", KINDS)
def test_time_grows_with_the_devices(kind: str) -> None:
    """Not with their square: none is looked for among all before it."""

    def made(size: int) -> tuple[int, bytes]:
        return size, document("\n".join(map(KINDS[kind], range(size))))

    def cost(sized: tuple[int, bytes]) -> float:
        size, xml = sized
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            domain = domxml.parse(xml, every_kind=True)
            seconds = time.process_time() - start
        finally:
            gc.enable()
        disks = sum(len(device.disks) or 1 for device in domain.devices)
        assert disks + len(domain.others) == (0 if domain.warnings else size)
        return seconds

    grows_with(made, cost, SIZE)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices are called what the databases call them, and nothing that they do not say."""

from pathlib import Path

import pytest

from libhook.facts.machine import Machine
from libhook.naming.database import Database
from libhook.naming.devices import Names
from libhook.naming.name import Name, addresses, named
from libhook.simulation.build import build
from libhook.simulation.hosts import workstation
from libhook.simulation.kernel import SimulatedKernel

GPU, SOUND = "0000:03:00.0", "0000:03:00.1"


@pytest.fixture(name="host")
def _host(root: str) -> Machine:
    build(root, workstation())
    return Machine(root, SimulatedKernel(root))


@pytest.mark.parametrize(
    ("vendor", "model", "text"),
    [
        ("Advanced Micro Devices, Inc. [AMD/ATI]", "Navi 32 [Radeon RX 7800 XT]", "AMD Radeon RX 7800 XT [0001:0002]"),
        ("NVIDIA Corporation", "AD102 [GeForce RTX 4090]", "NVIDIA GeForce RTX 4090 [0001:0002]"),
        ("Samsung Electronics Co Ltd", "NVMe SSD Controller", "Samsung NVMe SSD Controller [0001:0002]"),
        ("Realtek Semiconductor Co., Ltd.", "RTL8111", "Realtek RTL8111 [0001:0002]"),
        ("Intel Corporation", "Intel I350", "Intel I350 [0001:0002]"),
        ("Intel Corporation", "", "Intel [0001:0002]"),
        ("", "", "[0001:0002]"),
        ("", "A [b] c", "A [b] c [0001:0002]"),
        ("Corporation", "x", "Corporation x [0001:0002]"),
    ],
)
def test_a_name_is_what_people_say(vendor: str, model: str, text: str) -> None:
    """Without the firm's legal form; a card by the name that it is sold by."""
    assert Name("0001:0002", vendor, model).text == text


def test_a_list_is_read_by_vendor(host: Machine) -> None:
    """A product belongs to its own vendor, and neither a subsystem nor a class is a product."""
    database = Database(host.root)
    assert database.name("pci", "10de:2684") == Name("10de:2684", "NVIDIA Corporation", "AD102 [GeForce RTX 4090]")
    assert database.name("pci", "1002:2684") == Name("1002:2684", "Advanced Micro Devices, Inc. [AMD/ATI]")
    assert database.name("pci", "1002:1da2").model == database.name("pci", "1002:440f").model == ""
    assert database.name("pci", "8086:0000") == Name("8086:0000", "Intel Corporation")
    assert database.name("pci", "ffff:2684") == Name("ffff:2684")
    assert database.name("usb", "046d:c52b") == Name("046d:c52b")


@pytest.mark.parametrize("ids", ["", "10de", "10de:2684\n", "../x:y", "10DE:2684", "(none)", "10de:*"])
def test_what_are_no_ids_is_not_looked_for(host: Machine, ids: str) -> None:
    """They come out of records, which others may have written."""
    assert Database(host.root).name("pci", ids) == Name("")


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    """The list may be anything."""
    folder = tmp_path / "usr/share/misc"
    folder.mkdir(parents=True)
    (folder / "usb.ids").write_bytes(b"046d  Log\xffitech\n\tc52b  Receiver")
    assert Database(str(tmp_path)).name("usb", "046d:c52b") == Name("046d:c52b", "Log\ufffditech", "Receiver")


def test_a_device_of_this_host(host: Machine) -> None:
    """By the ids that it has now."""
    names = Names(host)
    assert names.of_pci(GPU).text == "AMD Radeon RX 6800/6800 XT / 6900 XT [1002:73bf]"
    assert names.of_pci("0000:09:00.0") == names.of_pci("hello") == Name("")


def test_lines_with_names() -> None:
    """A device is named where it is first mentioned, and not in what can be copied."""
    names = {GPU: Name("1002:73bf", "AMD", "Navi"), SOUND: Name("")}.__getitem__
    lines = [
        f"{GPU}: amdgpu -> vfio-pci",
        f'  write "{GPU}" to /sys/bus/pci/drivers_probe',
        f"{SOUND} shares a group with {GPU}, /sys/bus/pci/devices/{SOUND}/driver",
    ]
    assert list(named(lines, names)) == [f"{GPU} (AMD Navi [1002:73bf]): amdgpu -> vfio-pci", *lines[1:]]
    assert addresses(" ".join(lines)) == [GPU, SOUND]

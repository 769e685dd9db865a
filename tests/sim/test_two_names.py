# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two guests name one unit, mount point, module or device in two ways: what makes two names one thing, kind by kind."""

import json
from pathlib import Path

import pytest
from cases import DISK, NIC
from modules_out import UVM, host_with, loaded
from mounting import DATA, mount, mounted
from scenario import Host, guest

from libhook.facts.address import PciAddress
from libhook.kinds.module.unloading import out
from libhook.simulation import systemd
from libhook.simulation.hosts import workstation

WIN11, OTHER = guest(NIC), guest(name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
SDDM, MANAGER = "sddm.service", "display-manager.service"


def both(table: str, first: str, second: str) -> str:
    """The settings of two guests."""
    return f"[domains.win11{table}]\n{first}\n[domains.other{table}]\n{second}\n"


def claimed(host: Host) -> list[str]:
    """What guests claim together, each with how many do."""
    found = [json.loads(path.read_text()) for path in Path(host.machine.state, "shared").iterdir()]
    return sorted(f"{one['resource']}: {len(one['claims'])}" for one in found)


def test_a_unit_is_what_systemd_calls_it(root: str) -> None:
    """By whatever alias it is asked for."""
    host = Host(root, workstation(), both(".units", f'"{MANAGER}" = "down"', f'"{SDDM}" = "down"'))
    systemd.add(root, SDDM, names=[MANAGER])
    for one in (WIN11, OTHER):
        host.begin(one)
    assert claimed(host) == [f"unit {SDDM}: 2"]
    host.event(WIN11, "release", "shutdown")
    assert systemd.state(root, SDDM) == "inactive"
    host.event(OTHER, "release", "shutdown")
    assert (systemd.state(root, SDDM), host.leftovers) == ("active", [])


def test_a_mount_point_is_its_unit(root: str) -> None:
    """By its path, or by its unit."""
    host = Host(root, workstation(), both(".units", '"/srv/data" = "down"', '"srv-data.mount" = "down"'))
    mount(root)
    for one in (guest(DISK), OTHER):
        host.begin(one)
    assert claimed(host) == [f"unit {DATA}: 2"]
    host.event(guest(DISK), "release", "shutdown")
    assert mounted(root) == []
    host.event(OTHER, "release", "shutdown")
    assert (mounted(root), host.leftovers) == (["/srv/data", "/srv/data/sub"], [])


def test_a_module_is_what_the_kernel_calls_it(root: str) -> None:
    """It has an underscore for each dash."""
    host = host_with(root, both("", UVM.strip(), UVM.strip().replace("_", "-")))
    for one in (WIN11, OTHER):
        host.begin(one)
    assert claimed(host) == ["module-nvidia_uvm: 2"]
    assert out("nvidia-uvm").key == out("nvidia_uvm").key
    host.event(WIN11, "release", "shutdown")
    assert "nvidia_uvm" not in loaded(host)
    host.event(OTHER, "release", "shutdown")
    assert ("nvidia_uvm" in loaded(host), host.leftovers) == (True, [])


@pytest.mark.parametrize("text", ["00000000:01:00.0", "000000:01:00.0"])
def test_a_pci_device_is_its_address(text: str) -> None:
    """However many zeros the domain has; without a domain it is no address."""
    assert str(PciAddress.parse(text)) == NIC

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What import writes, played on the simulated host: it does what the scripts did, and undoes it."""

from pathlib import Path

from cases import GPU, SOUND
from plainhost import plain
from scenario import Host, guest

from libhook.importing import importer, sources
from libhook.simulation import systemd
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation

SETUPS = Path(__file__).parent / "setups"


def _drop_in(name: str) -> str:
    return importer.run(sources.read([str(SETUPS / name)]), [], [name], plain()).text


def _host(root: str, drop_in: str, units: dict[str, list[str]], values: dict[str, str]) -> Host:
    host = Host(root, workstation(), "holder_wait = 0.3\n")
    folder = Path(root, "etc/libhook/config.d")
    folder.mkdir()
    (folder / "imported.toml").write_text(drop_in)
    for unit, names in units.items():
        systemd.add(root, unit, names=names)
    for path, text in values.items():
        Path(f"{root}{path}").parent.mkdir(parents=True, exist_ok=True)
        Path(f"{root}{path}").write_text(f"{text}\n")
    return host


def _named(name: str) -> Guest:
    return guest(GPU, SOUND, name=name)


def test_the_desktop_and_the_card_go_and_come_back(root: str) -> None:
    """A tree of VFIO-Tools for one card: units down, modules out, the devices on vfio; and all of it back."""
    host = _host(root, _drop_in("classic"), {"sddm.service": ["display-manager.service"], "ollama.service": []}, {})
    win10 = _named("win10")
    host.begin(win10)
    assert systemd.state(root, "sddm.service") == "inactive"
    assert systemd.state(root, "ollama.service") == "inactive"
    assert not Path(root, "sys/module/amdgpu").exists()
    assert Path(root, f"sys/bus/pci/devices/{GPU}/driver").resolve().name == "vfio-pci"
    host.event(win10, "release", "shutdown")
    assert systemd.state(root, "sddm.service") == "active"
    assert systemd.state(root, "ollama.service") == "active"
    assert Path(root, f"sys/bus/pci/devices/{GPU}/driver").resolve().name == "amdgpu"
    assert host.leftovers == []


def test_a_value_comes_back_as_it_was_and_not_as_the_script_said(root: str) -> None:
    """The governor of this host was none that the script knows."""
    path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    drop_in = _drop_in("screen_and_keyboard")
    kept = [line for line in drop_in.splitlines() if "cpu0/" in line]
    host = _host(root, f'[domains."vm".values]\n{kept[0]}\n', {}, {path: "conservative"})
    vm = _named("vm")
    host.begin(vm)
    assert Path(f"{root}{path}").read_text().strip() == "performance"
    host.event(vm, "release", "shutdown")
    assert Path(f"{root}{path}").read_text().strip() == "conservative"

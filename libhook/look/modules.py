# SPDX-License-Identifier: LGPL-2.1-or-later
"""What /sys says of kernel modules, their drivers and what these drive, and of the virtual consoles.

All of it is links, folders and plain attributes. None of these reads sleeps in a driver.
"""

from __future__ import annotations

import os

from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple
from libhook.look import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OUT, LOADED, BUILT_IN = "out", "loaded", "built in"
"""The states of a module. A module that is being loaded or removed still counts as loaded."""


class Module(NamedTuple):
    """One module, as /sys shows it now."""

    state: str
    holders: tuple[str, ...] = ()
    """The modules that need it. It cannot go before them."""
    drivers: tuple[str, ...] = ()
    """Its PCI drivers."""
    devices: tuple[str, ...] = ()
    """The devices that its drivers have, of whatever bus, by their folders below /sys/devices."""

    def others(self, own: Iterable[str]) -> list[str]:
        """The names of its devices that are neither these PCI devices nor something below them."""
        addresses = set(own)
        return [path.rpartition("/")[2] for path in self.devices if addresses.isdisjoint(path.split("/"))]


def state(machine: Machine, name: str) -> str:
    """The module's state now. Only a loadable module has an ``initstate``. A built-in one has a folder at most."""
    folder = _folder(machine, name)
    if not os.path.isdir(folder):
        return OUT
    return LOADED if os.path.exists(f"{folder}/initstate") else BUILT_IN


def look(machine: Machine, name: str) -> Module:
    """The module with what it drives."""
    folder = _folder(machine, name)
    drivers, devices = list[str](), list[str]()
    for entry in attributes.entries(f"{folder}/drivers"):
        bus, _, driver = entry.partition(":")
        drivers += [driver] if bus == "pci" else []
        devices += _devices(machine, f"{folder}/drivers/{entry}")
    return Module(state(machine, name), tuple(holders(machine, name)), tuple(drivers), tuple(devices))


def holders(machine: Machine, name: str) -> list[str]:
    """The modules that need this one."""
    return attributes.entries(f"{_folder(machine, name)}/holders")


def is_in_use(machine: Machine, name: str) -> bool:
    """Whether anything but another module uses it."""
    count = attributes.plain(_folder(machine, name), "module/refcnt")
    return count.isdecimal() and int(count) > len(holders(machine, name))


def of_driver(machine: Machine, driver: str) -> str | None:
    """The module of a PCI driver, by its name in /sys/module."""
    return attributes.link(f"{machine.sys}/bus/pci/drivers/{driver}/module")


def framebuffers(machine: Machine) -> list[str]:
    """The framebuffers of the host: ``fb0``. Beside them stands ``fbcon``."""
    return [
        name
        for name in attributes.entries(f"{machine.sys}/class/graphics")
        if name[:2] == "fb" and name[2:].isdecimal()
    ]


def of_framebuffers(machine: Machine) -> set[str]:
    """The modules that drive a framebuffer."""
    folder = f"{machine.sys}/class/graphics"
    found = (attributes.link(f"{folder}/{name}/device/driver/module") for name in framebuffers(machine))
    return set(filter(None, found))


def consoles(machine: Machine) -> Iterator[tuple[str, str]]:
    """The drivers of virtual consoles that can be unbound: ``vtcon1`` and its name.

    Their numbers differ from boot to boot. Of the system's own driver, ``(S)``, a write to ``bind`` is ignored
    (unbind_con_driver() in drivers/tty/vt/vt.c).
    """
    folder = f"{machine.sys}/class/vtconsole"
    for console in attributes.entries(folder):
        name = attributes.plain(f"{folder}/{console}", "vtconsole/name")
        if name.startswith("(M)"):
            yield console, name


def _folder(machine: Machine, name: str) -> str:
    return f"{machine.sys}/module/{name}"


def _devices(machine: Machine, driver: str) -> Iterator[str]:
    """The folders, below /sys/devices, of what a driver has. Beside them stands ``module``."""
    root = os.path.realpath(f"{machine.sys}/devices")
    for name in attributes.entries(driver):
        path = os.path.realpath(f"{driver}/{name}")
        if path.startswith(f"{root}/"):
            yield path.removeprefix(f"{root}/")

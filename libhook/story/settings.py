# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes one guest's settings from the files. Imported only where there are files.

What a guest's devices are is looked up only where the settings name devices, and in /sys only where they name them
otherwise than by address.
"""

from __future__ import annotations

from libhook.errors import BadInput
from libhook.facts import settings
from libhook.facts.config import Config, Source
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.host import NO_CLASS
from libhook.facts.machine import Machine
from libhook.facts.merged import config_of, merge, only_of
from libhook.facts.problem import refusal
from libhook.facts.settings import Device, Settings
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from libhook.facts.address import PciAddress


def read(sources: Sequence[Source]) -> Settings:
    """Read all files, for ``of_guest``."""
    return settings.read(sources)


def of_guest(
    machine: Machine,
    found: Settings,
    guest: Domain | Held,
    entry: Callable[[], Held | None],
    note: Callable[[bool], None] | None = None,
    plugged: Collection[PciAddress] | None = None,
) -> Config:
    """Return the guest's settings. BadInput if a section that is about it is wrong.

    ``note`` is told whether the sections about the guest ask for an action.
    At hot-plug, only the sections for the ``plugged`` devices may ask for actions.
    """
    sections = found.about(guest.name, guest.uuid, devices_of(machine, found, guest, entry))
    if note:
        note(any(section.asks for section in sections))
    if wrong := refusal(found.problems, [problem for section in sections for problem in section.problems]):
        raise wrong
    merged = merge(sections)
    if plugged is None:
        return config_of(merged)._replace(by_uuid=any(section.rank[0] == settings.UUID for section in sections))
    names = settings.names_of(on_host(machine, address) for address in plugged)
    return config_of(only_of(merged, [section for section in sections if section.is_for(names)]))


def devices_of(
    machine: Machine, found: Settings, guest: Domain | Held, entry: Callable[[], Held | None]
) -> list[Device]:
    """Return the guest's PCI devices, as far as the settings ask for them.

    They come from its XML and are what the host has there now. At its end they come from its journal entry, and are
    what they were then: by now another device may have that address, or none.
    """
    if not found.name_devices:
        return []
    in_xml = isinstance(guest, Domain) and bool(guest.devices)
    held: Held | None = None
    if isinstance(guest, Held):
        held = guest
    elif guest.uuid and (found.describe_devices or not in_xml):
        with suppress(BadInput):
            held = entry()
    journalled = {
        one.pci: Device(one.pci, one.ids, one.pci_class)
        for one in (held.devices if held else ())
        if one.pci and one.audited
    }
    if not found.describe_devices:
        return [Device(address) for address in (guest.addresses if in_xml else journalled)]
    if in_xml:
        return [_first(on_host(machine, address), journalled.get(address)) for address in guest.addresses]
    return [
        device if device.is_complete else _first(device, on_host(machine, device.address))
        for device in journalled.values()
    ]


def on_host(machine: Machine, address: PciAddress) -> Device:
    """Return what the device is that the host has at this address now."""
    return Device(address, sysfs.ids(machine, address), sysfs.pci_class(machine, address))


def _first(one: Device, other: Device | None) -> Device:
    """Return ``one``. What it does not say is taken from ``other``, unless that is another model of device."""
    if other is None or (one.ids and other.ids and one.ids != other.ids):
        return one
    return Device(one.address, one.ids or other.ids, other.pci_class if one.pci_class == NO_CLASS else one.pci_class)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks at everything about devices that could stand in the way of a hand-over. Only ``prepare`` and commands do."""

from __future__ import annotations

from libhook.effects import files
from libhook.errors import LibhookError
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain
from libhook.facts.host import Claim, Host, Tenant
from libhook.light import TYPE_CHECKING
from libhook.look import sysfs, uses
from libhook.look.tenants import below as tenants_below
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from libhook.facts.identity import Changed


def related(session: Session, addresses: Collection[PciAddress]) -> set[PciAddress]:
    """Return these devices, the others of their IOMMU groups, and the PFs and VFs of all of them.

    A guest that holds any of these matters.
    """
    groups = {group for address in addresses if (group := sysfs.group(session.machine, address)) is not None}
    related = {*addresses, *(other for group in groups for other in sysfs.members(session.machine, group))}
    for address in tuple(related):
        pf, vfs = sysfs.related(session.machine, address)
        related.update((pf, *vfs) if pf else vfs)
    return related


def look(session: Session, addresses: Collection[PciAddress], guest: Domain | None = None) -> Host:
    """Look at everything about these devices: before they go to ``guest``, or without a guest to show them."""
    survey = guest is None
    claims, in_flight = session.state.claims(related(session, addresses)), session.state.in_flight()
    siblings = session.config.siblings == "bind"
    host = sysfs.look(session.machine, addresses, claims, in_flight, session.deadline, siblings=siblings, survey=survey)
    wanted = [
        device
        for address, device in host.devices.items()
        if (siblings or address in addresses) and device.on_host_driver and address not in host.in_flight
    ]
    those = tenants(session, (device.address for device in wanted), guest)
    found = uses.of_devices(session.machine, wanted, session.deadline, must_see=not survey)
    silent = frozenset(device.address for device in wanted) - found.keys()  # in a survey; else they are refused
    return host._replace(tenants=those, uses=found, in_flight=host.in_flight | silent)


def tenants(
    session: Session, addresses: Iterable[PciAddress], guest: Domain | None = None
) -> dict[PciAddress, tuple[Tenant, ...]]:
    """Return who has something below these devices, such as a USB device below its controller.

    If they go to a ``guest``, the guest's other devices count too.
    """
    own = [device for device in guest.devices if not device.pci] if guest else []
    others = (Claim(guest.uuid, guest.name), own) if guest else None
    return tenants_below(
        session.machine, session.state, addresses, session.deadline, others, must_see=guest is not None
    )


def changed(session: Session, guest: Domain) -> Sequence[Changed]:
    """Return which of the guest's addresses hold another device than it had there.

    Hold no lock: what is read is in /var, which may hang.
    """
    if not guest.addresses or session.config.identity == "off":
        return ()
    try:
        path = f"{session.machine.notes}/{guest.uuid}.json"
        if (text := files.read(path)) is not None:
            from libhook.story import identities  # a first start does without

            return identities.changed(session, guest, path, text)
    except LibhookError as error:
        session.log.add("warning", "devices not compared with what the guest had", reason=error.message)
    return ()

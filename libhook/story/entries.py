# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a guest's journal entry at each step of its life, from the previous entry, the guest's XML and the plan."""

from __future__ import annotations

from libhook import plainjson
from libhook.effects import files, notes
from libhook.errors import BadInput, LibhookError, fault, named
from libhook.facts.domain import NO_DRIVER, Domain, HostDevice
from libhook.facts.entry import Held, HeldDevice, Recorded
from libhook.facts.plan import Plan
from libhook.kinds import registry as kinds
from libhook.light import TYPE_CHECKING
from libhook.look import processes, sysfs
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

NO_PLAN = Plan(())


def prepared(session: Session, before: Held | None, domain: Domain, plan: Plan) -> Held:
    """Make the entry for the moment before the first write.

    It has every device of the guest, the actions of the entry ``before``, and the actions of the plan.
    """
    own = list(map(_own, domain.devices))
    keys = {device.key for device in own}
    kept = [device for device in before.devices if device.key not in keys] if before else []  # they are claimed already
    keys |= {device.key for device in kept}
    done = before.actions if before else ()
    had = {action.key for action in done}
    actions = (*done, *(action for action in plan.actions if action.is_undone and action.key not in had))
    along = taken_along(action.key for action in actions if action.key not in keys)
    devices = tuple(as_on_host(session, device, before) for device in (*own, *kept, *along))
    daemon = processes.process(session.machine, session.libvirtd)
    boot, trail = session.state.boot(), session.trail()
    lost = trail.lost if trail else 0
    settled = before.settled if before else session.settled
    return Held(domain.uuid, domain.name, domain.virt, "preparing", boot, daemon, devices, lost, (), actions, settled)


def _own(device: HostDevice) -> HeldDevice:
    audited = device.audited
    return HeldDevice(device.kind, device.address, audited=audited, extra=device.extra, named=not audited)


def as_on_host(session: Session, device: HeldDevice, before: Held | None = None) -> HeldDevice:
    """Add what the device is: at the guest's end it may be gone, or another one may have its address.

    The serial number may have been read only ``before``, when the device was on its own driver.
    """
    if not device.pci:
        return device
    now, pci_class = sysfs.identity(session.machine, device.pci), sysfs.pci_class(session.machine, device.pci)
    known = before.by_key().get(device.key) if before else None
    serial = now.serial or (known.serial if known and known.ids == now.ids else "")
    return device._replace(ids=now.ids, subsystem=now.subsystem, serial=serial, pci_class=pci_class)


def taken_along(keys: Iterable[str]) -> tuple[HeldDevice, ...]:
    """Return the PCI devices among these keys. They are siblings in an IOMMU group, so they get no audit record.

    The keys must not be those of the guest's own devices.
    """
    named = (key.partition(" ") for key in keys)
    return tuple(HeldDevice("pci", address, audited=False) for kind, _, address in named if kind == "pci")


def starting(session: Session, before: Held | None, domain: Domain, _plan: Plan) -> Held:
    """Make the entry for ``start``. Every device is where it must be.

    Devices that ``prepare`` did not know are added: libvirt chooses a VF from a network pool after ``prepare``, and it
    then also looks up a USB device that the XML names by vendor and product.
    """
    held = before or prepared(session, None, domain._replace(devices=()), NO_PLAN)
    known = {device.key: device for device in held.devices}
    present = [device for device in domain.devices if not device.missing]
    for device in present:
        if device.key not in known:
            held = with_newcomer(session, held, device)
    known = {device.key: device for device in held.devices}
    keys = [device.key for device in present]  # one iSCSI name may be of two servers: two devices with one key
    acting = held.actions_by_key()
    own = set(keys)
    along = [one for one in held.devices if one.key not in own and (one.key in acting or not one.audited)]
    return held._replace(phase="starting", devices=(*(known[key] for key in keys), *along))


def with_newcomer(session: Session, held: Held, device: HostDevice) -> Held:
    """Add a device that ``prepare`` did not know, and the action that libvirt has carried out on it by now."""
    daemon = processes.process(session.machine, session.libvirtd)
    action = kinds.noticed(session.work(held.uuid), device, daemon)
    told = device.extra
    if action and told and device.pci:
        home = notes.home(session.machine, device.pci, daemon)
        told = told._replace(driver=(home.driver if home else None) or NO_DRIVER)
    pooled = device.source == "interface"  # with an address in the XML, prepare knows it
    one = as_on_host(session, _own(device)._replace(extra=told, pooled=pooled))
    return held._replace(devices=(*held.devices, one), actions=(*held.actions, *((action,) if action else ())))


def started(session: Session, before: Held | None, domain: Domain, _plan: Plan) -> Held:
    """Make the entry for ``started`` and ``reconnect``: the guest has its devices."""
    held = before or prepared(session, None, domain, NO_PLAN)
    daemon = processes.process(session.machine, session.libvirtd)
    if not daemon.pid and processes.lives(session.machine, held.libvirtd):
        daemon = held.libvirtd  # a script passed the call on and has ended, so it no longer leads to libvirtd
    return held._replace(phase="started", libvirtd=daemon)


def after_refusal(session: Session, held: Held, left: Collection[str] = ()) -> Held:
    """Make the entry of a refused start. ``left`` has the keys of what did not come back; only that is still held."""
    hanging = session.state.in_flight() if left else frozenset()
    devices = (
        device._replace(wedged=device.pci in hanging) if device.key in left else device for device in held.devices
    )
    actions = tuple(action for action in held.actions if action.key in left)
    return held._replace(phase="releasing" if left else "refused", devices=tuple(devices), actions=actions)


MAKE = {"prepare": prepared, "start": starting, "started": started, "reconnect": started}
"""Makes the journal entry, by the operation."""


def expect_readable(held: Held, *, anew: bool = False) -> None:
    """LibhookError if this entry could not be read again: then nobody would give back what it names.

    ``anew``: the guest is about to start, and the entry must have room for what comes later.
    """
    text, what = plainjson.dumps(held.to_json()), f"the journal entry of the guest {named(held.name)}"
    files.expect_room(text, what, anew=anew)
    try:
        Held.from_json(plainjson.loads(text), kinds.read)
    except (ValueError, RecursionError, BadInput) as error:
        raise LibhookError(
            f"{what} could not be read again ({fault(error)})", "libhook config shows what its settings ask for"
        ) from None


def with_pending_begin(held: Held, keys: Collection[str]) -> Held:
    """Note in the entry that the guest has these devices, and that this is about to be recorded."""
    devices = (
        device._replace(recorded="success", pending="begin") if device.key in keys else device
        for device in held.devices
    )
    return held._replace(devices=tuple(devices))


def with_recorded(held: Held, keys: Collection[str], result: Recorded) -> Held:
    """Note in the entry what the audit trail says of these devices by now."""
    devices = (device._replace(recorded=result) if device.key in keys else device for device in held.devices)
    return held._replace(devices=tuple(devices))

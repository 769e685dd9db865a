# SPDX-License-Identifier: LGPL-2.1-or-later
"""The journal entry of a guest at each step of its life, made from the one before, the guest's XML and the plan."""

from __future__ import annotations

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
    """Before the first write: every device, and what is to be done for the guest, beside what was done ``before``."""
    own = [HeldDevice(device.kind, device.address, extra=device.extra) for device in domain.devices]
    keys = {device.key for device in own}
    actions = (*(before.actions if before else ()), *(action for action in plan.actions if action.is_undone))
    along = taken_along(action.key for action in actions if action.key not in keys)
    devices = tuple(
        device._replace(ids=sysfs.ids(session.machine, device.pci)) if device.pci else device
        for device in (*own, *along)
    )
    daemon = processes.process(session.machine, session.libvirtd)
    boot, trail = session.state.boot(), session.trail()
    lost = trail.lost if trail else 0
    return Held(domain.uuid, domain.name, domain.virt, "preparing", boot, daemon, devices, lost, actions=actions)


def taken_along(keys: Iterable[str]) -> tuple[HeldDevice, ...]:
    """The devices among these that are none of the guest's: others of an IOMMU group. They are not recorded."""
    named = (key.partition(" ") for key in keys)
    return tuple(HeldDevice("pci", address, audited=False) for kind, _, address in named if kind == "pci")


def starting(session: Session, before: Held | None, domain: Domain, _plan: Plan) -> Held:
    """Every device is where it must be. What is only known now is added.

    A VF out of a network pool is chosen after ``prepare``, and a USB device named by vendor and product found.
    """
    held = before or prepared(session, None, domain._replace(devices=()), NO_PLAN)
    known = {device.key: device for device in held.devices}
    present = [device for device in domain.devices if not device.missing]
    for device in present:
        if device.key not in known:
            held = with_newcomer(session, held, device)
    known = {device.key: device for device in held.devices}
    keys = [device.key for device in present]
    along = [one for one in held.devices if one.key not in keys and (held.action(one.key) or not one.audited)]
    return held._replace(phase="starting", devices=(*(known[key] for key in keys), *along))


def with_newcomer(session: Session, held: Held, device: HostDevice) -> Held:
    """The entry with a device that ``prepare`` did not know, and with what libvirt has done with it by now."""
    daemon = processes.process(session.machine, session.libvirtd)
    action = kinds.noticed(session.work(held.uuid), device, daemon)
    told = device.extra
    if action and told and device.pci:
        home = session.state.home(device.pci, daemon)
        told = told._replace(driver=(home.driver if home else None) or NO_DRIVER)
    one = HeldDevice(device.kind, device.address, extra=told)
    return held._replace(devices=(*held.devices, one), actions=(*held.actions, *((action,) if action else ())))


def started(session: Session, before: Held | None, domain: Domain, _plan: Plan) -> Held:
    """The guest has its devices."""
    held = before or prepared(session, None, domain, NO_PLAN)
    daemon = processes.process(session.machine, session.libvirtd)
    if not daemon.pid and processes.lives(session.machine, held.libvirtd):
        daemon = held.libvirtd  # whoever passed the call on has not waited either, and is no way to it any more
    return held._replace(phase="started", libvirtd=daemon)


def let_go(session: Session, held: Held, left: Collection[str] = ()) -> Held:
    """The entry of a start that is refused. Only what did not come back, ``left``, by key, is still held."""
    hanging = session.state.in_flight() if left else frozenset()
    devices = (
        device._replace(wedged=device.pci in hanging) if device.key in left else device for device in held.devices
    )
    actions = tuple(action for action in held.actions if action.key in left)
    return held._replace(phase="releasing" if left else "refused", devices=tuple(devices), actions=actions)


def with_recorded(held: Held, keys: Collection[str], result: Recorded) -> Held:
    """The entry with what the trail says of these devices by now."""
    devices = (device._replace(recorded=result) if device.key in keys else device for device in held.devices)
    return held._replace(devices=tuple(devices))

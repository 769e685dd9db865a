# SPDX-License-Identifier: LGPL-2.1-or-later
"""The binding of a PCI device: from the host's driver to a vfio driver, and back.

move.py      the action, and the way back from it
binding.py   how the action is carried out
"""

from __future__ import annotations

from libhook.effects import notes
from libhook.errors import BUSY, WHEN_IT_ANSWERS, LibhookError
from libhook.facts.config import Config
from libhook.facts.domain import HostDevice
from libhook.facts.entry import Held, Process
from libhook.facts.host import Binding, Host
from libhook.facts.plan import Action, Stays, Warn
from libhook.kinds.kind import Kind, Work
from libhook.kinds.pci.binding import carry_out
from libhook.kinds.pci.move import ANY_DRIVER_OUT, NAME, Move, driver_out, read, undo
from libhook.light import TYPE_CHECKING, suppress
from libhook.look import sysfs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


def way_back(work: Work, held: Held, moves: Sequence[Move]) -> Iterator[Action | Stays | Warn]:
    """See Kind. Back to what the journal says, whatever the XML says by now."""
    addresses = [move.device for move in moves]
    claims, in_flight = work.state.claims(addresses, held), work.state.in_flight()
    ours = [move.device for move in moves if move.ours and work.crew]
    workers = {device: work.crew.worker(str(device), unmarked=True) for device in ours} if work.crew else {}
    host = sysfs.glance(work.machine, addresses, claims, in_flight, work.deadline, workers)
    ids = {device.key: device.ids for device in held.devices}
    for move in moves:
        address, seen = move.device, host.devices.get(move.device)
        if address in host.unknown:
            reason = host.unknown[address]
            yield Stays(move, reason, f"{reason}: {WHEN_IT_ANSWERS}")
        elif seen is None:
            yield Warn(f"{address} is gone from the host, so there is nothing to give back")
        elif (claim := host.claims.get(address)) and claim.uuid != held.uuid:
            yield Warn(f"{address} is held by the guest {claim.shown} now, and stays with that guest")
        elif address in host.in_flight:
            yield Stays(move, f"{address}{BUSY}", f"{address}{BUSY}: {WHEN_IT_ANSWERS}")
        elif seen.was_replaced(ids.get(move.key, "")):
            yield Warn(
                f"{address} is a different device now, {seen.ids} instead of {ids[move.key]}, and stays as it is"
            )
        else:
            unread = address in host.unread  # the override counts as ours while it cannot be read
            binding = seen.binding._replace(override=move.want.override) if unread else seen.binding
            back = undo(move, binding, needs_override=seen.needs_override)
            if back and back.want.driver and _keep_out(work, held, back.want.driver):
                back = back._replace(later=True, why="give back, its driver is out of the kernel until then")
            if back:
                yield back
            driver, override = back.want if back else binding
            if (driver, override) != move.now:
                overridden = f", with the driver_override {override}" if override else ""
                yield Warn(
                    f"{address}: somebody else put it on {driver or 'no driver'}{overridden}, and it stays there"
                )


def _keep_out(work: Work, held: Held, driver: str, *, undone: bool = False) -> set[str]:
    """The keys of the actions that keep this driver out of the kernel; none while it is there.

    They are any guest's, but of old scripts this guest's alone: what others' have taken out is not known. ``undone``:
    they are undone by now, so what they had taken out should be back.
    """
    if sysfs.driver_name(work.machine, driver):
        return set()
    entries = [held]
    for uuid in work.state.uuids():
        with suppress(LibhookError):  # a broken entry keeps nothing out that anybody could bring back
            entries += filter(None, [work.state.load(uuid)])
    scripts = {one.key for one in held.actions if ANY_DRIVER_OUT in one.provides and not undone}
    return scripts | {one.key for entry in entries for one in entry.actions if driver_out(driver) in one.provides}


def _again(work: Work, held: Held, moves: Sequence[Move], failed: Collection[str]) -> Iterator[Action | Stays]:
    """See Kind. The devices whose driver was out of the kernel: by now it is back, and should have taken them.

    Where other guests still keep it out, the device is home without it.
    """
    out = {state for action in held.actions for state in action.provides}
    late = [
        move for move in moves if move.key not in failed and {driver_out(move.now.driver or ""), ANY_DRIVER_OUT} & out
    ]
    for verdict in way_back(work, held, late) if late else ():
        if isinstance(verdict, Stays):
            yield verdict
        elif isinstance(verdict, Move) and not (
            verdict.later
            and (keepers := _keep_out(work, held, verdict.want.driver or "", undone=True))
            and keepers.isdisjoint(failed)
        ):
            yield verdict._replace(later=False, why="give back")


def _noticed(work: Work, device: HostDevice, daemon: Process) -> Move | None:
    """The action for a device that ``prepare`` did not know, such as a VF out of a pool.

    libvirt has bound the device by now, and may not give it back (notes.home).
    """
    home = notes.home(work.machine, device.pci, daemon) if device.pci else None
    driver = sysfs.driver(work.machine, device.pci) if device.pci else None
    if device.pci is None or home is None or driver is None:
        return None
    why = f"{device.source} out of a pool, libvirt bound it"
    return Move(device.pci, home, Binding(driver, driver), why, "libvirt")


def _is_back(work: Work, move: Move, held: Held) -> None:
    if move.ours:
        notes.remember_home(work.machine, move.device, move.now, held.libvirtd)


def _after(host: Host, move: Move) -> Host:
    if move.device not in host.devices:
        return host
    device = host.devices[move.device]._replace(binding=move.want, on_vfio=False)
    return host._replace(devices={**host.devices, move.device: device})


def _seconds(config: Config, _actions: Sequence[Action]) -> float:
    return config.write_deadline


KIND = Kind(NAME, read, _seconds, carry_out, way_back, again=_again, noticed=_noticed, is_back=_is_back, after=_after)

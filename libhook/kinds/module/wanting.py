# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which modules the setting ``modules`` means, in which order they go, and which it may not mean.

It names modules. ``device`` stands for the modules that drive the guest's PCI devices now, with all that hold them;
``device:display`` for those of some of these devices, named as in a section ``[devices]``.
"""

from __future__ import annotations

from libhook.errors import STOP_GUEST, BadInput, LibhookError, named
from libhook.facts.keys import DEVICE
from libhook.facts.plan import Refusal, Verdict
from libhook.facts.settings import Device
from libhook.facts.situation import Situation
from libhook.kinds.kind import Work
from libhook.kinds.module.consoles import Consoles
from libhook.kinds.module.loading import NAME
from libhook.kinds.module.unloading import LEAVE_IT, Out, built_in, drives, out
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look import modules, sysfs
from libhook.look.modules import BUILT_IN, OUT, Module

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from libhook.facts.address import PciAddress

_SETTING = "modules"


class Seen(NamedTuple):
    """What is known of the modules that the settings ask for."""

    asked: Mapping[str, str]
    """Each with why it is asked for. Those that must go first come first."""
    modules: Mapping[str, Module]
    """The same, as they are."""
    homes: Mapping[str, str]
    """What other guests hold, by the state in which it could not come home."""
    drivers: Mapping[str, tuple[str, ...]]
    """The PCI drivers of modules that guests keep out."""
    consoles: bool
    """One of the modules drives a framebuffer, and consoles may be bound to it."""


def look(work: Work) -> Seen:
    """See Kind. Devices come before entries: a guest that takes one meanwhile has an entry by then."""
    machine = work.machine
    kept, asked = _kept_out(work), _asked(work)
    asked = {name: asked[name] for name in (*kept, *asked) if name in asked}
    found = {name: modules.look(machine, name) for name in asked}
    found |= {name: Module(BUILT_IN) for name, why in asked.items() if why == BUILT_IN}
    consoles = not modules.of_framebuffers(machine).isdisjoint(asked) and any(modules.consoles(machine))
    homes, drivers = dict[str, str](), dict[str, tuple[str, ...]]()
    for uuid in work.state.uuids():
        with suppress(LibhookError):  # what a broken entry holds cannot come home anyhow
            held = work.state.load(uuid)
            for action in held.actions if held else ():
                if isinstance(action, Out):
                    drivers[action.module] = drivers.get(action.module) or action.drivers
                if held and uuid != work.guest:
                    homes |= dict.fromkeys(action.needs, f"{action.subject} of the guest {named(held.name)}")
    return Seen(_in_order(asked, found), found, homes, drivers, consoles)


def _asked(work: Work) -> dict[str, str]:
    """The modules with why they are asked for, in the order of the settings."""
    machine, asked = work.machine, dict[str, str]()
    for item in work.config.actions[_SETTING]:
        word, colon, which = item.partition(":")
        if word != DEVICE:
            asked.setdefault(item.replace("-", "_"), "")
            continue
        for address in work.devices:
            if colon and not _is(work, address, which.lower()):
                continue
            driver = sysfs.driver(machine, address)
            if driver is None or sysfs.on_vfio(machine, address):
                asked |= _kept_out(work)
            elif module := modules.of_driver(machine, driver):
                _add(work, asked, module, f"drives {address}")
            else:  # of a built-in driver there need be no module in /sys (module_add_driver() in kernel/module/sysfs.c)
                asked[driver] = BUILT_IN
    return asked


def _is(work: Work, address: PciAddress, which: str) -> bool:
    ids, pci_class = sysfs.ids(work.machine, address), sysfs.pci_class(work.machine, address)
    return which in (str(address), ids, Device(address, ids, pci_class).class_name)


def _add(work: Work, asked: dict[str, str], module: str, why: str) -> None:
    """Add a module, and all that hold it."""
    if module not in asked:
        asked[module] = why
        for holder in modules.holders(work.machine, module):
            _add(work, asked, holder, f"needs {module}")


def _kept_out(work: Work) -> dict[str, str]:
    """What this guest keeps out already, for the plan of its next start."""
    with suppress(LibhookError):
        if held := work.state.load(work.guest):
            return {action.module: action.why for action in held.actions if isinstance(action, Out)}
    return {}


def _in_order(asked: Mapping[str, str], found: Mapping[str, Module]) -> dict[str, str]:
    """The holders of each module before it."""
    order, begun = dict[str, str](), set[str]()

    def place(name: str) -> None:
        if name in asked and name not in begun:
            begun.add(name)
            for holder in found[name].holders:
                place(holder)
            order[name] = asked[name]

    for name in asked:
        place(name)
    return order


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. What the list ``modules`` asks for, without what is journalled already."""
    seen: Seen = situation.looked[NAME]
    done = {action.key for action in situation.held.actions} if situation.held else set[str]()
    free = tuple(f"{device.pci} is free" for device in situation.domain.pci)
    consoles = Consoles(free)
    if seen.consoles and consoles.key not in done:
        yield consoles
    before = (*free, *consoles.provides) if seen.consoles else free
    own = _own(situation)
    for name, why in seen.asked.items():
        module = seen.modules[name]
        try:
            action = out(name, why, before, module.drivers or seen.drivers.get(name, ()))
            _expect_may_go(name, module, seen, own)
        except BadInput as error:
            yield Refusal("", error.message, error.hint)
            continue
        before = free  # the first of them comes after the consoles, and the others after the first
        if action.key not in done:
            # What a guest keeps out would be there at the next start.
            yield action._replace(is_loaded=module.state != OUT or name in seen.drivers)


def _own(situation: Situation) -> set[str]:
    """The devices that the guest gets, with those that are taken along."""
    host, own = situation.host, set(situation.domain.addresses)
    if situation.config.siblings == "bind":
        groups = {host.devices[address].group for address in own if address in host.devices}
        own |= {address for group in groups if group is not None for address in host.groups.get(group, ())}
    return set(map(str, own))


def _expect_may_go(name: str, module: Module, seen: Seen, own: Collection[str]) -> None:
    """BadInput for a module that cannot go, or that others need."""
    if module.state == BUILT_IN:
        raise BadInput(built_in(name), LEAVE_IT)
    if others := [holder for holder in module.holders if holder not in seen.asked]:
        raise BadInput(
            f"the module {name} is in use by {', '.join(others)}",
            f"name those in {_SETTING}, too; libhook config shows where",
        )
    if strangers := module.others(own):
        raise BadInput(drives(name, strangers), LEAVE_IT)
    for driver in module.drivers:
        if home := seen.homes.get(f"driver {driver} is out"):
            raise BadInput(
                f"the module {name} will drive {home} again",
                STOP_GUEST,
            )

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removes files without use that killed processes left in /run/libhook: half-written files, claims, locks, marks.

They harm nobody. But an empty folder shows that nothing is held.
"""

from __future__ import annotations

from libhook.children.child import Deadline
from libhook.effects.locks import is_locked
from libhook.effects.state import State
from libhook.errors import LibhookError
from libhook.facts.address import PciAddress
from libhook.facts.entry import Process
from libhook.light import suppress
from libhook.look import libvirtd, processes, sysfs

_NOW = Deadline(0.0)
_UNSEEN = (LibhookError, OSError)
"""Another process holds the lock, or the file cannot be looked at."""


def tidy(state: State) -> None:
    """Remove each such file under the lock of its writers. Where another has that, or none can be seen, it stays."""
    for name in state.names("domains"):
        uuid = name.removesuffix(".new").removesuffix(".json")
        with suppress(*_UNSEEN), state.locked([f"domain-{uuid}"], _NOW):
            if name.endswith(".new") or state.load(uuid) is None:
                state.remove("domains", name)
    for name in state.names("unwaited"):
        with suppress(*_UNSEEN), state.locked([f"domain-{name}"], _NOW):
            if state.load(name) is None:
                state.remove("unwaited", name)
    for folder in ("claims", "homes", "in-flight"):
        for name in state.names(folder):
            with suppress(*_UNSEEN):
                address = PciAddress.parse(name.removesuffix(".new"))
                with state.locked(sysfs.names_of_locks(state.machine, [address]), _NOW):
                    if name.endswith(".new"):
                        state.remove(folder, name)
                    elif folder == "claims":
                        state.disclaim_for_nobody(address)
                    elif folder == "in-flight":
                        state.settle_in_flight(address)
    for name in state.names("in-flight"):
        match name.split("-"):
            case ["asking", pid, start]:
                with suppress(ValueError):
                    if not processes.works(state, Process(int(pid), int(start))):
                        state.remove("in-flight", name)  # the child that held this mark was killed
            case ["legacy", _, _, _, _, _, _] if not is_locked(state.in_flight_path(name)):
                state.remove("in-flight", name)  # of a call of an old script, for a guest without an entry
    for name in state.names(""):
        if name.startswith("served."):
            state.remove("", name)  # half a note for the launcher; a process that lives does without, too
    running = libvirtd.running(state.machine)
    if running is not None:  # else nobody knows who has ended
        state.forget_lost(running)
    state.remove_unused_locks()

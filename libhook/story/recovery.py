# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decides whether a guest's journal entry is dead, so that others may give back what it holds. Pure."""

from __future__ import annotations

from libhook.errors import named
from libhook.facts.entry import Held
from libhook.light import NamedTuple


class Facts(NamedTuple):
    """What is known of a guest from outside its journal entry."""

    busy: bool
    """Some process holds the guest's lock."""
    libvirtd_lives: bool
    """The libvirtd that started the guest still runs. If nobody knows which one did: some libvirtd runs."""
    status_known: bool
    """libvirt's folder of status files exists, so a missing file means something."""
    has_status: bool
    """libvirt has a status file for the guest. It exists from QEMU's start until just before ``release``."""
    in_use: str
    """That a vfio node of the entry's devices is open, and in whom, or why that cannot be seen; "" when none is.

    Whether the guest has it open, or another by now, nobody can say. Nobody looks where ``has_status`` is true.
    """


def sign_of_life(held: Held, facts: Facts, starting_anew: bool = False) -> str | None:
    """Return why the entry may not be touched; None when it is dead.

    In the phases "preparing" and "releasing" a libhook process is at work; without that process the entry is dead. In
    "prepared", "starting" and "refused" no process need be at work, since they lie between two calls of the hook: such
    an entry is dead when its libvirtd is gone. A "started" entry is dead when the guest is gone, or, without libvirt's
    folder of status files, when its libvirtd is. ``starting_anew`` means that libvirtd is preparing this very guest, so
    the guest's earlier life is over.
    """
    name = named(held.name)
    if facts.busy:
        return f"a libhook process works on the guest {name}"
    if facts.has_status:
        return f"libvirt says that the guest {name} runs"
    if facts.in_use:
        return facts.in_use
    if starting_anew or held.phase in ("preparing", "releasing"):
        return None
    if held.phase == "started" and facts.status_known:
        return None
    if facts.libvirtd_lives:
        which = f" (pid {held.libvirtd.pid})" if held.libvirtd.pid else ""
        return f"libvirtd{which} is starting the guest {name}; if it is not, restart libvirtd"
    return None

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a guest's record is dead, so that what it holds may be given back by somebody else. Pure."""

from __future__ import annotations

from libhook.errors import printable
from libhook.facts.entry import Held
from libhook.light import NamedTuple


class Facts(NamedTuple):
    """What is known of the guest's record from outside it."""

    busy: bool
    """Some process holds the guest's lock."""
    libvirtd_lives: bool
    """The libvirtd that started the guest is still that process; where it is not known which did, any lives."""
    status_known: bool
    """libvirt's folder of status files is there, so that a missing file means something."""
    has_status: bool
    """libvirt has a status file for the guest: from QEMU's start until just before ``release``."""
    in_use: str
    """Who has a vfio node of its devices open; "" when nobody."""


def sign_of_life(held: Held, facts: Facts, starting_anew: bool = False) -> str | None:
    """Why the record may not be touched; None when it is dead.

    "Preparing" and "releasing" last as long as the process at work. "Prepared" ("starting", "refused") lies between two
    calls of the hook, when no process holds anything: dead with its libvirtd. "Started" is dead when the guest is gone.
    ``starting_anew``: libvirtd is preparing this very guest, so an earlier life of it is over.
    """
    name = printable(held.name)
    if facts.busy:
        return f"a libhook is at work on the guest {name}"
    if facts.has_status:
        return f"libvirt says that the guest {name} runs"
    if facts.in_use:
        return f"a device of the guest {name} is open in {facts.in_use}"
    if starting_anew or held.phase in ("preparing", "releasing"):
        return None
    if held.phase == "started" and facts.status_known:
        return None
    if facts.libvirtd_lives:
        which = f" (pid {held.libvirtd.pid})" if held.libvirtd.pid else ""
        return f"the guest {name} is being started by libvirtd{which}; if it is not, a restart of libvirtd ends that"
    return None

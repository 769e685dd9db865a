# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hands PCI devices to libvirt's guests and takes them back, from libvirtd's hook.

One event, one process, one way through::

    argv ─► Event ─► anything to do? ─no─► exit 0
                          │yes
    stdin ─► Domain ─► lock ─► Host (what /sys says now) ─► Plan ─► [dry run: print it] ─► apply ─► audit, log ─► exit

run.py tells the story of one event. docs/handlers.md has the map of the folders. Imports point one way. The package
itself imports nothing: somebody who starts a guest waits for each import.
"""

__version__ = "0.1.0"

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hands PCI devices to libvirt's guests and takes them back, from libvirtd's hook.

One event, one process, one way through::

    argv ─► Event ─► anything to do? ─no─► exit 0
                          │yes
    stdin ─► Domain ─► lock ─► Host (what /sys says now) ─► Plan ─► [dry run: print it] ─► apply ─► audit, log ─► exit

    event, domain, domxml, config, host, held    what is known, parsed into types
    plan, record                                 what is to be done, and the text of audit records, as data
    handlers/, registry, recovery                the policy: pure functions from a situation to actions
    effects/                                     the only folder that touches the machine
    session, life, giveback, run                 the story of one event
    hotplug/, history/                           devices that come and go later, and the trail read back: not the hook's
    cli                                          arguments, output, and the only sys.exit

Imports point one way, from the last to the first. The package itself imports nothing: an event is paid by someone
who waits for a guest.
"""

__version__ = "0.1.0"

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which interfaces are part of another one or on it, and so have their MTU set with that one's.

The kernel has links to them in an interface's folder (__netdev_adjacent_dev_insert() in net/core/dev.c). They are
looked at in a child (look/samefile.py, kinds/lasting.py). A bridge's ports may be thousands, and keep their own MTU.
"""

from __future__ import annotations

import os

from libhook.facts.knob import ipv6_mtu
from libhook.light import TYPE_CHECKING
from libhook.look import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator


def masters(folder: str) -> list[str]:
    """The folders of the bridges and bonds that it is part of, from the nearest up."""
    found = list[str]()
    while (folder := _master(folder)) and folder not in found:
        found.append(folder)
    return found


def below(folder: str) -> str:
    """The folder of the interface that it is on, as a VLAN is; "" for none."""
    return next((lower for lower in _lower(folder) if _master(lower) != folder), "")


def set_along(root: str, folder: str, wanted: str) -> Iterator[str]:
    """The files that an interface's new MTU sets, too, and that do not come back with the old one.

    IPv6 and a bond's members get the same MTU (addrconf_notify(), bond_change_mtu()). A VLAN or macvlan on it with a
    higher MTU than that is lowered (vlan_device_event(), macvlan_device_event()). A bridge adapts, and comes back
    (br_mtu_auto_adjust()).
    """
    now, folder = attributes.text(f"{folder}/mtu"), os.path.realpath(folder)
    members = (f"{lower}/mtu" for lower in _lower(folder) if _master(lower) == folder)
    for one in (f"{root}{ipv6_mtu(f'{folder}/mtu')}", *members):
        if attributes.text(one) not in ("", now):
            yield one
    upper = (f"{one}/mtu" for one in _linked(folder, "upper_") if one != _master(folder))
    yield from (one for one in upper if int(wanted) < int(attributes.text(one) or 0))


def _master(folder: str) -> str:
    return os.path.realpath(f"{folder}/master") if os.path.lexists(f"{folder}/master") else ""


def _lower(folder: str) -> Iterator[str]:
    return _linked(folder, "lower_") if not os.path.isdir(f"{folder}/brif") else iter(())


def _linked(folder: str, kind: str) -> Iterator[str]:
    return (os.path.realpath(f"{folder}/{name}") for name in attributes.entries(folder) if name.startswith(kind))

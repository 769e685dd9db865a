# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests of which each asks for something of its own: a device that is taken along, an old script.

The guests are named by letters, as they are where they begin and end in every order.
"""

from collections.abc import Collection, Iterator, Mapping

from cases import DISK, GPU, NIC, SOUND
from modules_out import OTHER, THIRD, WIN11
from old_scripts import LIFE, PATH
from scenario import Host, guest

from libhook.facts.legacy import units
from libhook.simulation import commands
from libhook.simulation.guests import Guest

GUESTS = {"a": WIN11, "b": OTHER, "c": THIRD}

ALONG = {"a": SOUND, "b": NIC, "c": DISK}
"""What is taken along for each, as the rest of a card, and where the XML names no device."""
WITH_ALONG = {"a": guest(GPU), "b": OTHER._replace(devices=()), "c": THIRD._replace(devices=())}
TAKE_ALONG = "".join(f'[domains.{GUESTS[at].name}]\ntake_along = ["{ALONG[at]}"]\n' for at in GUESTS)

LEGACY = f'legacy.path = "{PATH}"\n'


def equip(host: Host, *, script: bool) -> None:
    """Put the old script on the host."""
    if script:
        commands.add(host.root, PATH, seconds=0.01)


def without_devices(host: Host, living: Mapping[str, Guest], along: Mapping[str, str]) -> Iterator[str]:
    """The devices that one of these guests runs without."""
    for at, one in living.items():
        own = (*(device.address for device in one.devices), *filter(None, [along.get(at)]))
        yield from (
            f"{one.name} runs, and {address} is on {on}"
            for address in own
            if (on := host.driver(address)) != "vfio-pci"
        )


def miscalled(host: Host, guests: Collection[Guest], killed: str) -> Iterator[str]:
    """The guests whose old script was not called as docs/old-scripts.md promises. ``killed``: whose hook was.

    Where the hook is killed, whoever undoes what it has journalled does not know whether the script has begun. So there
    may be a ``release`` alone, or two. But ``prepare`` is there once, and the last is always ``release``.
    """
    for one in guests:
        own = [it["argv"][2] for it in commands.ran(host.root) if it["unit"].startswith(units(one.uuid)[:-1])]
        calls = [operation for operation in own if operation != "reconnect"]
        if one.name != killed and calls not in ([], [call.split()[0] for call in LIFE]):
            yield f"{one.name} had a whole life, and its script {own}"
        if calls.count("prepare") > 1 or (calls and calls[-1] != "release"):
            yield f"the script of {one.name} was called at {own}"

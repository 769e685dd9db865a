# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests of which each asks for something of its own: a device that is taken along, an old script, an end of others.

The guests are named by letters, as they are where they begin and end in every order.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import holding
from cases import DISK, GPU, NIC, SOUND
from modules_out import OTHER, THIRD, WIN11
from old_scripts import LIFE, PATH
from scenario import Host, guest, journal_text

from libhook.facts.legacy import units
from libhook.simulation import commands, logind
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.world import VGA, Device

GUESTS = {"a": WIN11, "b": OTHER, "c": THIRD}

ALONG = {"a": SOUND, "b": NIC, "c": DISK}
"""What is taken along for each, as the rest of a card, and where the XML names no device."""
WITH_ALONG = {"a": guest(GPU), "b": OTHER._replace(devices=()), "c": THIRD._replace(devices=())}
TAKE_ALONG = "".join(f'[domains.{GUESTS[at].name}]\ntake_along = ["{ALONG[at]}"]\n' for at in GUESTS)

LEGACY = f'legacy.path = "{PATH}"\n'

SECOND = Device("0000:07:00.0", "amdgpu", 16, VGA, "1002:73bf", children=(("drm", "card1"),))
WITH_ENDED = {**GUESTS, "b": OTHER._replace(devices=(Assigned(SECOND.address),))}
END = "".join(f'[domains.{one.name}]\nend = ["sessions", "{holding.SUNSHINE}"]\n' for one in GUESTS.values())
_PROGRAMS = {"a": (810, holding.CARD), "b": (811, "/dev/dri/card1"), "c": (812, "/dev/nvme0n1")}
_ENDED = {"a": {holding.KWIN, holding.PLASMA, 810}, "b": {811}, "c": {812}}
_SPARED = {1, holding.LOGIND, holding.OTHER}
_INNOCENT = "3"


def equip(host: Host, *, script: bool, ended: bool) -> None:
    """Put the old script on the host; and what has the devices open, beside a session and a program that have not."""
    if script:
        commands.add(host.root, PATH, seconds=0.01)
    if not ended:
        return
    holding.desktop(host.root)
    for pid, path in _PROGRAMS.values():
        holding.stream(host.root, pid, opened=path)
    holding.stream(host.root, holding.OTHER, opened="")
    logind.begin(host.root, _INNOCENT)


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


def journalled(host: Host) -> Iterator[str]:
    """The guests with an entry that has something of what was ended."""
    for uuid in host.state.uuids():
        if "holder" in [action["kind"] for action in journal_text(host, uuid)["actions"]]:
            yield f"what was ended for {uuid} is journalled"


def ended_wrongly(host: Host, begun: Collection[str], served: Collection[str]) -> Iterator[str]:
    """Those that live though the guest runs, or has run, for which they are ended; or do not, and were in no way."""
    lives = {pid for pid in set().union(_SPARED, *_ENDED.values()) if Path(host.root, f"proc/{pid}").exists()}
    yield from (f"{_ENDED[at] & lives} live in spite of {at}" for at in served if _ENDED[at] & lives)
    spared = _SPARED.union(*(pids for at, pids in _ENDED.items() if at not in begun))
    if gone := spared - lives:
        yield f"{gone} were in nobody's way, and are gone"
    if strange := {pid for pid, _ in holding.signals(host)} - {pid for pid, _ in _PROGRAMS.values()}:
        yield f"{strange} have had a signal"
    if not logind.is_there(host.root, _INNOCENT):
        yield "a session that has nothing open is ended"

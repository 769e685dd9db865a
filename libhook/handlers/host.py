# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest's settings ask for on the host. Each kind of action reads its own keys."""

from __future__ import annotations

from libhook.facts.config import Config
from libhook.facts.plan import Verdict, Warn
from libhook.facts.situation import Situation
from libhook.kinds.registry import in_entry, in_settings, left_out
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def wanted(situation: Situation) -> Iterator[Verdict]:
    """The actions that the settings ask for, of all kinds. They last as long as the guest lives.

    At hot-plug these are the settings of the sections for the device that is plugged in, and last as long as that.
    """
    for kind in in_settings(situation.config, situation.event.operation.name):
        yield from kind.wanted(situation)
    if situation.event.operation.name == "attach" and (note := not_at_hotplug(situation.config)):
        yield Warn(note)


def again(situation: Situation) -> Iterator[Verdict]:
    """What is done once more for a new libvirtd. The guest's entry says that, whatever the settings say by now."""
    if situation.held:
        for kind in in_entry(situation.held, situation.event.operation.name):
            yield from kind.wanted(situation)


def not_at_hotplug(config: Config) -> str:
    """What the settings for a device ask for that is not done when it is plugged in, as a line; "" if nothing."""
    if not (keys := left_out(config, "attach")):
        return ""
    return f"the settings for the device ask for {', '.join(keys)}: that is done when a guest starts, not at hot-plug"

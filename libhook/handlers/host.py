# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest's settings ask for on the host. Each kind of action reads its own keys."""

from __future__ import annotations

from libhook.facts.plan import Verdict
from libhook.facts.situation import Situation
from libhook.kinds.registry import in_settings
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def wanted(situation: Situation) -> Iterator[Verdict]:
    """The actions that the settings ask for, of all kinds. They last as long as the guest lives."""
    for kind in in_settings(situation.config, situation.event.operation.name):
        yield from kind.wanted(situation)

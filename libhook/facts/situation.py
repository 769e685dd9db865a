# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler is given, and the type of a handler: a pure function from a situation to verdicts."""

from __future__ import annotations

from libhook.facts.config import Config
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.event import Event
from libhook.facts.host import Host, Trail
from libhook.facts.plan import Verdict
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Situation(NamedTuple):
    """Everything that a handler may consider. A handler reads nothing else, and writes nothing."""

    event: Event
    domain: Domain
    host: Host
    held: Held | None
    """The guest's journal entry, from earlier events."""
    config: Config
    trail: Trail | None = None
    """What the kernel says about the audit trail. Set only where the configuration requires the trail; None there means
    that the kernel gave no answer."""


if TYPE_CHECKING:
    Handler = Callable[[Situation], Iterable[Verdict]]

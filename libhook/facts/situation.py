# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler is given, and what it is: a pure function from a situation to actions."""

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
    """Everything that may be considered. A handler reads nothing else, and writes nothing."""

    event: Event
    domain: Domain
    host: Host
    held: Held | None
    """What libhook holds for this guest, from earlier events."""
    config: Config
    trail: Trail | None = None
    """Asked for only where the configuration requires the audit trail; None then: the kernel gave no answer."""


if TYPE_CHECKING:
    Handler = Callable[[Situation], Iterable[Verdict]]

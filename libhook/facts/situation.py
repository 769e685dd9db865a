# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler is given, and the type of a handler: a pure function from a situation to verdicts."""

from __future__ import annotations

from libhook.facts.config import Config
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.event import Event
from libhook.facts.host import Host, Trail
from libhook.facts.plan import Verdict
from libhook.light import TYPE_CHECKING, MappingProxyType, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from libhook.facts.identity import Changed


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
    looked: Mapping[str, Any] = MappingProxyType({})
    """What kinds of action have seen on the host, by the kind's name. Only where actions are taken."""
    changed: Sequence[Changed] = ()
    """The guest's addresses that hold another device than at its last start. Only at ``prepare``."""

    @property
    def waits_for_process(self) -> bool:
        """Whether the start could go on as soon as a process closes a device."""
        host = self.host  # a guest that uses something below a device does not let go so soon
        uses = (use for address, found in host.uses.items() if not host.tenants.get(address) for use in found)
        return any(use.kind in ("open", "display") and self.config.strictness(use.kind) == "refuse" for use in uses)


if TYPE_CHECKING:
    Handler = Callable[[Situation], Iterable[Verdict]]

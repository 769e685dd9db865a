# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the times when the trail was silent: auditd did not run, or auditing was off. Pure."""

from collections.abc import Callable

from libhook.history.entry import Silence
from libhook.history.records import TrailRecord


class Silences:
    """Follows the trail of each node, and gives each silence once it is over."""

    def __init__(self, give: Callable[[Silence], None]) -> None:
        self._give = give
        self.open: dict[str | None, Silence] = {}

    def happened(self, record: TrailRecord) -> None:
        """Take a record of what happened to the trail."""
        node, time = record.node, record.time
        if record.happening == "audit off":
            if record.after is not None:
                self._give(Silence(node, time, record.after, "audit was off"))
            else:
                self.open.setdefault(node, Silence(node, time, None, "audit was off"))
        elif record.happening == "daemon end":
            self.open.setdefault(node, Silence(node, time, None, "auditd did not run"))
        elif node in self.open:  # the silence is over, even if the clock was set back meanwhile
            self._give(self.open.pop(node)._replace(end=time))
        elif record.happening == "daemon start" and record.before is not None and record.before < time:
            self._give(Silence(node, record.before, time, "auditd ended without a record of it"))

    def heard(self, node: str | None, time: int) -> None:
        """Take the time of a node's record. If it is younger than the node's silence, the silence is over."""
        silence = self.open.get(node)
        if silence is not None and time > silence.start:
            del self.open[node]
            self._give(silence._replace(end=time))

    def close(self) -> None:
        """End the trail, and give the silences that are still open."""
        for silence in self.open.values():
            self._give(silence)
        self.open.clear()

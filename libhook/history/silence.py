# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the trail itself was silent: no auditd, or audit switched off. Pure."""

from collections.abc import Callable

from libhook.history.entry import Silence
from libhook.history.records import TrailRecord


class Silences:
    """Follows the trail of each node, and says of each silence once it is over."""

    def __init__(self, give: Callable[[Silence], None]) -> None:
        self._give = give
        self.open: dict[str | None, Silence] = {}

    def happened(self, record: TrailRecord) -> None:
        """Something happened to the trail."""
        node, time = record.node, record.time
        if record.happening == "audit off":
            if record.after is not None:
                self._give(Silence(node, time, record.after, "audit was off"))
            else:
                self.open.setdefault(node, Silence(node, time, None, "audit was off"))
        elif record.happening == "daemon end":
            self.open.setdefault(node, Silence(node, time, None, "auditd did not run"))
        elif node in self.open:  # it is over, whatever the clock says: that may have been set back meanwhile
            self._give(self.open.pop(node)._replace(end=time))
        elif record.happening == "daemon start" and record.before is not None and record.before < time:
            self._give(Silence(node, record.before, time, "auditd ended without a word"))

    def heard(self, node: str | None, time: int) -> None:
        """A record of a node that is younger: whatever kept it silent is over."""
        silence = self.open.get(node)
        if silence is not None and time > silence.start:
            del self.open[node]
            self._give(silence._replace(end=time))

    def close(self) -> None:
        """The trail ends here."""
        for silence in self.open.values():
            self._give(silence)
        self.open.clear()

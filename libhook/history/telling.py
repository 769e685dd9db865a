# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shows what becomes of an entry as a line: JSON for programs, words for people. Pure."""

import json
from typing import Protocol

from libhook.errors import harmless, named, printable
from libhook.history.colour import Paint, sense
from libhook.history.entry import Entry
from libhook.history.events import Event
from libhook.history.names import NameOf
from libhook.history.shown import Json, clock, name, remark, what

_GAP = "  "
_WIDEST = len("withdrawn")


class Telling(Protocol):
    """A way to show events."""

    def look(self, entry: Entry) -> str:
        """Return what can be seen of an entry. What changes nothing of that is not told."""

    def line(self, event: Event) -> str:
        """Return a line, without its end."""


class AsJson:
    """The object that ``--json`` prints of the entry, with the event before it. The keys are a promised interface."""

    def __init__(self, name_of: NameOf) -> None:
        self.look = Json(name_of)

    def line(self, event: Event) -> str:
        """Return an object. ``id`` is of the line."""
        head = {"event": event.kind, "id": f"{event.name}/{event.number}"}
        return f"{json.dumps(head)[:-1]}, {self.look(event.entry)[1:]}"


class AsText:
    """When, what, which device, its name, which guest, and who recorded it."""

    def __init__(self, name_of: NameOf, paint: Paint) -> None:
        self._name_of, self._paint = name_of, paint
        self._time = clock("%Y-%m-%d %H:%M:", " %z")

    def look(self, entry: Entry) -> str:
        """Return all but the time."""
        said = what(entry)
        parts = [
            f"{named(entry.node)}:" if entry.node else "",
            harmless(f"{entry.bus} {entry.device}"),
            harmless(name(entry, self._name_of)),
            named(entry.vm),
        ]
        shown = [printable(part) for part in parts if part]
        shown.append(self._paint(sense(said), said))
        shown.append(printable(harmless(f"by {', '.join(entry.recorded_by)}")))
        return _GAP.join([*shown, self._paint("odd", remark(entry))]).rstrip()

    def line(self, event: Event) -> str:
        """Return a line in local time, with its offset from UTC: a line may be read elsewhere, or much later."""
        kind = event.kind.ljust(_WIDEST)
        shown = self._paint("odd", kind) if event.kind in ("changed", "withdrawn") else kind
        return _GAP.join([self._time(event.time), shown, self.look(event.entry)])

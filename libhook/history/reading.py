# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the whole trail once, for whoever shows it, and says what could not be read."""

import sys
import time
from collections.abc import Callable, Sequence

from libhook.errors import named, printable
from libhook.history import reader
from libhook.history.aside import Counting
from libhook.history.entry import Entry, Host, Silence
from libhook.history.numbers import Numbers
from libhook.history.overlap import Overlap
from libhook.history.pairing import Pairing
from libhook.history.records import Parser
from libhook.history.remembered import Remembered
from libhook.history.wanted import Selection

_MOST_NAMED = 3


class Reading:
    """A trail, and what is said of it once it has been read."""

    def __init__(
        self, sources: Sequence[reader.Source], selection: Selection, remembered: Remembered | None = None
    ) -> None:
        """``remembered`` adds to entries what no record says."""
        self.read = reader.Read()
        """What counts the bytes."""
        self.hosts: dict[str | None, tuple[int, int]] = {}
        """From when to when the log of each host goes, once it was read."""
        self._seen: dict[str | None, tuple[int, int]] = {}
        """The same while it is read, of what guests had: where a clock was set back, the last line is not the youngest.
        """
        self._excerpts: set[str | None] = set()
        """The hosts that have a log which is an excerpt."""
        self.complaints: list[str] = []
        """What is missing from what is shown, as it was said on stderr."""
        self._sources, self._selection, self._remembered = sources, selection, remembered

    def complain(self, text: str) -> None:
        """Say on stderr what the reader should know, and keep it."""
        self.complaints.append(text)
        sys.stderr.write(f"{printable(text)}\n")

    def run(
        self,
        add: Callable[[Entry], None],
        silent: Callable[[Silence], None] = lambda _: None,
        holds: Callable[[Entry], None] | None = None,
    ) -> None:
        """Read all, and give each selected entry, and each time without a trail. LibhookError without any record.

        ``holds`` gets every entry of a device that is still held, selected or not.
        """
        wanted, has = self._selection.wanted, self._selection.has
        everything, complete = wanted.everything, self._remembered.complete if self._remembered else None

        seen = self._seen

        def give(entry: Entry) -> None:
            node, start, end = entry.node, entry.start, entry.end
            first, last = end if start is None else start, start if end is None else end
            if first is not None and last is not None:  # one of the two is known
                before = seen.get(node) or (first, last)
                if first <= before[0] or last >= before[1]:
                    seen[node] = min(first, before[0]), max(last, before[1])
            entry = complete(entry) if complete else entry
            if everything or has(entry):
                add(entry)
            if holds and end is None:
                holds(entry)

        def give_silence(silence: Silence) -> None:
            if wanted.has_silence(silence):
                silent(silence)

        parser, pairing, overlap = Parser(), Pairing(give, give_silence), Overlap()
        sources, read = self._sources, self.read
        progress = Progress(sum(source.size for source in sources))
        begins = [*(source.begins for source in sources[1:]), 1 << 60]
        with Counting(sources) as counting:
            for source, following in zip(sources, begins, strict=True):
                overlap.log(following)
                counting.log(source)
                for piece in reader.pieces(source, read, progress.show):
                    told = parser.records(piece)
                    pairing.add(overlap.new(told) if len(sources) > 1 else told)
                    counting.take(piece)
            self._counted(counting.found(), give_silence)
        pairing.close()
        progress.clear()
        if not read.covered:
            raise reader.no_record(self._selection.files, b"")
        times = [read.covered, *seen.values()]
        self._selection.covered = min(first for first, _ in times), max(last for _, last in times)
        self._selection.hosts = self.hosts
        if overlap.twice and overlap.full:
            self.complain("the logs overlap too much: some records may be shown twice")
        if bad := parser.unreadable + read.too_long:
            why = "cut off, or not as auditd writes them (from ausearch, use --raw)"
            self.complain(f"{'1 record' if bad == 1 else f'{bad} records'} could not be read: {why}")

    def _counted(self, numbers: Numbers | None, silent: Callable[[Silence], None]) -> None:
        """Take what was found of the events' numbers, and give each gap."""
        if numbers is None:
            self.complain("whether events are missing is not known: the process that counts them was killed, or failed")
            return
        for node, times in numbers.times().items():
            before = self._seen.get(node, times)
            self._seen[node] = min(before[0], times[0]), max(before[1], times[1])
        self.hosts = self._seen
        for node, gap in numbers.gone():
            if gap.first < 0:
                why = "the events' numbers begin anew without a record of auditd's start"
                silent(Silence(node, gap.after, gap.before, why))
                continue
            which = f"{gap.number} events are" if gap.number > 1 else "1 event is"
            last = f" to {gap.last}" if gap.number > 1 else ""
            why = f"{which} missing, number {gap.first}{last}"
            silent(Silence(node, gap.after, gap.before, why, (gap.first, gap.last)))
        nodes, excerpts = self._selection.wanted.nodes, []
        for log in numbers.logs:
            chosen = {node for node, host in log.hosts.items() if host.is_excerpt}
            self._excerpts |= chosen
            if chosen if not nodes else chosen & nodes:
                excerpts.append(log.name)
        if excerpts:
            more = f" and {len(excerpts) - _MOST_NAMED} more" if len(excerpts) > _MOST_NAMED else ""
            names = ", ".join(map(named, excerpts[:_MOST_NAMED])) + more
            self.complain(f"{names}: an excerpt, by the events' numbers; what else is missing in it cannot be told")

    def trails(self) -> list[Host]:
        """What is known of the trail of each host that is asked for."""
        nodes = self._selection.wanted.nodes
        return [
            Host(node, "excerpt" if node in self._excerpts else "log", *times)
            if node in self.hosts
            else Host(node, "unknown", None, None)
            for node, times in sorted(self._seen.items(), key=lambda one: one[0] or "")
            if not nodes or node in nodes
        ]

    def until(self, entry: Entry) -> int | None:
        """When the log of its host ends, if the entry has no end."""
        return self.hosts[entry.node][1] if entry.end is None and entry.node in self.hosts else None


class Progress:
    """A progress bar. It appears after a second, and only on a terminal."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = time.monotonic() + 1 if sys.stderr.isatty() else float("inf")
        self._shown = False

    def show(self, done: int) -> None:
        """Show that so many bytes have been read."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next, self._shown = now + 0.1, True
        if self._size:
            part = min(done / self._size, 1)
            bar = "#" * round(part * 30)
            sys.stderr.write(f"\rreading the trail [{bar:<30}] {part:4.0%}")
        else:
            sys.stderr.write(f"\rreading the trail: {done >> 20} MiB")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the bar."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

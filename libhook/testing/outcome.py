# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one event did on a simulated host."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from libhook.facts.entry import Held


class Command(NamedTuple):
    """A command that was run."""

    argv: tuple[str, ...]
    user: str
    """"" stands for root."""
    environment: Mapping[str, str]
    stdin: str


class Outcome(NamedTuple):
    """All that one event did. Each field has what this event added; ``after`` is the host as it is then."""

    operation: str
    code: int
    """The exit code of the hook. libvirt does not start the guest if it is not 0."""
    stderr: tuple[str, ...]
    """The lines that libvirt shows to the user of virsh. In a dry run, the plan."""
    stdout: str
    log: tuple[dict[str, Any], ...]
    """The entries of the system's log. Each has an ``event``."""
    writes: tuple[tuple[str, str], ...]
    """Path and value of every write of libhook's that reached the kernel: ``bus/pci/…`` below /sys, or a whole path."""
    asked: tuple[str, ...]
    """The handlers by others that were asked, in their order."""
    commands: tuple[Command, ...]
    systemd: tuple[str, ...]
    """What systemd was told to change: ``stop cups.service``."""
    records: tuple[str, ...]
    """Text and result of every audit record, as ``libhook plan`` prints it."""
    changed: tuple[str, ...]
    """What is different about the devices: a line for each."""
    after: Mapping[str, str]
    """The host after the event: drivers, nodes, consoles, values, units, modules and mounts, by name."""
    journal: dict[str, Held]
    """What is held for guests afterwards, by their UUIDs."""

    @property
    def plan(self) -> tuple[str, ...]:
        """The plan's lines, of a dry run or before they were carried out."""
        return tuple(entry["line"] for entry in self.log if entry["event"] in ("plan", "dry run"))

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the guest may not start: the lines on stderr where the hook failed."""
        return self.stderr if self.code else ()

    @property
    def errors(self) -> tuple[dict[str, Any], ...]:
        """The log's entries that say that something failed."""
        return tuple(entry for entry in self.log if entry.get("level") == "error")

    def __repr__(self) -> str:
        """In one line: what was called, and how that ended."""
        return f"Outcome({self.operation}: {self.code}{''.join(f', {line!r}' for line in self.stderr)})"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's entries of this name."""
        return [entry for entry in self.log if entry["event"] == event]

    @property
    def line(self) -> str:
        """The one line on stderr. AssertionError where there is another number of lines."""
        assert len(self.stderr) == 1, f"{self.operation} says {len(self.stderr)} lines: {self.stderr}"
        assert self.stderr[0].isprintable()
        return self.stderr[0]

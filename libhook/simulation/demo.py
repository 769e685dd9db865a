# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook demo``: plays one guest's life on a simulated host, through the real launcher. Then it plays a refusal.

``python3 -m libhook.simulation`` uses Page and Demo, too.
"""

import os
import shutil
import subprocess
import textwrap
import time
from collections.abc import Sequence
from typing import Any, TextIO

from libhook.effects import locks
from libhook.errors import in_quotes, printable
from libhook.kinds.value import chosen, clearing
from libhook.simulation import hosts, store
from libhook.simulation.build import build, scratch
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.libvirt import Libvirt
from libhook.simulation.snapshot import differences, snapshot

_NIC, _GPU, _SOUND = "0000:01:00.0", "0000:03:00.0", "0000:03:00.1"
_WHAT = {_NIC: "network card", _GPU: "graphics card", _SOUND: "its audio function"}
_GUEST = Guest("win11", (Assigned(_NIC), Assigned(_GPU, managed=True), Assigned(_SOUND, managed=True)))
_HALF = Guest("half", (Assigned(_GPU),), "1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e")
_REMOVE = 0.1
_PATIENCE = 30.0
"""Seconds to wait for work that goes on after the hook has answered."""
_WIDTH, _MARGIN = 79, 9
_BOLD, _DIM, _GREEN, _RED = "1", "2", "32", "31"


def play_demo(launcher: str, out: TextIO) -> str:
    """Show the demo on ``out``. Return what went wrong, or "".

    It went well if the first guest had its devices and left the host as it was, and the second guest was refused.
    """
    page = Page(out)
    if not os.access(launcher, os.X_OK):
        return page.fail(f"{launcher} is not there, or cannot be executed")
    root = scratch()
    try:
        return _play(Demo(root, launcher, page))
    finally:
        shutil.rmtree(root)


def _play(demo: "Demo") -> str:
    build(demo.root, hosts.workstation(_REMOVE))
    page, before = demo.page, snapshot(demo.root)
    page.title("One guest's life on a simulated host; nothing of this machine is touched.")
    for address, what in _WHAT.items():
        group = os.path.basename(os.readlink(f"{demo.root}/sys/bus/pci/devices/{address}/iommu_group"))
        driver = before[f"{address} driver"]
        page.show("host", f"{address}  {what:<18}  IOMMU group {group}  on {driver}")
    page.show("guest", f"\"{_GUEST.name}\" gets all three. managed='no' for the first: libhook binds it.")
    page.show("guest", "managed='yes' for the others: libvirt binds them, and libhook checks.")
    daemon = Libvirt(demo.root, demo.hook, demo.hear)
    begun = daemon.start(_GUEST)
    if begun.error:
        return page.fail(begun.error)
    daemon.stop(_GUEST.name, "shutdown")
    same = demo.prove(before)
    page.title("A guest that gets half of a group.")
    page.show("guest", f'"{_HALF.name}" gets the graphics card without its audio function.')
    refusal = daemon.start(_HALF)
    refused = [call for call in refusal.calls if call.status]
    good = demo.prove(before) and same and [call.operation for call in refused] == ["prepare"]
    return "" if good else page.fail("libhook did not do what it should have done")


class Page:
    """Prints wrapped lines with a label before them, in colour on a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and not os.environ.get("NO_COLOR")
        self._label = ""

    def title(self, text: str) -> None:
        """Print the title of the next section."""
        self._out.write(f"\n{self._paint(printable(text), _BOLD)}\n")
        self._label = ""

    def show(self, label: str, text: str, style: str = "") -> None:
        """Print a text with its label. A label that is the same as the one above is left out."""
        shown = "" if label == self._label else label
        self._label = label
        deeper = " " * (_MARGIN + 2)
        wrapped = textwrap.wrap(
            printable(text), _WIDTH, initial_indent=" " * _MARGIN, subsequent_indent=deeper, break_on_hyphens=False
        )
        for at, line in enumerate(wrapped):
            margin = f"{shown if at == 0 else '':<{_MARGIN}}"
            self._out.write(f"{self._paint(margin, _DIM)}{self._paint(line[_MARGIN:], style)}\n")
        self._out.flush()

    def fail(self, reason: str) -> str:
        """Print what went wrong, and return it."""
        self.show("error", reason, _RED)
        return reason

    def _paint(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self._colour and style and text.strip() else text


class Demo:
    """Runs the hook for the simulated libvirtd, and shows what the hook and libvirtd do."""

    def __init__(self, root: str, launcher: str, page: Page) -> None:
        self.root = root
        self.page = page
        self._launcher = launcher
        self._surprises = 0
        self._values: dict[str, str] = {}

    def hook(self, name: str, operation: str, sub: str, extra: str, xml: bytes) -> tuple[int, str]:
        """Ask the hook for its plan, then let it act, and show both. Return its exit code and stderr."""
        arguments = [self._launcher, name, operation, sub, extra]
        planned = self._run(arguments, xml, LIBHOOK_DRY_RUN="1").stderr.decode(errors="replace").splitlines()
        self._remember(planned)
        modules, writes, records = self._modules(), self._logged("writes"), self._logged("audit")
        done = self._run(arguments, xml)
        self._wait_for_the_rest()
        said = done.stderr.decode(errors="replace").strip()
        self._show_plan(planned)
        for module in self._modules() - modules:
            self.page.show("did", f"load {module}")
        self._show_writes(self._logged("writes")[len(writes) :], planned)
        self._show_records(self._logged("audit")[len(records) :])
        if done.returncode:
            self.page.show("refused", said, _RED)
        elif not planned:
            self.page.show("passed", "nothing to change")
        return done.returncode, said

    def hear(self, line: str) -> None:
        """Show what libvirt or QEMU does. A call of the hook begins a section."""
        who, _, what = line.partition(" ")
        if who == "hook":
            self.page.title(f"hooks/qemu {what}")
        else:
            self.page.show(who, what)

    def prove(self, before: dict[str, str]) -> bool:
        """Show and return whether the host is as before, and only planned writes were made."""
        changes = differences(before, snapshot(self.root))
        changes += differences(self._values, {path: self._value(path) for path in self._values})
        self.page.title("The host is not as before." if changes else "The host is as before.")
        for change in changes:
            self.page.show("changed", change, _RED)
        if not changes:
            values = "values, " if self._values else ""
            number = len(before) + len(self._values)
            text = f"{number} {values}drivers, overrides, nodes and interfaces compared, none differs;"
            self.page.show("proof", text, _GREEN)
        if not self._surprises:
            values = ", and to a value what it was" if self._values else ""
            self.page.show("proof", f"what was written is what the dry run printed{values}", _GREEN)
        return not changes and not self._surprises

    def _run(self, arguments: Sequence[str], xml: bytes, **more: str) -> "subprocess.CompletedProcess[bytes]":
        """Run the hook as libvirtd does, but with LIBHOOK_ROOT."""
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "LIBHOOK_ROOT": self.root}
        return subprocess.run(arguments, input=xml, capture_output=True, env=environment | more, check=False)

    def _wait_for_the_rest(self) -> None:
        """Wait for a process that still has a lock after the answer, as at ``started``."""
        folder, until = f"{self.root}/run/libhook/locks", time.monotonic() + _PATIENCE
        while os.path.isdir(folder) and time.monotonic() < until:
            if not any(locks.is_locked(f"{folder}/{name}") for name in os.listdir(folder)):
                break
            time.sleep(0.01)

    def _logged(self, log: str) -> list[dict[str, Any]]:
        return store.lines(f"{self.root}/var/log/{log}.jsonl")

    def _modules(self) -> set[str]:
        return set(os.listdir(f"{self.root}/sys/module"))

    def _show_plan(self, planned: Sequence[str]) -> None:
        """Show the plan without its writes and records. Those are shown when they have happened."""
        for line in planned:
            if not line.startswith((" ", "record ", "refuse: ")):
                self.page.show("plan", line)

    def _show_writes(self, writes: Sequence[dict[str, Any]], planned: Sequence[str]) -> None:
        for write in writes:
            value = write["value"].replace("\n", "\\n")
            path = write["path"] if write["path"].startswith("/") else f"/sys/{write['path']}"
            line = f'write "{value}" to {path}'
            planned_too = f"  {line}" in planned or self._is_of_value(path, write["value"], planned)
            expected = write["answer"] == "ok" and planned_too
            self._surprises += not expected
            self.page.show("did" if expected else write["answer"], line, "" if expected else _RED)
        if writes:
            self.page.show("took", f"{sum(write['seconds'] for write in writes) * 1000:.0f} ms in the kernel", _DIM)

    def _remember(self, planned: Sequence[str]) -> None:
        """What each value that the plan sets is before that."""
        for line in planned:
            verb, path, *_ = [*line.split(), ""]
            if verb == "set" and path.startswith("/"):
                self._values.setdefault(path, self._value(path))

    def _value(self, path: str) -> str:
        return chosen(path, store.read(f"{self.root}{path}").strip())

    def _is_of_value(self, path: str, value: str, planned: Sequence[str]) -> bool:
        """Whether the plan sets the value, or gives it back. What it was is written to it before it is set, too."""
        lines = [line.split() for line in planned if line.startswith(("set ", "give "))]
        if any(
            line.startswith(f"set {path} ") and line.endswith(printable(f"to {in_quotes(value)}")) for line in planned
        ):
            return True
        was = self._values.get(path)
        return was is not None and value == (was or clearing(path)) and any(path in line for line in lines)

    def _show_records(self, records: Sequence[dict[str, Any]]) -> None:
        """Show the first record in full, and of the others only the end, where they differ."""
        for at, record in enumerate(records):
            text = f"... {record['text'][record['text'].index('bus=') :]}" if at else record["text"]
            result, style = ("success", "") if record["success"] else ("failed", _RED)
            self.page.show("record", f"{text} res={result}", style)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host on which events are played through the real code, in this process."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any
from unittest import mock

from libhook import run
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.look.ownhandlers import Code
from libhook.simulation import store
from libhook.simulation.guests import Guest
from libhook.simulation.libvirt import Libvirt
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.world import World
from libhook.story import consult
from libhook.story.session import state_of
from libhook.testing.furnished import Furnished, masked
from libhook.testing.outcome import Command, Outcome

_OVER = ("stopped", "release")
_LOGS = ("libhook", "writes", "audit", "commands", "systemctl")


class Host(Furnished):
    """A simulated host in a folder, its libvirtd and its hook.

    ``root`` is the folder; it is empty, or is not there yet. ``world`` says what the host is like: a workstation, if
    nothing else is said. ``settings`` is the text of config.toml. Impossible unless there can be such a host.
    """

    def __init__(self, root: str | Path, world: World | None = None, settings: str = "") -> None:
        super().__init__(root, world, settings)
        self.state = state_of(self.machine)
        self.patience = 60.0
        """Seconds to wait for what an event leaves behind, its log above all. A second and more must be enough."""
        self.outcomes: list[Outcome] = []
        """Of every event so far."""
        self.libvirt = Libvirt(self.root, self.hook)
        """The libvirtd that ``start`` and ``stop`` use. Its ``restart()`` has guests live on."""
        self._children: set[int] = set()
        self._asked: list[str] = []
        self.beginning = snapshot(self.root)

    def start(self, guest: Guest) -> None:
        """Start a guest as libvirtd does, with a QEMU, and the hook at each step. AssertionError if it does not."""
        error = self.libvirt.start(guest).error
        assert not error, f"{guest.name} does not start: {error}"

    def stop(self, guest: Guest, reason: str = "shutdown") -> None:
        """End a guest that runs: ``shutdown``, ``destroyed``, ``crashed``, ``saved`` or ``migrated``."""
        self.libvirt.stop(guest.name, reason)

    def begin(self, guest: Guest) -> None:
        """The events of a start that succeeds, without a QEMU. AssertionError if one of them fails."""
        for operation in ("prepare", "start", "started"):
            outcome = self.event(guest, operation)
            assert (outcome.code, outcome.stderr) == (0, ())

    def event(
        self, guest: Guest, operation: str, extra: str = "-", *, xml: bytes | None = None, dry_run: bool = False
    ) -> Outcome:
        """One event of the guest's, with the XML that libvirt hands over at that step or another ``xml``."""
        over = operation in _OVER
        document = guest.xml(-1 if over else 1, operation != "prepare") if xml is None else xml
        return self.call((guest.name, operation, "end" if over else "begin", extra), document, dry_run=dry_run)

    def call(self, arguments: tuple[str, ...], document: bytes, *, dry_run: bool = False) -> Outcome:
        """One call of the hook with any arguments."""
        operation = arguments[1] if len(arguments) > 1 else ""
        return self.observed(operation, lambda: self._called(arguments, document, dry_run))

    def observed(self, operation: str, do: Callable[[], tuple[int, str, Iterable[str]]]) -> Outcome:
        """Do it, and return all that it did. It gives an exit code, and what it says on stdout and stderr."""
        before = snapshot(self.root)
        counts = {name: len(self._lines(name)) for name in _LOGS}
        self._asked.clear()
        code, stdout, said = do()
        new = {name: self._lines(name)[count:] for name, count in counts.items()}
        outcome = Outcome(
            operation=operation,
            code=code,
            stderr=tuple(said),
            stdout=stdout,
            log=tuple(new["libhook"]),
            writes=tuple((write["path"], write["value"]) for write in new["writes"] if write["by"] == "libhook"),
            asked=tuple(self._asked),
            commands=tuple(_command(one) for one in new["commands"]),
            systemd=tuple(_changes(new["systemctl"])),
            records=tuple(f"{one['text']} res={'success' if one['success'] else 'failed'}" for one in new["audit"]),
            changed=tuple(differences(before, snapshot(self.root))),
            after=self.whole,
            journal={uuid: held for uuid in sorted(self.state.uuids()) if (held := self._held(uuid))},
        )
        self.outcomes.append(outcome)
        return outcome

    def hook(self, name: str, operation: str, suboperation: str, extra: str, xml: bytes) -> tuple[int, str]:
        """For simulation.libvirt, which plays libvirtd's part."""
        outcome = self.call((name, operation, suboperation, extra), xml)
        return outcome.code, "\n".join(outcome.stderr)

    @property
    def leftovers(self) -> list[str]:
        """The files that libhook keeps, locks included; none when nothing is held.

        But where a device was before, which it remembers for as long as libvirtd lives, and who is served, for the
        launcher.
        """
        folder = Path(self.machine.state)
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
        return [name for name in found if name != "served" and not name.startswith("homes/")]

    def driver(self, address: str) -> str:
        """The driver a device is on, "none" without one."""
        return snapshot(self.root)[f"{address} driver"]

    def _called(self, arguments: tuple[str, ...], document: bytes, dry_run: bool) -> tuple[int, str, Iterable[str]]:
        """Call the hook. Return its exit code, and what it says on stdout and stderr."""
        with self.waiting():
            answer = run.run(self.machine, run.Call(arguments, lambda: document, self.libvirt.pid, dry_run))
        return answer.code, answer.printed.decode(errors="replace"), answer.lines

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note who is asked, and wait in the end for the processes that libhook has begun, and for no others."""
        forked, fork, own, run_ = list[int](), os.fork, get_ident(), consult.run

        def noting() -> int:
            pid = fork()
            if pid and get_ident() == own:  # another thread's are not ours
                forked.append(pid)
            return pid

        def asking(machine: Machine, code: Code, *more: Any) -> dict[str, Any]:  # noqa: ANN401 - as consult.run
            self._asked.append(code.name)
            return run_(machine, code, *more)

        with mock.patch.object(os, "fork", noting), mock.patch.object(consult, "run", asking), masked():
            try:
                yield
            finally:
                self._children |= {*forked}
                self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + self.patience
        while self._children and time.monotonic() < until:
            for pid in list(self._children):
                with suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG)[0] == 0:
                        continue
                self._children.discard(pid)
            time.sleep(0.001)
        if self._children and self.patience >= 1:
            raise TimeoutError(
                f"left behind, and at work after {self.patience:g} s: processes {sorted(self._children)}"
            )

    def _held(self, uuid: str) -> Held | None:
        try:
            return self.state.load(uuid)
        except Exception:  # noqa: BLE001 - a test broke it on purpose
            return None

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return store.lines(f"{self.root}/var/log/{name}.jsonl")


def _command(noted: Mapping[str, Any]) -> Command:
    return Command(tuple(noted["argv"]), noted["user"], noted["environment"], noted["stdin"])


def _changes(calls: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What systemd was told to change. The units of libhook's commands are not the host's."""
    for one in calls:
        names = [name for name in one["names"] if not name.startswith("libhook-")]
        if names and one["verb"] != "show":
            yield " ".join((one["verb"], *names))

# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host on which events are played through the real code, in this process."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from libhook import run
from libhook.command import handlers
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.facts.ownhandler import FOLDER
from libhook.simulation import build, commands, faults, hosts, store, systemd
from libhook.simulation.faults import Fault
from libhook.simulation.guests import Guest
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.libvirt import Libvirt
from libhook.simulation.snapshot import differences, snapshot, whole
from libhook.simulation.world import World
from libhook.story.session import state_of
from libhook.testing.outcome import Command, Outcome

_OVER = ("stopped", "release")
_LOGS = ("libhook", "writes", "audit", "commands", "systemctl")


class Host:
    """A simulated host in a folder, its libvirtd and its hook.

    ``root`` is the folder; it is empty, or is not there yet. ``world`` says what the host is like: a workstation, if
    nothing else is said. ``settings`` is the text of config.toml. Impossible unless there can be such a host.
    """

    def __init__(self, root: str | Path, world: World | None = None, settings: str = "") -> None:
        build.build(str(root), hosts.workstation() if world is None else world)
        self.root = str(root)
        self.machine = Machine(self.root, SimulatedKernel(self.root))
        self.state = state_of(self.machine)
        self.patience = 5.0
        """Seconds to wait for what an event leaves behind, its log above all."""
        self.outcomes: list[Outcome] = []
        """Of every event so far."""
        self.libvirt = Libvirt(self.root, self.hook)
        """Starts and stops guests as libvirtd does, with a QEMU, and calls the hook at each step."""
        self._put: set[str] = set()
        self._children: set[int] = set()
        if settings:
            self.configure(settings)
        self.beginning = snapshot(self.root)

    def configure(self, settings: str, mode: int = 0o644) -> None:
        """Write config.toml."""
        Path(self.machine.config).write_text(settings)
        Path(self.machine.config).chmod(mode)

    def enable(self, handler: str | Path, text: str | None = None) -> str:
        """Put a handler on the host and enable it. Return its name. LibhookError says why it cannot be enabled.

        ``handler`` is the path of its file, or of the folder of a package. With ``text`` it is its name.
        """
        folder = Path(f"{self.root}{FOLDER}")
        folder.mkdir(parents=True, exist_ok=True)
        path = Path(handler)
        if text is not None:
            (folder / f"{path.name}.py").write_text(text)
        elif path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True, ignore=lambda *_: ["__pycache__"])
        else:
            shutil.copyfile(path, folder / path.name)
        handlers.enable(self.machine, path.stem)
        return path.stem

    def put(self, path: str, text: str) -> None:
        """Put a file on the host, as /proc/sys/vm/swappiness or /sys/class/net/br0/mtu."""
        self._put.add(path)
        Path(f"{self.root}{path}").parent.mkdir(parents=True, exist_ok=True)
        Path(f"{self.root}{path}").write_text(f"{text}\n")

    def read(self, path: str) -> str:
        """What is in a file of the host, without the last line feed."""
        return Path(f"{self.root}{path}").read_text().removesuffix("\n")

    def program(self, path: str, **ends: Any) -> None:  # noqa: ANN401 - as simulation.commands
        """Put a program on the host. It does nothing. It takes ``seconds``, and ends with ``status``."""
        commands.add(self.root, path, **ends)

    def unit(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - as simulation.systemd
        """Add a unit of systemd's. It runs, unless ``active`` is "inactive". ``stop`` is how long it takes to stop."""
        systemd.add(self.root, name, **fields)

    def fail(self, *wrong: Fault) -> None:
        """From now on these calls go wrong. Without any, all is well again."""
        faults.inject(self.root, *wrong)

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
        before = snapshot(self.root)
        counts = {name: len(self._lines(name)) for name in _LOGS}
        code, stdout, said = self._called(arguments, document, dry_run)
        new = {name: self._lines(name)[count:] for name, count in counts.items()}
        outcome = Outcome(
            operation=arguments[1] if len(arguments) > 1 else "",
            code=code,
            stderr=tuple(said),
            stdout=stdout,
            log=tuple(new["libhook"]),
            writes=tuple((write["path"], write["value"]) for write in new["writes"] if write["by"] == "libhook"),
            commands=tuple(_command(one) for one in new["commands"]),
            systemd=tuple(_changes(new["systemctl"])),
            records=tuple(f"{one['text']} res={'success' if one['success'] else 'failed'}" for one in new["audit"]),
            changed=tuple(differences(before, snapshot(self.root))),
            after=self.whole,
            journal={uuid: held for uuid in self.state.uuids() if (held := self._held(uuid))},
        )
        self.outcomes.append(outcome)
        return outcome

    def hook(self, name: str, operation: str, suboperation: str, extra: str, xml: bytes) -> tuple[int, str]:
        """For simulation.libvirt, which plays libvirtd's part."""
        outcome = self.call((name, operation, suboperation, extra), xml)
        return outcome.code, "\n".join(outcome.stderr)

    @property
    def whole(self) -> dict[str, str]:
        """The host as it is: drivers, nodes, consoles, values, units, modules and mounts, by name."""
        return whole(self.root, self._put)

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
        """Wait in the end for the processes that were begun in the block, and for no others."""
        before = _children()
        try:
            yield
        finally:
            self._children |= _children() - before
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

    def _held(self, uuid: str) -> Held | None:
        try:
            return self.state.load(uuid)
        except Exception:  # noqa: BLE001 - a test broke it on purpose
            return None

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return store.lines(f"{self.root}/var/log/{name}.jsonl")


def _children() -> set[int]:
    """The children of this process (proc_pid_children(5))."""
    found = set[int]()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def _command(noted: Mapping[str, Any]) -> Command:
    return Command(tuple(noted["argv"]), noted["user"], noted["environment"], noted["stdin"])


def _changes(calls: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What systemd was told to change. The units of libhook's commands are not the host's."""
    for one in calls:
        names = [name for name in one["names"] if not name.startswith("libhook-")]
        if names and one["verb"] != "show":
            yield " ".join((one["verb"], *names))

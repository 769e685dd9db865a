# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host in a folder, and what a test puts on it: settings, handlers, files, programs, units, faults."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libhook.command import handlers
from libhook.errors import LibhookError
from libhook.facts.config import HANDLERS
from libhook.facts.machine import Machine
from libhook.facts.ownhandler import FOLDER
from libhook.simulation import build, commands, faults, hosts, systemd
from libhook.simulation.faults import Fault
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.snapshot import whole
from libhook.simulation.world import World


class Furnished:
    """A simulated host, on which nothing happens. ``Host`` has what happens."""

    def __init__(self, root: str | Path, world: World | None = None, settings: str = "") -> None:
        self.root = os.path.abspath(root)
        if not str(root) or self.root == "/" or os.path.exists(f"{self.root}/simulation"):
            raise ValueError(f"a host needs a folder of its own: {root!r}")
        with masked():
            build.build(self.root, hosts.workstation() if world is None else world)
        self.machine = Machine(self.root, SimulatedKernel(self.root))
        self.faults: tuple[Fault, ...] = ()
        """What goes wrong from now on."""
        self.is_configured = False
        """Whether the settings are the test's own."""
        self._put: set[str] = set()
        if settings:
            self.configure(settings)

    def configure(self, settings: str, mode: int = 0o644) -> None:
        """Write config.toml."""
        self.is_configured = True
        self._write(self.machine.config, settings)
        Path(self.machine.config).chmod(mode)

    def want(self, handlers: Iterable[str]) -> None:
        """Let all guests want these handlers, unless the test has said what the settings are."""
        if not self.is_configured:
            self._write(self.machine.config, "".join(f"[{HANDLERS}.{name}]\n" for name in handlers))

    def enable(self, handler: str | Path, text: str | None = None) -> str:
        """Put a handler on the host and enable it. Return its name. LibhookError says why it cannot be enabled.

        ``handler`` is the path of its file, or of the folder of a package. With ``text`` it is its name.
        """
        return self.enable_all({str(handler): text})[0]

    def enable_all(self, handlers: Mapping[str, str | None]) -> list[str]:
        """The same for several, by path or name, each after those that it needs."""
        folder = Path(f"{self.root}{FOLDER}")
        with masked():
            folder.mkdir(parents=True, exist_ok=True)
            for handler, text in handlers.items():
                _place(Path(handler), text, folder)
            names = [Path(handler).stem for handler in handlers]
            left = list(names)
            while left:
                failed = [(name, why) for name in left if (why := _enable(self.machine, name))]
                if len(failed) == len(left):
                    raise failed[0][1]
                left = [name for name, _ in failed]
        return names

    def put(self, path: str, text: str) -> None:
        """Put a file on the host, such as vm.swappiness or /sys/class/net/br0/mtu.

        A choice has all that it knows, and brackets: ``always [madvise] never``.
        """
        whole_path = self._path(path)
        self._put.add(whole_path.removeprefix(self.root))
        self._write(whole_path, f"{text.rstrip()}\n")

    def read(self, path: str) -> str:
        """What is in a file of the host, without the last line feed. Of a choice, what is chosen."""
        text = Path(self._path(path)).read_text("utf-8").removesuffix("\n")
        chosen = [word[1:-1] for word in text.split() if word[:1] == "[" and word[-1:] == "]"]
        return chosen[0] if len(chosen) == 1 else text

    def _path(self, path: str) -> str:
        own = path if path.startswith("/") else f"/proc/sys/{path.replace('.', '/')}"
        if ".." in path.split("/") or ("/" in path and not path.startswith("/")):
            raise ValueError(f"{path}: name a file of the host by its whole path, or a sysctl such as vm.swappiness")
        return f"{self.root}{own}"

    def _write(self, path: str, text: str) -> None:
        if not os.path.isdir(self.root):
            raise ValueError(f"the host in {self.root} is gone")
        with masked():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text, "utf-8")

    def program(self, path: str, *, status: int = 0, seconds: float = 0.0, stdout: str = "", stderr: str = "") -> None:
        """Put a program on the host. It does nothing, takes so many seconds, says so much, and ends with ``status``."""
        with masked():
            commands.add(self.root, path, status=status, seconds=seconds, stdout=stdout, stderr=stderr)

    def unit(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - as simulation.systemd
        """Add a unit of systemd's. It runs, unless ``active`` is "inactive". ``stop`` is how long it takes to stop."""
        with masked():
            systemd.add(self.root, name, **fields)

    def fail(self, *wrong: Fault) -> None:
        """From now on these calls go wrong. Without any, all is well again. ValueError where one can never happen."""
        faults.inject(self.root, *wrong)
        self.faults = wrong

    @property
    def whole(self) -> dict[str, str]:
        """The host as it is: drivers, nodes, consoles, values, units, modules and mounts, by name."""
        return whole(self.root, self._put)


@contextmanager
def masked() -> Iterator[None]:
    """Files are made as root makes them: whatever the umask of who runs the test, others may not write to them."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _place(path: Path, text: str | None, folder: Path) -> None:
    """Put a handler's files there, instead of those that were there."""
    target = folder / path.name
    if text is not None:
        (folder / f"{path.name}.py").write_text(text, "utf-8")
    elif path.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for file in path.iterdir():
            if file.is_file():
                (target / file.name).write_bytes(file.read_bytes())
    else:
        target.write_bytes(path.read_bytes())


def _enable(machine: Machine, name: str) -> LibhookError | None:
    """Enable a handler. Return why it cannot be, if that is so."""
    try:
        handlers.enable(machine, name)
    except LibhookError as error:
        return error
    return None

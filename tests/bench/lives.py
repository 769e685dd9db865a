# SPDX-License-Identifier: LGPL-2.1-or-later
"""Simulated hosts for the benchmark, and one event of a guest's on them, timed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from timing import Case, Sample, reap, timed

from libhook.simulation import store
from libhook.simulation.build import build, scratch
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import many
from libhook.simulation.world import World

TOP = Path(__file__).resolve().parents[2]
OPERATIONS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach")
SIMULATION = "libhook.simulation.kernel"
NOTES = "var/lib/libhook/devices"
ACTING = ("prepare", "start", "started", "release")
XML_SIZE = 8192
_OVER = ("stopped", "release")
_LET_GO = "bus/pci/drivers/e1000e/unbind"


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder in memory, where the disk's moods do not count, with libhook installed in ``version``."""
    made = Path(scratch())
    try:
        install = [f"{TOP}/install.sh", "--destdir", f"{made}/host", "--prefix", "/usr"]
        subprocess.run(install, stdout=subprocess.DEVNULL, check=True)
        (version,) = (made / "host/usr/lib/libhook/versions").iterdir()
        shutil.copy(TOP / "hooks" / "qemu", version / "hooks")  # the clone's runs what lies beside it
        version.rename(made / "version")
        yield made
    finally:
        shutil.rmtree(made)


def arguments(operation: str) -> tuple[str, ...]:
    """What libvirt calls its hook with."""
    return "win11", operation, "end" if operation in _OVER else "begin", "-"


def padded(xml: bytes) -> bytes:
    """The document with as many more elements of the ordinary kind as make it 8 kB."""
    more, at = b"", 0
    while len(xml) + len(more) < XML_SIZE:
        more += b"    <controller type='pci' index='%d' model='pcie-root-port'/>\n" % (at := at + 1)
    return xml.replace(b"    <memballoon", more + b"    <memballoon")


class Life:
    """A guest with the first ``devices`` cards of a host, which is built anew for each event that is timed."""

    def __init__(self, top: Path, world: World, devices: int) -> None:
        """``top`` is a new folder, in the one that ``folder`` gave."""
        self.version = top.parent / "version"
        self.launcher = self.version / "hooks" / "qemu"
        self._world = world
        self._root, self._kept = top / "root", top / "kept"
        self._guest = Guest(devices=tuple(Assigned(device.address) for device in world.devices[:devices]))
        self._xml = {"prepare": top / "prepare.xml", "": top / "later.xml"}
        top.mkdir()
        self._xml["prepare"].write_bytes(padded(self._guest.xml(1)))
        self._xml[""].write_bytes(padded(self._guest.xml(1, prepared=True)))
        self.environment = {"LIBHOOK_ROOT": str(self._root)}
        self.reset()

    def reset(self) -> None:
        """Build the host again."""
        shutil.rmtree(self._root, ignore_errors=True)
        build(str(self._root), self._world)

    def note(self) -> None:
        """Play a whole life, and keep what outlives a reboot: the note of what the guest's devices are."""
        for operation in ACTING:
            self._play(operation)
        shutil.copytree(self._root / NOTES, self._kept)
        if not list(self._kept.iterdir()):
            sys.exit("bench: nothing was noted")

    def event(self, operation: str, *, driver_counts: bool = False, noted: bool = False) -> Case:
        """Time this one event of a life from its beginning, less the time that the host's driver takes to let go.

        ``noted`` says that the guest has started before the host's last boot (``note``).
        """

        def case() -> Sample:
            self.reset()
            if noted:
                shutil.copytree(self._kept, self._root / NOTES)
            for earlier in ACTING[: ACTING.index(operation)]:
                self._play(earlier)
            before = len(self._writes())
            sample = timed([self.launcher, *arguments(operation)], self.xml(operation), self.environment)
            if operation == "started" and not store.lines(f"{self._root}/var/log/audit.jsonl"):
                sys.exit("bench: nothing was recorded at started")  # what does nothing is fast
            if driver_counts:
                return sample
            driver = sum(write["seconds"] for write in self._writes()[before:] if write["path"] == _LET_GO)
            return sample._replace(wall=sample.wall - driver, best=sample.best - driver)

        return case

    def with_settings(self) -> None:
        """Give the host settings that ask for something for another guest, a minute ago; Python has seen them once."""
        folder = self._root / "etc" / "libhook"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "config.toml"
        file.write_text('[domains."linux".run.greet]\ncommand = ["/usr/bin/true"]\n')
        for path in (file, folder):
            os.utime(path, (time.time() - 60,) * 2)
        self._play("prepare")

    def with_handler(self, text: str, *, wanted: bool) -> Case:
        """Time prepare on a host with this handler of others, which the guest's settings want, or have none."""

        def case() -> Sample:
            self.reset()
            folder = self._root / "etc" / "libhook"
            (folder / "handlers").mkdir(parents=True)
            (folder / "handlers" / "night.py").write_text(text)
            who = "win11" if wanted else "linux"
            (folder / "config.toml").write_text(f"[domains.{who}.handlers.night]\n[domains.win11]\nholder_wait = 9\n")
            enable = ["/usr/bin/python3", "-m", "libhook", "handlers", "enable", "night"]
            environment = {**self.environment, "LC_ALL": "C"}
            subprocess.run(enable, cwd=self.version, env=environment, stdout=subprocess.DEVNULL, check=True)
            reap()
            return timed([self.launcher, *arguments("prepare")], self.xml("prepare"), self.environment)

        return case

    def dry_run(self) -> Case:
        """Time the plan for prepare, which changes nothing."""
        environment = {**self.environment, "LIBHOOK_DRY_RUN": "1"}
        return lambda: timed([self.launcher, *arguments("prepare")], self.xml("prepare"), environment)

    def opens(self) -> int:
        """Files and folders that are opened for that plan, by all its processes."""
        with open(self.xml("prepare"), "rb") as stdin:
            done = subprocess.run(
                ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", self.launcher, *arguments("prepare")],
                stdin=stdin,
                capture_output=True,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", **self.environment, "LIBHOOK_DRY_RUN": "1"},
                check=True,
            )
        reap()
        return done.stderr.count(f'"{self._root}'.encode())

    def imports(self, operation: str) -> tuple[str, ...]:
        """What Python itself has imported at the end of this event, but for the simulation and what only that needs."""
        self.reset()
        for earlier in ACTING[: ACTING.index(operation)]:
            self._play(earlier)
        with open(self.xml(operation), "rb") as stdin:
            done = subprocess.run(
                ["/usr/bin/python3", "-I", "-S", TOP / "tests" / "imports.py", self.version, *arguments(operation)],
                stdin=stdin,
                stdout=subprocess.PIPE,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", **self.environment},
                check=True,
            )
        reap()
        return tuple(done.stdout.decode().split())

    def xml(self, operation: str) -> Path:
        """The document that libvirt hands over at this step."""
        return self._xml["prepare" if operation == "prepare" else ""]

    def _play(self, operation: str) -> None:
        with open(self.xml(operation), "rb") as stdin:
            environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", **self.environment}
            done = subprocess.run([self.launcher, *arguments(operation)], stdin=stdin, env=environment, check=False)
        reap()
        if done.returncode:
            sys.exit(f"bench: {operation} was refused")

    def _writes(self) -> list[dict[str, Any]]:
        return store.lines(f"{self._root}/var/log/writes.jsonl")


def cards(count: int) -> World:
    """A host with so many cards, each in a group of its own, whose driver takes 100 ms to let go."""
    return many(count, remove=0.1)

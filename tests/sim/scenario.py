# SPDX-License-Identifier: LGPL-2.1-or-later
"""One event on a simulated host, through the real code, and everything that it did.

In this process unless told otherwise, so that a test takes milliseconds; with ``launcher`` through hooks/qemu as
libvirtd runs it. A host that cannot exist is refused by simulation.build, so no test passes on one.
"""

import ctypes
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import lines  # noqa: F401 - before libhook: it counts the lines that run
import patience
import structlog  # noqa: F401 - what libhook's log child imports: once here instead of in every child
from family import environment

from libhook import testing
from libhook.simulation import pcilist, processes
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.world import World

patience.install()
LAUNCHER = patience.launcher()
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class Host(testing.Host):
    """A simulated host in the folder ``root``, and its libvirtd's hook."""

    def __init__(self, root: str, world: World, config: str = "", *, launcher: bool = False) -> None:
        """``config`` is the text of config.toml; with ``launcher`` each event is a process of its own."""
        super().__init__(root, world, config)
        self.launcher = launcher
        self.launching: Callable[[list[str], bytes, Mapping[str, str]], tuple[int, bytes, bytes]] = _run
        """How the launcher is called, with ``launcher``: its command, stdin and environment."""
        if launcher:
            adopt_orphans()
            processes.add(root, os.getpid(), "libvirtd")
            self.beginning = snapshot(root)

    def _called(self, arguments: tuple[str, ...], document: bytes, dry_run: bool) -> tuple[int, str, Iterable[str]]:
        if self.launcher:
            code, stdout, said = self._launch(arguments, document, dry_run)
            self.settle()
            return code, stdout, said.splitlines()
        return super()._called(arguments, document, dry_run)

    def settle(self) -> None:
        """Wait for what is still at work. With less than a second of patience a test leaves it behind."""
        assert reap(self.patience) or self.patience < 1, "still at work, and left behind"

    @property
    def changed(self) -> list[str]:
        """What is different on the host from how it was in the beginning."""
        return differences(self.beginning, snapshot(self.root))

    @property
    def records(self) -> list[str]:
        """Every record so far, its reason, device and result."""
        return [" ".join(_short(record)) for outcome in self.outcomes for record in outcome.records]

    @property
    def trail(self) -> list[str]:
        """The same of every record that was sent, also by what is no event."""
        return [" ".join(_short(f"{one['text']} res={_result(one)}")) for one in self._lines("audit")]

    def everything(self) -> dict[str, str]:
        """Every file, link and folder but the logs, with what is in it: for runs that may change nothing at all."""
        found = {}
        for folder, _, names in os.walk(self.root):
            if folder == f"{self.root}/var/log":
                continue
            found[folder] = "folder"
            for path in (f"{folder}/{name}" for name in names):
                if os.path.islink(path):
                    found[path] = os.readlink(path)
                else:
                    found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return found

    def somebody_writes(self, path: str, value: str) -> None:
        """A write of the administrator's."""
        SimulatedKernel(self.root, by="administrator").write(path, value)

    def somebody_rebinds(self, address: str, override: str) -> None:
        """The administrator moves a device by hand; a line feed clears its override."""
        pcilist.rebind(SimulatedKernel(self.root, by="administrator"), address, override)

    def _launch(self, arguments: tuple[str, ...], document: bytes, dry_run: bool) -> tuple[int, str, str]:
        own = environment(self.root) | ({"LIBHOOK_DRY_RUN": "1"} if dry_run else {})
        code, stdout, said = self.launching([str(LAUNCHER), *arguments], document, own)
        return code, stdout.decode(), said.decode()


def _run(command: list[str], document: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    done = subprocess.run(command, input=document, capture_output=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


def adopt_orphans(*, yes: bool = True) -> None:
    """What a hook leaves behind becomes a child of this process, which can wait for it."""
    ctypes.CDLL(None).prctl(_SUBREAPER, int(yes), 0, 0, 0)


def reap(seconds: float) -> bool:
    """Wait for every child of this process; whether all have ended in time."""
    until = time.monotonic() + seconds
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if time.monotonic() > until:
            return False
        if not pid:
            time.sleep(0.001)


def _result(line: dict[str, Any]) -> str:
    return "success" if line["success"] else "failed"


def _short(record: str) -> tuple[str, str, str]:
    fields = dict(part.split("=", 1) for part in record.split() if "=" in part)
    return fields["reason"], fields["device"].strip('"'), fields["res"]


def guest(
    *addresses: str, managed: bool = False, name: str = "win11", source: str = "hostdev", model: str = ""
) -> Guest:
    """A guest with these PCI devices, and the same UUID whatever its name."""
    return Guest(name, tuple(Assigned(address, managed, source, model) for address in addresses), Guest().uuid)


def document(*devices: str, name: str = "win11", uuid: str = Guest().uuid, attributes: str = "id='1'") -> bytes:
    """A domain's XML with these elements among its devices."""
    inner = "\n    ".join(devices)
    return (
        f"<domain type='kvm' {attributes}>\n  <name>{name}</name>\n  <uuid>{uuid}</uuid>\n"
        f"  <devices>\n    {inner}\n  </devices>\n</domain>\n"
    ).encode()


def journal_text(host: Host, uuid: str) -> dict[str, Any]:
    """A guest's journal entry as it stands on disk."""
    found: dict[str, Any] = json.loads(Path(f"{host.machine.state}/domains/{uuid}.json").read_text())
    return found

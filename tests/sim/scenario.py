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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lines  # noqa: F401 - before libhook: it counts the lines that run
import structlog  # noqa: F401 - what libhook's log child imports: once here instead of in every child
from family import environment

from libhook import run
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.simulation import build as simulated
from libhook.simulation import pcilist, processes, store
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.libvirt import Libvirt
from libhook.simulation.snapshot import differences, snapshot
from libhook.simulation.world import World
from libhook.story.session import state_of

LAUNCHER = Path(__file__).parents[2] / "hooks" / "qemu"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class Outcome(NamedTuple):
    """What one event did."""

    operation: str
    code: int
    stderr: tuple[str, ...]
    stdout: str
    log: tuple[dict[str, Any], ...]
    writes: tuple[tuple[str, str], ...]
    """Path and value of every write of libhook's that reached the kernel."""
    records: tuple[str, ...]
    """Text and result of every audit record, as ``libhook plan`` prints it."""
    changed: tuple[str, ...]
    """What is different on the host."""
    journal: dict[str, Held]
    """What is held afterwards, by the guests' UUIDs."""

    @property
    def plan(self) -> tuple[str, ...]:
        """The plan's lines as they were logged, of a dry run or before they were applied."""
        return tuple(entry["line"] for entry in self.log if entry["event"] in ("plan", "dry run"))

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's entries of this name."""
        return [entry for entry in self.log if entry["event"] == event]

    @property
    def line(self) -> str:
        """The one line on stderr; fails when there is another number of them."""
        assert len(self.stderr) == 1, self.stderr
        assert self.stderr[0].isprintable()
        return self.stderr[0]


class Host:
    """A simulated host in the folder ``root``, and its libvirtd's hook."""

    def __init__(self, root: str, world: World, config: str = "", *, launcher: bool = False) -> None:
        """``config`` is the text of config.toml; with ``launcher`` each event is a process of its own."""
        simulated.build(root, world)
        self.root = root
        self.machine = Machine(root, SimulatedKernel(root))
        self.state = state_of(self.machine)
        self.launcher = launcher
        self.launching: Callable[[list[str], bytes, Mapping[str, str]], tuple[int, bytes, bytes]] = _run
        """How the launcher is called, with ``launcher``: its command, stdin and environment."""
        self.patience = 5.0
        """Seconds to wait for what an event leaves behind, its log above all."""
        self.printed = b""
        """What the last call printed, without ``launcher``."""
        self.outcomes: list[Outcome] = []
        self.libvirt = Libvirt(root, self.hook)
        if config:
            self.configure(config)
        if launcher:
            adopt_orphans()
            processes.add(root, os.getpid(), "libvirtd")
        self.beginning = snapshot(root)

    def configure(self, text: str, mode: int = 0o644) -> None:
        """Write the configuration."""
        Path(self.machine.config).write_text(text)
        Path(self.machine.config).chmod(mode)

    def event(self, guest: Guest, operation: str, extra: str = "-", *, xml: bytes | None = None) -> Outcome:
        """One event of the guest's, with the XML that libvirt hands over at that step or another ``xml``."""
        over = operation in ("stopped", "release")
        document = guest.xml(-1 if over else 1, operation != "prepare") if xml is None else xml
        return self.call((guest.name, operation, "end" if over else "begin", extra), document)

    def begin(self, guest: Guest) -> None:
        """The events of a start that succeeds, without a QEMU: libvirt's part in it must need no playing."""
        for operation in ("prepare", "start", "started"):
            outcome = self.event(guest, operation)
            assert (outcome.code, outcome.stderr) == (0, ())

    def call(self, arguments: tuple[str, ...], document: bytes, *, dry_run: bool = False) -> Outcome:
        """One call of the hook with any arguments."""
        before = snapshot(self.root)
        counts = {name: len(self._lines(name)) for name in ("libhook", "writes", "audit")}
        if self.launcher:
            code, stdout, said = self._launch(arguments, document, dry_run)
        else:
            answer = run.run(self.machine, run.Call(arguments, lambda: document, self.libvirt.pid, dry_run))
            self.printed = answer.printed
            code, stdout, said = answer.code, "", "".join(f"{line}\n" for line in answer.lines)
        reap(self.patience)
        log, writes, audit = (self._lines(name)[count:] for name, count in counts.items())
        outcome = Outcome(
            operation=arguments[1] if len(arguments) > 1 else "",
            code=code,
            stderr=tuple(said.splitlines()),
            stdout=stdout,
            log=tuple(log),
            writes=tuple((write["path"], write["value"]) for write in writes if write["by"] == "libhook"),
            records=tuple(f"{one['text']} res={_result(one)}" for one in audit),
            changed=tuple(differences(before, snapshot(self.root))),
            journal={uuid: held for uuid in self.state.uuids() if (held := self._held(uuid))},
        )
        self.outcomes.append(outcome)
        return outcome

    def hook(self, name: str, operation: str, suboperation: str, extra: str, xml: bytes) -> tuple[int, str]:
        """For simulation.libvirt, which plays libvirtd's part."""
        outcome = self.call((name, operation, suboperation, extra), xml)
        return outcome.code, "\n".join(outcome.stderr)

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

    @property
    def leftovers(self) -> list[str]:
        """The files that libhook keeps, locks included; none when nothing is held.

        But where a device was before, which it remembers for as long as libvirtd lives, and who is served, for the
        launcher.
        """
        folder = Path(self.machine.state)
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
        return [name for name in found if name != "served" and not name.startswith("homes/")]

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

    def driver(self, address: str) -> str:
        """The driver a device is on, "none" without one."""
        return snapshot(self.root)[f"{address} driver"]

    def somebody_writes(self, path: str, value: str) -> None:
        """A write of the administrator's."""
        SimulatedKernel(self.root, by="administrator").write(path, value)

    def somebody_rebinds(self, address: str, override: str) -> None:
        """The administrator moves a device by hand; a line feed clears its override."""
        pcilist.rebind(SimulatedKernel(self.root, by="administrator"), address, override)

    def _held(self, uuid: str) -> Held | None:
        try:
            return self.state.load(uuid)
        except Exception:  # noqa: BLE001 - a test broke it on purpose
            return None

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return store.lines(f"{self.root}/var/log/{name}.jsonl")

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
    """A guest with these PCI devices."""
    return Guest(name, tuple(Assigned(address, managed, source, model) for address in addresses))


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

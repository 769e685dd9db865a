# SPDX-License-Identifier: LGPL-2.1-or-later
"""What follows when a call of the hook was killed: whoever comes next acts, and in the end all must be as it began."""

import contextlib
import io
import os
import time
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

from scenario import Host, reap

from libhook.command import commands
from libhook.facts.address import PciAddress
from libhook.simulation import processes, store
from libhook.simulation.guests import Guest
from libhook.simulation.libvirt import Libvirt, Outcome
from libhook.simulation.snapshot import differences, snapshot

OTHER = "11111111-2222-3333-4444-555555555555"
_PATIENCE = 60.0


Who = Literal["release", "again", "other", "recover"]


class Comer(NamedTuple):
    """Who acts after the crash, and whether libvirtd has outlived it."""

    who: Who
    libvirtd: bool

    def __str__(self) -> str:
        """``recover, libvirtd gone``."""
        return f"{self.who}, libvirtd {'alive' if self.libvirtd else 'gone'}"


_WHO: tuple[Who, ...] = ("release", "other", "recover", "again")
WANTS_IT = Comer("other", True)
RELEASES = Comer("release", True)
COMERS = tuple(Comer(who, alive) for alive in (True, False) for who in _WHO)


class Aftermath:
    """The host after the crash of ``guest``'s hook at ``operation``, and what is found wrong with it."""

    def __init__(self, host: Host, guest: Guest, operation: str, reason: str = "failed") -> None:
        """Nothing is done yet. ``reason``: why the guest ends then."""
        self.problems: list[str] = []
        self._host = host
        self._guest = guest
        self._operation = operation
        self._reason = reason
        self._root = host.root
        self._status = f"{self._root}/run/libvirt/qemu/{guest.name}"

    def follow(self, comer: Comer) -> list[str]:
        """Let this one act, then libvirtd as it would, then ``recover``; what is wrong in the end."""
        if not comer.libvirtd:
            processes.end(self._root, self._host.libvirt.pid)
        if self._runs:
            self._leave_it_alone(comer)
        getattr(self, f"_{comer.who}")(comer.libvirtd)
        return self.end()

    def end(self) -> list[str]:
        """A write that was still on its way lands, and ``recover`` settles what is left; then what is wrong."""
        assert reap(_PATIENCE)
        processes.end(self._root, self._host.libvirt.pid)
        until = time.monotonic() + _PATIENCE
        recover(self._host)
        while leftovers(self._host) and time.monotonic() < until:
            time.sleep(0.02)
            recover(self._host)
        return self.problems + wrong(self._host)

    @property
    def _runs(self) -> bool:
        return os.path.exists(f"{self._status}.xml")

    def _leave_it_alone(self, comer: Comer) -> None:
        """QEMU runs: nobody may take anything, and the device is free only once it has ended."""
        before = snapshot(self._root)
        if comer.who == "recover":
            recover(self._host)
        if comer.who == "other":
            self._expect_refused(self._somebody())
        if comer.who == "again" and self._host.event(self._guest, "prepare").code == 0:
            self.problems.append("prepared though it runs")
        if snapshot(self._root) != before:
            self.problems.append("taken from a guest that runs")
        if not comer.libvirtd:
            self._end_qemu()

    def _end_qemu(self) -> None:
        """Without a libvirtd it ends all the same, and the next libvirtd removes its status file."""
        processes.end(self._root, int(store.read(f"{self._status}.pid")))
        for suffix in ("xml", "pid"):
            store.unlink(f"{self._status}.{suffix}")

    def _expect_refused(self, guest: Guest) -> None:
        if self._host.event(guest, "prepare").code == 0:
            self.problems.append(f"{guest.name} was given what another has")
        self._host.event(guest, "release", "failed")

    def _somebody(self) -> Guest:
        return self._guest._replace(name="other", uuid=OTHER)

    def _release(self, alive: bool) -> None:
        self._go_on(alive)

    def _recover(self, alive: bool) -> None:
        recover(self._host)
        self._go_on(alive)

    def _again(self, alive: bool) -> None:
        """The same guest is started again, with or without its ``release`` before; it must succeed."""
        if self._runs or not alive:
            self._go_on(alive)
        self._forget()
        self._whole_life(self._daemon(alive), self._guest)

    def _other(self, alive: bool) -> None:
        """It may be refused as long as libvirtd is about to start the first one; afterwards it gets the device."""
        other, daemon = self._somebody(), self._daemon(alive)
        begun = daemon.start(other)
        if begun.error:
            if "it is still being changed" in begun.error:  # a child that is late has it in hand
                assert reap(_PATIENCE)
            elif not self._may_be_refused(alive):
                self.problems.append(f"refused: {begun.error}")
            self._go_on(alive)
            begun = daemon.start(other)
        else:
            self._owned_by(other)
            assert reap(_PATIENCE)
            before = snapshot(self._root)
            self._go_on(alive)
            self.problems += [f"taken from the other: {line}" for line in differences(before, snapshot(self._root))]
        if begun.error:
            self.problems.append(f"refused though nobody has it: {begun.error}")
            return
        self._owned_by(other)
        daemon.stop(other.name, "shutdown")

    def _may_be_refused(self, alive: bool) -> bool:
        return alive or self._host.state.in_flight() != frozenset() or not reap(0)

    def _whole_life(self, daemon: Libvirt, guest: Guest) -> None:
        begun: Outcome = daemon.start(guest)
        if begun.error:
            assert reap(_PATIENCE)
            begun = daemon.start(guest)
        if begun.error:
            self.problems.append(f"not started again: {begun.error}")
        else:
            self._owned_by(guest)
            daemon.stop(guest.name, "shutdown")

    def _owned_by(self, guest: Guest) -> None:
        for device in guest.devices:
            driver = self._host.driver(device.address)
            if "vfio" not in driver:
                self.problems.append(f"{guest.name} runs, but {device.address} is on {driver}")
        addresses = [PciAddress.parse(device.address) for device in guest.devices]
        owners = {claim.uuid for claim in self._host.state.claims(addresses).values()}
        if owners != {guest.uuid}:
            self.problems.append(f"{guest.name} runs, but its devices are claimed by {owners}")

    def _go_on(self, alive: bool) -> None:
        """What libvirtd does with a guest whose hook was killed; without one, somebody calls ``release``."""
        if alive and self._operation != "release" and self._guest.name in self._host.libvirt._running:
            self._host.libvirt.stop(self._guest.name, self._reason)
        else:
            self._host.event(self._guest, "release", self._reason)

    def _forget(self) -> None:
        self._host.libvirt._running.pop(self._guest.name, None)

    def _daemon(self, alive: bool) -> Libvirt:
        """The one that lives, or a new one."""
        if not alive:
            self._host.libvirt = Libvirt(self._root, self._host.hook)
        return self._host.libvirt


def recover(host: Host) -> str:
    """``libhook recover``; what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        commands.recover(host.machine, Namespace(dry_run=False, give_up=None))
    assert reap(_PATIENCE)
    return said.getvalue()


def leftovers(host: Host) -> list[str]:
    """What libhook has left in its folder; homes are kept on purpose, but not half of one."""
    folder = Path(host.machine.state, "homes")
    return host.leftovers + [str(path) for path in folder.glob("*.new")]


def wrong(host: Host) -> list[str]:
    """What is not as it was, left over, not recorded truly, or said by a bug."""
    problems = [*host.changed, *(f"left over: {name}" for name in leftovers(host))]
    for what, how in trails(host).items():
        had, last = False, ""
        for one in how:
            if one == last or (last, one) == ("detach True", "stop True"):
                continue  # killed between sending it and noting so
            last = one
            if one in ("stop True", "detach True") and not had:
                problems.append(f"the trail of {what} has an end without a beginning: {how}")
            had = one in ("start True", "attach True") or (had and one not in ("stop True", "detach True"))
        if had and last != "start False":
            problems.append(f"the trail of {what} does not end: {how}")
    log = [f"{entry['event']}: {entry}" for entry in store.lines(f"{host.root}/var/log/libhook.jsonl")]
    problems += [entry for entry in log if "itself failed" in entry or entry.startswith("journal not written")]
    return problems


def trails(host: Host) -> dict[str, list[str]]:
    """Reason and result of each record, by its guest's UUID and its device as they stand there."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in store.lines(f"{host.root}/var/log/audit.jsonl"):
        fields = dict(part.split("=", 1) for part in line["text"].split() if "=" in part)
        found[f"{fields['uuid']} {fields['device']}"].append(f"{fields['reason']} {line['success']}")
    return found

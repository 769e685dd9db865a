# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why libhook does not work here, if it does not: what it stands on, each with what to do about it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

from libhook import giveback
from libhook.config import Overview, overview
from libhook.effects import audit, installation, libvirtd, sysfs
from libhook.errors import LibhookError, printable
from libhook.handlers.audit import wrong_with
from libhook.handlers.preflight import TURN_IOMMU_ON
from libhook.held import Held
from libhook.session import Session, load_config, read_config

_PATIENCE = 30.0
"""Seconds for the hook to answer."""

Level = Literal["ok", "note", "fail"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    """``fail``: guests with host devices do not start, or start without libhook. ``note``: it may be meant so."""
    what: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """``fail  the IOMMU is off: turn it on in the firmware``."""
        return printable(f"{self.level:<4}  {': '.join(filter(None, (self.what, self.remedy)))}")


def examine(session: Session) -> list[Finding]:
    """Everything, in the order in which a start needs it. What cannot be looked at is a finding, too, and but one."""
    looks = (_hook, _daemon, _selinux, _iommu, _vfio, _config, _trail, _state)
    return list(dict.fromkeys(finding for look in looks for finding in _answered(look, session)))


def _answered(look: Callable[[Session], Iterator[Finding]], session: Session) -> Iterator[Finding]:
    try:
        yield from look(session)
    except LibhookError as error:
        yield Finding("fail", error.message, error.hint)
    except OSError as error:
        yield Finding("fail", f"{error.filename}: {error.strerror}", "run it as root")


def _hook(session: Session) -> Iterator[Finding]:
    scripts = installation.scripts(session.machine)
    ours = [script for script in scripts if script.ours]
    for script in scripts:
        if not script.ours and script.executable:
            yield Finding("note", f"{script.path} is run by libvirtd, too", "what it does is not known to libhook")
    if not ours:
        yield Finding("fail", "no hook of libhook's stands in /etc/libvirt/hooks", "run install.sh")
        return
    if len(ours) > 1:
        names = " and ".join(script.path for script in ours)
        yield Finding("fail", f"libhook would run twice, as {names}", f"rm {ours[1].path}")
    hook = ours[0]
    if not hook.executable:
        yield Finding("fail", f"{hook.path} is not executable, so libvirtd passes it over", f"chmod 755 {hook.path}")
    elif not hook.trusted:
        remedy = f"look at it, then: chown root:root {hook.path}; chmod 755 {hook.path}"
        yield Finding("fail", f"others than root may write to {hook.path}, which root runs", remedy)
    elif complaint := installation.call(session.machine, hook.path, _PATIENCE):
        yield Finding("fail", f"{hook.path} does not work: {complaint}", "run install.sh again")
    else:
        yield Finding("ok", f"{hook.path} answers")


def _daemon(session: Session) -> Iterator[Finding]:
    """libvirtd looks for hooks when it begins, and at SIGHUP (virhook.c, virHookInitialize)."""
    pid = libvirtd.find(session.machine)
    if pid == libvirtd.NOT_KNOWN:
        if not libvirtd.any_lives(session.machine):
            yield Finding("note", "no libvirtd or virtqemud runs now", "it finds the hook when it starts")
        return
    name = libvirtd.name(session.machine, pid)
    hook = next((script.path for script in installation.scripts(session.machine) if script.ours), None)
    began = installation.began(session.machine, session.state.process(pid).start)
    if hook and began is not None and began < installation.changed(session.machine, hook):
        what = f"{name} (pid {pid}) began before {hook} was put there"
        yield Finding("note", what, f"if nobody has told it since, as install.sh does: systemctl reload {name}")
    else:
        yield Finding("ok", f"{name} (pid {pid}) runs")


def _selinux(session: Session) -> Iterator[Finding]:
    if installation.forbidden_by_selinux(session.machine):
        yield Finding("fail", "SELinux keeps hooks from /sys", "setsebool -P virt_hooks_unconfined on")


def _iommu(session: Session) -> Iterator[Finding]:
    if groups := sysfs.groups_of_host(session.machine):
        yield Finding("ok", f"the IOMMU is on, its groups: {len(groups)}")
    else:
        yield Finding("fail", "the IOMMU is off", TURN_IOMMU_ON)


def _vfio(session: Session) -> Iterator[Finding]:
    """Loaded or built in, or a module of the running kernel's, which has that name as an alias since 5.16."""
    modules = {module for _, module in sysfs.vfio_aliases(session.machine)}
    if "vfio_pci" in modules or sysfs.driver_name(session.machine, "vfio-pci"):
        yield Finding("ok", "the kernel has vfio-pci")
    else:
        yield Finding("fail", "the kernel has no vfio-pci", "install the package with its modules")


def _config(session: Session) -> Iterator[Finding]:
    """No guest is named to it, so it speaks of the whole file: what a section says holds for that guest alone."""
    said, path = _overview(session), session.machine.config
    yield Finding("ok", f"the configuration {'is as the defaults' if said.is_default else 'can be read'}")
    if said.relaxed:
        yield Finding("note", f"{path} lifts what is refused by default, with {', '.join(said.relaxed)}")
    if said.dry:
        what = f"{path} has {', '.join(said.dry + said.wet)}"
        yield Finding("note", what, "libhook hands nothing over to a guest for which dry_run is true")


def _trail(session: Session) -> Iterator[Finding]:
    """What the kernel says of it; whether auditd's disk takes what it writes, nobody can ask."""
    complaint = wrong_with(audit.trail(session.machine, session.deadline))
    if complaint:
        required = False
        with suppress(LibhookError):  # of the configuration, which is said already
            required = _overview(session).requires_trail
        yield Finding("fail" if required else "note", f"the audit trail is not written: {complaint[0]}", complaint[1])
    else:
        yield Finding("ok", "auditing is on, and an auditd runs")


def _overview(session: Session) -> Overview:
    load_config(session.machine, "", "")  # a pattern that relaxes is found wrong by this alone
    return overview(read_config(session.machine))


def _state(session: Session) -> Iterator[Finding]:
    session.state.check()
    records, broken = giveback.records(session)
    found = [(held, alive) for held, alive in records if _holds(held)]
    dead = ", ".join(held.name for held, alive in found if alive is None)
    for line in broken:
        yield Finding("fail", line)
    if hanging := session.state.in_flight():
        devices = ", ".join(sorted(map(str, hanging)))
        yield Finding("note", f"a write to {devices} has not ended yet", "when its driver lets go: libhook recover")
    if dead:
        yield Finding("note", f"dead processes left devices, of {dead}", "libhook status; libhook recover")
    if not broken and not dead:
        yield Finding("ok", f"guests that hold devices: {len(found)}" if found else "no guest holds a device")


def _holds(held: Held) -> bool:
    """Of a start that was refused only the memory is left."""
    return any(device.move or held.phase not in ("refused", "releasing") for device in held.devices)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook doctor``: checks each thing that libhook needs, and says what to do where one is missing."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from libhook.command import handlers, installation
from libhook.effects import audit, locks
from libhook.effects.systemd import runs as booted
from libhook.errors import LibhookError, named, pasted
from libhook.facts import settings
from libhook.facts.machine import Machine
from libhook.facts.merged import Setting, every
from libhook.facts.problem import refusal
from libhook.handlers.audit import trail_problem
from libhook.handlers.preflight import TURN_IOMMU_ON
from libhook.hotplug import remains
from libhook.look import libvirtd, processes, selinux, sysfs, systemd
from libhook.story import giveback
from libhook.story.session import Session, read_settings

_WATCH = "libhook-watch.service"
_UNCONFINED = "virt_hooks_unconfined"
"""The SELinux boolean that lets hooks run unconfined, in the policy of Fedora and its relatives."""
_GET_MODULES = "install the package with the kernel's modules; in a container: on the host"
_PATIENCE = 30.0
"""Seconds for the hook to answer."""

Level = Literal["ok", "note", "fail"]


class Finding(NamedTuple):
    """The result of one check."""

    level: Level
    """``fail``: guests with host devices do not start, or start without libhook. ``note``: it may be on purpose."""
    what: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """Return it as one line: ``fail  the IOMMU is off: turn it on in the firmware``."""
        return f"{self.level:<4}  {': '.join(filter(None, (self.what, self.remedy)))}"


def examine(session: Session) -> list[Finding]:
    """Run all checks, in the order in which a start needs them. A check that cannot look is a finding, too.

    Equal findings are given once.
    """
    looks = (_hook, _daemon, _selinux, _iommu, _vfio, _config, _handlers, _trail, _state, _watch)
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
            yield Finding("note", f"libvirtd also runs {script.path}", "libhook does not know what it does")
    folder = installation.folder(session.machine)
    if not ours:
        yield Finding("fail", f"libhook's hook is not in {folder}", "run install.sh")
        return
    if folder != installation.HOOKS:
        what = f"the hook is in {folder}: a libvirt that was not built to look there never runs it"
        yield Finding("note", what, f"install.sh --hook-dir {installation.HOOKS} brings it back")
    if len(ours) > 1:
        names = " and ".join(script.path for script in ours)
        yield Finding("fail", f"libhook would run twice, as {names}", f"rm {pasted(ours[1].path)}")
    hook, path = ours[0], pasted(ours[0].path)
    if not hook.executable:
        yield Finding("fail", f"{hook.path} is not executable, so libvirtd skips it", f"chmod 755 {pasted(hook.path)}")
    elif not hook.trusted:
        path = pasted(hook.path)
        remedy = f"check what is in it, then run: chown root:root {path}; chmod 755 {path}"
        yield Finding("fail", f"users other than root may write to {hook.path}, which root runs", remedy)
    elif complaint := installation.call(session.machine, hook.path, _PATIENCE):
        yield Finding("fail", f"{hook.path} does not work: {complaint}", "run install.sh again")
    else:
        yield Finding("ok", f"{hook.path} answers")


def _daemon(session: Session) -> Iterator[Finding]:
    """Check that libvirtd knows the hook. It looks for hooks when it begins and at SIGHUP (virHookInitialize())."""
    pid = libvirtd.find(session.machine)
    hook = next((script.path for script in installation.scripts(session.machine) if script.ours), None)
    if pid == libvirtd.NOT_KNOWN:
        if not libvirtd.any_lives(session.machine):
            then = "it finds the hook when it starts" if hook else ""
            yield Finding("note", "neither libvirtd nor virtqemud runs now", then)
        return
    name = libvirtd.name(session.machine, pid)
    began = installation.began(session.machine, processes.process(session.machine, pid).start)
    if hook and began is not None and began < installation.changed(session.machine, hook):
        what = f"{name} (pid {pid}) started before {hook} was installed"
        tell = f"systemctl reload {name}" if booted(session.machine) else f"kill -HUP {pid}"
        yield Finding("note", what, f"unless install.sh has told it since, run: {tell}")
    else:
        yield Finding("ok", f"{name} (pid {pid}) runs")


def _selinux(session: Session) -> Iterator[Finding]:
    scripts, folder = installation.scripts(session.machine), installation.folder(session.machine)
    hook = next((script.path for script in scripts if script.ours), f"{folder}/qemu")
    for answer in selinux.about(session.machine, hook):
        yield from _of_selinux(session.machine, answer, folder)


def before_install(machine: Machine, hook: str) -> tuple[bool, list[str]]:
    """Return whether SELinux allows the hook to be put in place, and the lines to print about that.

    If libvirt's daemon may not execute the hook, exec fails, and no launcher answers ``reconnect``. Then the daemon
    ends every guest that runs when it next starts. So the answer is also no if nobody can say.
    """
    answers = selinux.about(machine, hook)
    harmful = any(answer.enforced and (answer.unknown or answer.keeps_from_running) for answer in answers)
    folder = os.path.dirname(hook)
    findings = [found for answer in answers for found in _of_selinux(machine, answer, folder) if found.level != "ok"]
    return not harmful, [finding.line for finding in findings]


def _of_selinux(machine: Machine, answer: selinux.Answer, folder: str) -> Iterator[Finding]:
    name, remedy = answer.daemon, "see what it denies: ausearch -m AVC -ts recent"
    if answer.unknown:
        yield Finding("note", f"cannot find out whether SELinux lets {name} run the hook: {answer.unknown}", remedy)
        return
    if answer.to_run:
        risk = f"guests do not start, and a restart of {name} may end those that run"
        what = f"SELinux does not let {name} run the hook: {risk}"
        yield _denied(what, answer.to_run, _allow(machine, answer, folder))
    if answer.to_work and not answer.keeps_from_running:
        what = f"SELinux lets {name} run the hook, but does not let the hook write to /sys: libhook hands nothing over"
        yield _denied(what, answer.to_work, _allow(machine, answer, folder))
    if not answer.to_run and not answer.to_work:
        yield Finding("ok", f"SELinux lets {name} run the hook, and lets the hook write to /sys")


def _denied(what: str, lacks: Sequence[selinux.Lack], remedy: str) -> Finding:
    enforced = any(lack.enforced for lack in lacks)
    why = "; ".join(map(str, lacks))
    return Finding(
        "fail" if enforced else "note", f"{'' if enforced else 'once it enforces this, '}{what} ({why})", remedy
    )


def _allow(machine: Machine, answer: selinux.Answer, folder: str) -> str:
    """Return commands to paste: restore the labels, and set the policy's boolean or add the missing rules."""
    relabel = f"restorecon -FR {pasted(folder)}"
    if selinux.has_boolean(machine, _UNCONFINED):
        module = f"; semodule -i {selinux.MODULE}" if answer.domain == "virtqemud_t" else ""
        return f"{relabel}; setsebool -P {_UNCONFINED} on{module}"
    rules = " ".join(lack.rule for lack in (*answer.to_run, *answer.to_work))
    return f"{relabel}; if that is not enough: echo '{rules}' >libhook_local.cil; semodule -i libhook_local.cil"


def _iommu(session: Session) -> Iterator[Finding]:
    if groups := sysfs.groups_of_host(session.machine):
        yield Finding("ok", f"the IOMMU is on; number of groups: {len(groups)}")
    else:
        yield Finding("fail", "the IOMMU is off", TURN_IOMMU_ON)


def _vfio(session: Session) -> Iterator[Finding]:
    """Look for vfio-pci: loaded, built in, or a module of the running kernel with a vfio alias (since 5.16)."""
    modules = {module for _, module in sysfs.vfio_aliases(session.machine)}
    if "vfio_pci" in modules or sysfs.driver_name(session.machine, "vfio-pci"):
        yield Finding("ok", "the kernel has vfio-pci")
    else:
        yield Finding("fail", "the running kernel has no vfio-pci", _GET_MODULES)


def _config(session: Session) -> Iterator[Finding]:
    """Check all files, and say which settings relax checks or turn libhook off."""
    found = settings.read(read_settings(session.machine))
    if wrong := refusal(found.problems, found.problems):
        yield Finding("fail", wrong.message, wrong.hint)
        return
    now = every(found)
    yield Finding(
        "ok", f"the configuration {'has the defaults' if all(one.is_default for one in now) else 'can be read'}"
    )
    if relaxed := _listed(one for one in now if one.relaxes):
        yield Finding("note", f"the configuration allows what libhook refuses by default: {relaxed}")
    if any((one.key, one.value) == ("dry_run", True) for one in now):
        dry = _listed(one for one in now if one.key == "dry_run")
        remedy = "libhook hands nothing over to a guest for which dry_run is true"
        yield Finding("note", f"the configuration has {dry}", remedy)


def _handlers(session: Session) -> Iterator[Finding]:
    """Handlers by others that the settings want and that would fail. Nothing is loaded for that."""
    rows = [row for row in handlers.table(session.machine) if row.wanted_by]
    for row in (row for row in rows if row.why):
        what = f"the handler {row.name} is {row.state}, and {', '.join(row.wanted_by)} wants it"
        yield Finding("fail", what, row.why)
    if rows and not any(row.why for row in rows):
        yield Finding("ok", f"handlers of your own: {', '.join(row.name for row in rows)}")


def _listed(those: Iterable[Setting]) -> str:
    return ", ".join(one.line for one in those)


def _trail(session: Session) -> Iterator[Finding]:
    """Ask the kernel about the audit trail. Nobody can ask whether auditd can write to its disk."""
    trail = audit.trail(session.machine, session.deadline)
    complaint = trail_problem(trail)
    if complaint and trail is None:  # the refusal of a start sends people here
        elsewhere = "in a container nobody has the trail: run libhook on the host"
        complaint = (complaint[0], f"it needs CAP_AUDIT_CONTROL and a kernel with audit; {elsewhere}")
    if complaint:
        required = False
        with suppress(LibhookError):  # folders that others may write to are a finding already
            now = every(settings.read(read_settings(session.machine)))
            required = any((one.key, one.value) == ("audit.required", True) for one in now)
        yield Finding("fail" if required else "note", f"the audit trail is not written: {complaint[0]}", complaint[1])
    else:
        yield Finding("ok", "auditing is on, and auditd runs")


def _state(session: Session) -> Iterator[Finding]:
    with suppress(FileNotFoundError):
        owner = os.lstat(session.machine.state).st_uid
        if os.geteuid() not in (0, owner):
            yield Finding("fail", f"{session.machine.state} is another user's", "run libhook doctor as root")
            return
    session.state.check()
    entries, broken = giveback.read_entries(session)
    found = [(held, alive) for held, alive in entries if held.holds]
    dead = ", ".join(named(held.name) for held, alive in found if alive is None)
    for line in broken:
        yield Finding("fail", line)
    if hanging := session.state.in_flight():
        devices = ", ".join(sorted(map(str, hanging)))
        yield Finding(
            "note", f"a write to {devices} has not ended yet", "when its driver answers, run: libhook recover"
        )
    if dead:
        yield Finding(
            "note",
            f"killed processes left devices of these guests: {dead}",
            "see libhook status, then run: libhook recover",
        )
    if not broken and not dead:
        yield Finding(
            "ok",
            f"guests for which libhook holds devices: {len(found)}" if found else "libhook holds no device for a guest",
        )


def _watch(session: Session) -> Iterator[Finding]:
    """Say whether somebody watches, which is the administrator's choice; and check that what it starts is there."""
    if os.geteuid() != 0:
        return  # nobody else may ask for the lock
    runs = locks.is_locked(f"{session.machine.state}/locks/watch")
    missing = "no libhook watch runs, so what others plug in and out is recorded by libvirt alone"
    to_have = "to have libhook record it, too"
    if not booted(session.machine):
        watch_it = f"{to_have}, have your init run: libhook watch"
        yield Finding("ok", "libhook watch runs") if runs else Finding("note", missing, watch_it)
        return
    with suppress(LibhookError):  # systemd does not answer
        found = systemd.units(session.machine, (_WATCH, remains.UNIT), session.deadline)
        watch, recover = found[_WATCH], found[remains.UNIT]
        if watch.active == "active" and recover.load != "loaded":
            what = f"{_WATCH} runs, but systemd does not have {remains.UNIT}, which it starts for guests that are gone"
            yield Finding("note", what, "run install.sh again")
        elif watch.active == "active":
            yield Finding("ok", f"{_WATCH} runs")
        elif runs:
            yield Finding("ok", "libhook watch runs")
        else:
            unmask = f"systemctl unmask {_WATCH} && " if watch.load == "masked" else ""
            install = "" if watch.load in ("loaded", "masked") else "run install.sh again, then "
            yield Finding("note", missing, f"{to_have}, {install}run: {unmask}systemctl enable --now {_WATCH}")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why libhook does not work here, if it does not: what it stands on, each with what to do about it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from libhook.command import installation
from libhook.effects import audit
from libhook.errors import LibhookError, pasted, printable
from libhook.facts.config import Overview, overview
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.handlers.audit import wrong_with
from libhook.handlers.preflight import TURN_IOMMU_ON
from libhook.look import libvirtd, processes, selinux, sysfs
from libhook.story import giveback
from libhook.story.session import Session, load_config, read_config

_HOOK = "/etc/libvirt/hooks/qemu"
_UNCONFINED = "virt_hooks_unconfined"
"""The boolean by which the policy of Fedora and its kin lets hooks run unconfined."""
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
        yield Finding("fail", f"libhook would run twice, as {names}", f"rm {pasted(ours[1].path)}")
    hook, path = ours[0], pasted(ours[0].path)
    if not hook.executable:
        yield Finding(
            "fail", f"{hook.path} is not executable, so libvirtd passes it over", f"chmod 755 {pasted(hook.path)}"
        )
    elif not hook.trusted:
        path = pasted(hook.path)
        remedy = f"look at it, then: chown root:root {path}; chmod 755 {path}"
        yield Finding("fail", f"others than root may write to {hook.path}, which root runs", remedy)
    elif complaint := installation.call(session.machine, hook.path, _PATIENCE):
        yield Finding("fail", f"{hook.path} does not work: {complaint}", "run install.sh again")
    else:
        yield Finding("ok", f"{hook.path} answers")


def _daemon(session: Session) -> Iterator[Finding]:
    """libvirtd looks for hooks when it begins, and at SIGHUP (virhook.c, virHookInitialize)."""
    pid = libvirtd.find(session.machine)
    hook = next((script.path for script in installation.scripts(session.machine) if script.ours), None)
    if pid == libvirtd.NOT_KNOWN:
        if not libvirtd.any_lives(session.machine):
            then = "it finds the hook when it starts" if hook else ""
            yield Finding("note", "no libvirtd or virtqemud runs now", then)
        return
    name = libvirtd.name(session.machine, pid)
    began = installation.began(session.machine, processes.process(session.machine, pid).start)
    if hook and began is not None and began < installation.changed(session.machine, hook):
        what = f"{name} (pid {pid}) began before {hook} was put there"
        yield Finding("note", what, f"if nobody has told it since, as install.sh does: systemctl reload {name}")
    else:
        yield Finding("ok", f"{name} (pid {pid}) runs")


def _selinux(session: Session) -> Iterator[Finding]:
    hook = next((script.path for script in installation.scripts(session.machine) if script.ours), _HOOK)
    for answer in selinux.about(session.machine, hook):
        yield from _of_selinux(session.machine, answer)


def before_install(machine: Machine, hook: str) -> tuple[bool, list[str]]:
    """Whether a hook may be put there as far as SELinux goes, and what is to be said of that.

    One that libvirt's daemon may not execute ends every guest that runs, when the daemon next starts: exec fails, and
    no launcher answers `reconnect`. So it is not put there either where nobody can say.
    """
    answers = selinux.about(machine, hook)
    harmful = any(answer.enforced and (answer.unknown or answer.keeps_from_running) for answer in answers)
    findings = [finding for answer in answers for finding in _of_selinux(machine, answer) if finding.level != "ok"]
    return not harmful, [finding.line for finding in findings]


def _of_selinux(machine: Machine, answer: selinux.Answer) -> Iterator[Finding]:
    name, remedy = answer.daemon, "see what it denies: ausearch -m AVC -ts recent"
    if answer.unknown:
        yield Finding("note", f"whether SELinux lets {name} run the hook cannot be asked: {answer.unknown}", remedy)
        return
    if answer.to_run:
        what = f"SELinux does not let {name} run the hook: guests do not start, and its restart may end those that run"
        yield _denied(what, answer.to_run, _allow(machine, answer))
    if answer.to_work and not answer.keeps_from_running:
        what = f"SELinux lets {name} run the hook, but the hook not write to /sys: libhook hands nothing over"
        yield _denied(what, answer.to_work, _allow(machine, answer))
    if not answer.to_run and not answer.to_work:
        yield Finding("ok", f"SELinux lets {name} run the hook, and the hook write to /sys")


def _denied(what: str, lacks: Sequence[selinux.Lack], remedy: str) -> Finding:
    enforced = any(lack.enforced for lack in lacks)
    why = "; ".join(map(str, lacks))
    return Finding(
        "fail" if enforced else "note", f"{'' if enforced else 'once it enforces this, '}{what} ({why})", remedy
    )


def _allow(machine: Machine, answer: selinux.Answer) -> str:
    """To be pasted: the labels that the policy means, and its own switch; else what the kernel said is missing."""
    relabel = "restorecon -FR /etc/libvirt/hooks"
    if selinux.has_boolean(machine, _UNCONFINED):
        module = f"; semodule -i {selinux.MODULE}" if answer.domain == "virtqemud_t" else ""
        return f"{relabel}; setsebool -P {_UNCONFINED} on{module}"
    rules = " ".join(lack.rule for lack in (*answer.to_run, *answer.to_work))
    return f"{relabel}; if that is not enough: echo '{rules}' >libhook_local.cil; semodule -i libhook_local.cil"


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
        yield Finding("fail", "no vfio-pci is found for the running kernel", "install the package with its modules")


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
        yield Finding(
            "ok",
            f"guests for which libhook holds devices: {len(found)}" if found else "libhook holds no device for a guest",
        )


def _holds(held: Held) -> bool:
    """Of a start that was refused only the memory is left."""
    return bool(held.actions or (held.devices and held.keeps))

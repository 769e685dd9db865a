# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks the kernel whether SELinux lets libvirt's daemon run the hook, and lets the hook do its work.

For any two contexts, selinuxfs answers as the kernel would when it comes to it (security/selinux/selinuxfs.c,
sel_write_access and sel_write_create). What exec needs is in hooks.c, selinux_file_open and
selinux_bprm_creds_for_exec: either the hook stays in the daemon's domain, or there is a transition and the file is an
entrypoint.
"""

from __future__ import annotations

import os

from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look import libvirtd

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/libhook_virtqemud.cil"
"""The policy module with what virtqemud lacks in the policy of Fedora and its kin."""
_DAEMONS = ("virtqemud", "libvirtd")
_SHELL = "/bin/sh"
"""The hook's interpreter. The kernel opens it as the daemon, before any transition (fs/binfmt_script.c)."""
_KNOB = "/sys/bus/pci/drivers_probe"
_OPENED = ("open", "read", "execute")
_FOUND = ("getattr", *_OPENED)
"""libvirt calls stat() first. If that fails, it finds no hook (virhook.c, virHookCheck)."""
_Need = tuple[str, str, str, tuple[str, ...]]
"""Domain, target's context, class, permissions."""
_PERMISSIVE = 1
"""SELINUX_AVD_FLAGS_PERMISSIVE: what this one domain may not do is only logged."""


class Lack(NamedTuple):
    """Permissions that one domain does not have."""

    domain: str
    target: str
    kind: str
    permissions: tuple[str, ...]
    enforced: bool
    """Whether the access is refused, not only logged."""

    def __str__(self) -> str:
        """``virtqemud_t lacks execute, open for virt_hook_t (file)``."""
        return f"{_type(self.domain)} lacks {', '.join(self.permissions)} for {_type(self.target)} ({self.kind})"

    @property
    def rule(self) -> str:
        """The CIL rule that allows it."""
        return f"(allow {_type(self.domain)} {_type(self.target)} ({self.kind} ({' '.join(self.permissions)})))"


class Answer(NamedTuple):
    """The answer for one daemon."""

    daemon: str
    enforced: bool
    """Whether SELinux as a whole is enforcing."""
    domain: str = ""
    """The type that the daemon runs as, or would run as."""
    to_run: tuple[Lack, ...] = ()
    """What keeps the daemon from running the hook."""
    to_work: tuple[Lack, ...] = ()
    """What keeps the hook from writing to /sys."""
    unknown: str = ""
    """Why the kernel could not say; "" when it could."""

    @property
    def keeps_from_running(self) -> bool:
        """Whether the daemon cannot run the hook: what it lacks is refused, not only logged."""
        return any(lack.enforced for lack in self.to_run)


def has_boolean(machine: Machine, name: str) -> bool:
    """Whether the policy has this boolean, on or off."""
    return os.path.exists(f"{_folder(machine)}/booleans/{name}")


def about(machine: Machine, hook: str) -> tuple[Answer, ...]:
    """The answer for each daemon that runs. When none runs: for each that is installed, as init would start it.

    When the hook is not there yet, the label that it would get is used. Empty without SELinux.
    """
    try:
        enforced = _read(f"{_folder(machine)}/enforce") == "1"
    except FileNotFoundError:
        return ()
    running = list(libvirtd.by_pid_file(machine))
    installed = [(name, 0) for name in _DAEMONS if os.path.exists(f"{machine.root}/usr/sbin/{name}")]
    return tuple(_about(machine, enforced, name, pid, hook) for name, pid in running or installed)


def _about(machine: Machine, enforced: bool, daemon: str, pid: int, hook: str) -> Answer:
    try:
        if pid:
            domain = _domain(machine, pid)
        else:
            domain = _becomes(machine, _domain(machine, 1), _label(machine, f"/usr/sbin/{daemon}"))
        run, work = _needs(machine, domain, hook)
        to_run = tuple(lack for need in dict.fromkeys(run) if (lack := _lacks(machine, enforced, *need)))
        to_work = tuple(lack for need in work if (lack := _lacks(machine, enforced, *need)))
    except (OSError, ValueError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        return Answer(daemon, enforced, unknown=f"{where}{getattr(error, 'strerror', error)}")
    return Answer(daemon, enforced, _type(domain), to_run, to_work)


def _needs(machine: Machine, domain: str, hook: str) -> tuple[list[_Need], list[_Need]]:
    """What the daemon needs to run the hook, and what the hook needs to work: only its write to /sys is asked."""
    label = _label(machine, hook)
    then = _becomes(machine, domain, label)
    run: list[_Need] = [
        (one, _label(machine, folder, "dir"), "dir", ("search",)) for one in (domain, then) for folder in _folders(hook)
    ]
    run.append((domain, _label(machine, _SHELL), "file", _OPENED))
    if then == domain:
        run.append((domain, label, "file", (*_FOUND, "execute_no_trans")))
    else:
        run.append((domain, label, "file", _FOUND))
        run.append((domain, then, "process", ("transition",)))
        run.append((then, label, "file", ("entrypoint", "open", "read")))  # the shell opens the hook once more
    return run, [(then, _label(machine, _KNOB), "file", ("open", "write"))]


def _lacks(
    machine: Machine, enforced: bool, source: str, target: str, kind: str, permissions: tuple[str, ...]
) -> Lack | None:
    """Ask ``access``: "SOURCE TARGET CLASS REQUESTED" gets "ALLOWED DECIDED AUDITALLOW AUDITDENY SEQNO FLAGS"."""
    perms = f"{_folder(machine)}/class/{kind}/perms"
    bits = {name: 1 << int(_read(f"{perms}/{name}")) - 1 for name in permissions}  # perms/NAME counts from 1
    question = f"{source} {target} {_number(machine, kind)} {sum(bits.values()):x}"
    allowed, _, _, _, _, flags = machine.kernel.ask_selinux("access", question).split()
    lacking = tuple(name for name, bit in bits.items() if not int(allowed, 16) & bit)
    return Lack(source, target, kind, lacking, enforced and not int(flags, 16) & _PERMISSIVE) if lacking else None


def _becomes(machine: Machine, domain: str, label: str) -> str:
    """The domain in which a program with this label runs, when a process of that domain starts it."""
    return machine.kernel.ask_selinux("create", f"{domain} {label} {_number(machine, 'process')}")


def _label(machine: Machine, path: str, kind: str = "file") -> str:
    """The label of a file. If it is not there yet: the label that it would get if this process made it."""
    with suppress(FileNotFoundError):
        return _word(machine.kernel.label(path))
    *_, folder = _folders(path)
    own, name = _domain(machine, "self"), path.rpartition("/")[2]
    question = f"{own} {_label(machine, folder, 'dir')} {_number(machine, kind)} {name}"
    return machine.kernel.ask_selinux("create", question)


def _folders(path: str) -> Iterator[str]:
    """The folders on the way to it: ``/``, ``/etc`` and so on."""
    parts = path.split("/")[:-1]
    return ("/".join(parts[: number + 1]) or "/" for number in range(len(parts)))


def _domain(machine: Machine, pid: int | str) -> str:
    return _word(_read(f"{machine.proc}/{pid}/attr/current"))


def _word(context: str) -> str:
    """The context, if it is one word: the kernel splits a question at its blanks. ValueError if not."""
    if len(context.split()) != 1 or context.count(":") < 2:
        raise ValueError(f"no context: {context!r}")
    return context


def _number(machine: Machine, kind: str) -> int:
    return int(_read(f"{_folder(machine)}/class/{kind}/index"))


def _type(context: str) -> str:
    """``virtqemud_t`` of ``system_u:system_r:virtqemud_t:s0``."""
    return context.split(":")[2]


def _folder(machine: Machine) -> str:
    return f"{machine.sys}/fs/selinux"


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read(4096).rstrip("\0\n")

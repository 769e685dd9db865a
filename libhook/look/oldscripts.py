# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the old hook scripts that one call of libvirt's would run, in their order. May block: a child looks.

A file is a hook. A folder may have two things. The tree GUEST/OPERATION/SUBOPERATION is that of the hook helper of
VFIO-Tools: the last is a script, or a folder of scripts. Executable files beside it are hooks as in libvirt's own
``qemu.d`` (virHookCall() in virhook.c). The helper is libvirt's first hook, so its scripts come first.
"""

from __future__ import annotations

import os
import stat

from libhook.facts.legacy import Call, is_part_of_path
from libhook.light import TYPE_CHECKING, NamedTuple
from libhook.look import executables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libhook.facts.machine import Machine

HOOKS = "/etc/libvirt/hooks"
_SHELLS = ("/bin/bash", "/bin/sh")
_ENOUGH = 80
"""Bytes in which bash looks for what makes a file no script (check_binary_file)."""


class Script(NamedTuple):
    """One file to run."""

    path: str
    in_tree: bool = False
    """It is run only if those of the tree before it were right: the helper stops at the first that fails."""


class Unusable(Exception):
    """Why what the settings name cannot be run, and what would help."""


def find(machine: Machine, path: str, guest: str, call: Call) -> list[Script]:
    """The scripts of this call. Unusable where root may not run one of them."""
    real = os.path.realpath(f"{machine.root}{path}")
    hooks = os.path.realpath(f"{machine.root}{HOOKS}")
    own = f"{hooks}/qemu.d"
    if not os.path.isdir(real):
        found = [Script(path)]
    else:
        found = [*_of_tree(machine, path, guest, call)]
        # What is in libvirt's own folder is run by libvirt, and may be libhook itself.
        found += [] if real == own else [Script(f"{path}/{name}") for name in _executable(machine, path)]
    for script in found:
        real = os.path.realpath(f"{machine.root}{script.path}")
        if real == f"{hooks}/qemu" or os.path.dirname(real) == own:  # it may be libhook: that would call itself
            raise Unusable(f"{script.path} is run by libvirt itself", "move it, to /etc/libvirt/old-hooks for example")
        if complaint := executables.complaint(machine, script.path):
            raise Unusable(*complaint)
    return found


def _of_tree(machine: Machine, path: str, guest: str, call: Call) -> Iterator[Script]:
    if not is_part_of_path(guest):
        return
    last = f"{path}/{guest}/{call.operation}/{call.suboperation}"
    if os.path.isdir(f"{machine.root}{last}"):
        # In the order of a shell's *, which leaves hidden files out.
        names = (name for name in _executable(machine, last) if not name.startswith("."))
        yield from (Script(f"{last}/{name}", in_tree=True) for name in names)
    elif _is_executable(f"{machine.root}{last}"):
        yield Script(last, in_tree=True)


def _executable(machine: Machine, folder: str) -> list[str]:
    """The names of the executable files, in byte order."""
    names = sorted(os.listdir(f"{machine.root}{folder}"), key=os.fsencode)
    return [name for name in names if _is_executable(f"{machine.root}{folder}/{name}")]


def _is_executable(path: str) -> bool:
    """As libvirt sees it (virFileIsExecutable()): links are followed, and any x will do."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def interpreter(machine: Machine, path: str) -> Sequence[str]:
    """What must run a script that the kernel cannot run, since it does not begin with ``#!``.

    The kernel says ENOEXEC of it. The hook helper is run by bash, which then reads such a file itself.
    """
    with open(f"{machine.root}{path}", "rb") as file:
        begin = file.read(_ENOUGH)
    if begin.startswith(b"#!") or b"\0" in begin:
        return ()
    return next(((shell,) for shell in _SHELLS if os.path.exists(shell)), ())

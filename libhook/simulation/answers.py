# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of the simulated effects.kernel.Kernel that changes no device: its answers to questions, and its log."""

import errno
import json
import os
from contextlib import AbstractContextManager, nullcontext

from libhook.facts.host import Trail
from libhook.simulation import store, vfio
from libhook.simulation.processes import SimulatedDescriptors, have_open


def refuse(number: int, what: str) -> OSError:
    """Return an errno as the OSError that Python raises for it."""
    return OSError(number, os.strerror(number), what)


class Answers:
    """Answers for the host in the folder ``root``."""

    root: str

    def open_exclusively(self, node: str) -> None:
        """Fail with the errno that simulation/claimed/NAME names, such as EBUSY, if that file exists."""
        claim = f"{self.root}/simulation/claimed/{os.path.basename(node)}"
        if os.path.exists(claim):
            raise refuse(getattr(errno, store.read(claim)), node)

    def open_group(self, node: str, device: str) -> None:
        """Fail with EBUSY if a process has the node of the group open, or that of one of its devices."""
        if not os.path.lexists(self.root + node):
            raise refuse(errno.ENOENT, node)
        if have_open(self.root, vfio.numbers(self.root, device)):
            raise refuse(errno.EBUSY, node)

    def processes(self) -> AbstractContextManager[str]:
        """Give the simulated /proc."""
        return nullcontext(f"{self.root}/proc")

    def descriptors(self) -> SimulatedDescriptors:
        """Return what simulated processes have open."""
        return SimulatedDescriptors(self.root)

    def expect_behind_loop(self, loop: str, _number: str) -> None:
        """Fail with the errno that simulation/loops/NAME names, else with ENODEV if backing_file is not below /dev."""
        name = os.path.basename(loop)
        answer = f"{self.root}/simulation/loops/{name}"
        if os.path.exists(answer):
            raise refuse(getattr(errno, store.read(answer)), loop)
        if not store.read(f"{self.root}/sys/block/{name}/loop/backing_file").startswith("/dev/"):
            raise refuse(errno.ENODEV, loop)

    def trail(self) -> Trail | None:
        """Return what simulation/trail says (JSON: enabled, daemon, lost), or a healthy trail if there is no file."""
        path = f"{self.root}/simulation/trail"
        if not os.path.exists(path):
            return Trail(enabled=True, daemon=1, lost=0)
        status = json.loads(store.read(path))
        return Trail(**status) if status else None

    def label(self, path: str) -> str:
        """Return the label that the policy in simulation/selinux gives a file."""
        from libhook.simulation import selinux

        return selinux.label(self.root, path)

    def ask_selinux(self, file: str, question: str) -> str:
        """Return the answer of selinuxfs, by the policy in simulation/selinux."""
        from libhook.simulation import selinux

        return selinux.ask(self.root, file, question)

    def log(self, fields: dict[str, object]) -> None:
        """Append to var/log/libhook.jsonl."""
        store.append(f"{self.root}/var/log/libhook.jsonl", fields)


def chosen(root: str, path: str, value: str) -> str:
    """Return how an attribute shows its value. One that is a choice shows all, and the chosen one in brackets."""
    words = store.read(f"{root}{path}").split()
    if not any(word[:1] == "[" and word[-1:] == "]" for word in words):
        return value
    known = [word.strip("[]") for word in words]
    if value not in known:
        raise refuse(errno.EINVAL, path)
    return " ".join(f"[{word}]" if word == value else word for word in known)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the simulated kernel is asked and nothing is changed by: half of effects.kernel.Kernel."""

import errno
import json
import os
from contextlib import AbstractContextManager, nullcontext

from libhook.facts.host import Trail
from libhook.simulation import store, vfio
from libhook.simulation.processes import SimulatedDescriptors, have_open


def refuse(number: int, what: str) -> OSError:
    """The kernel's answer as Python raises it."""
    return OSError(number, os.strerror(number), what)


class Answers:
    """Of the host in the folder ``root``."""

    root: str

    def open_exclusively(self, node: str) -> None:
        """What simulation/claimed says in a file of the node's name: an errno's name, as EBUSY."""
        claim = f"{self.root}/simulation/claimed/{os.path.basename(node)}"
        if os.path.exists(claim):
            raise refuse(getattr(errno, store.read(claim)), node)

    def open_group(self, node: str, device: str) -> None:
        """EBUSY where a process has the group's node open, or one of its devices'."""
        if not os.path.lexists(self.root + node):
            raise refuse(errno.ENOENT, node)
        if have_open(self.root, vfio.numbers(self.root, device)):
            raise refuse(errno.EBUSY, node)

    def processes(self) -> AbstractContextManager[str]:
        """The only one that there is."""
        return nullcontext(f"{self.root}/proc")

    def descriptors(self) -> SimulatedDescriptors:
        """Of simulated processes."""
        return SimulatedDescriptors(self.root)

    def expect_behind_loop(self, loop: str, _number: str) -> None:
        """What simulation/loops says in a file of its name, an errno's name; else whether its text is of /dev."""
        name = os.path.basename(loop)
        answer = f"{self.root}/simulation/loops/{name}"
        if os.path.exists(answer):
            raise refuse(getattr(errno, store.read(answer)), loop)
        if not store.read(f"{self.root}/sys/block/{name}/loop/backing_file").startswith("/dev/"):
            raise refuse(errno.ENODEV, loop)

    def trail(self) -> Trail | None:
        """What simulation/trail says (JSON: enabled, daemon, lost); a healthy trail where there is no such file."""
        path = f"{self.root}/simulation/trail"
        if not os.path.exists(path):
            return Trail(enabled=True, daemon=1, lost=0)
        status = json.loads(store.read(path))
        return Trail(**status) if status else None

    def label(self, path: str) -> str:
        """What simulation/selinux says."""
        from libhook.simulation import selinux

        return selinux.label(self.root, path)

    def ask_selinux(self, file: str, question: str) -> str:
        """The same."""
        from libhook.simulation import selinux

        return selinux.ask(self.root, file, question)

    def log(self, fields: dict[str, object]) -> None:
        """Append to var/log/libhook.jsonl."""
        store.append(f"{self.root}/var/log/libhook.jsonl", fields)

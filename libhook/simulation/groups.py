# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control groups of a simulated host on which systemd does not run, and the commands in them.

A command is a real process that does nothing. What one was given is noted as in commands.py, and how it ends is in the
same file. Of that it may also be ``deaf`` to SIGTERM, or have a child that ``leaves``: it has a session of its own.
"""

import errno
import os
import shutil
import signal
import time
from contextlib import suppress
from typing import Any, NoReturn

from libhook.children import child
from libhook.children.child import Deadline
from libhook.facts.launch import Launch
from libhook.light import partial
from libhook.simulation import commands, store
from libhook.simulation import processes as simulated
from libhook.simulation.answers import refuse

_FOREVER = 300.0
_PATIENCE = 30.0


def replace_systemd(root: str, mount: str = "sys/fs/cgroup") -> None:
    """From now on systemd does not run on this host. cgroup v2 is mounted there, unless that is ""."""
    shutil.rmtree(f"{root}/run/systemd")
    if mount:
        os.makedirs(f"{root}/{mount}")
        store.create(f"{root}/{mount}/cgroup.controllers", "cpu io memory pids\n")
        store.create(f"{root}/{mount}/cgroup.procs", "1\n")


def populated(root: str) -> list[str]:
    """The names of libhook's groups in which a process is, without their numbers."""
    folder = _folder(root)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [name.rpartition(".")[0] for name in names if processes(f"{folder}/{name}")]


def _folder(root: str) -> str:
    beside = f"{root}/sys/fs/cgroup/unified"
    return f"{beside if os.path.isdir(beside) else f'{root}/sys/fs/cgroup'}/libhook"


def processes(group: str) -> list[int]:
    """What the group's cgroup.procs shows."""
    try:
        return list(map(int, store.read(f"{group}/cgroup.procs").split()))
    except FileNotFoundError:
        return []


def start(root: str, group: str, launch: Launch) -> tuple[int, int]:
    """As Kernel.run_in_group."""
    ends = commands.ending(root, launch.argv)
    if ends.get("says"):
        raise OSError(errno.ECANCELED, ends["says"])
    begun, begins = os.pipe()
    process = child.spawn(partial(_live, root, group, launch, ends, begins), keep=begins, also=(launch.output,))
    os.close(begins)
    child.ended([begun], Deadline.after(_PATIENCE))
    os.close(begun)
    return process.pid, process.handle


def _live(root: str, group: str, launch: Launch, ends: dict[str, Any], begins: int) -> NoReturn:
    """What the command does. It has begun once ``begins`` is closed."""
    folder = f"{root}/sys/{group}.{os.getpid()}"
    _enter(root, folder)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ends.get("deaf") else lambda *_: _end(root, folder, signal.SIGTERM))
    if ends.get("leaves"):
        child.spawn(partial(_linger, root, folder)).abandon()
        while len(processes(folder)) < 2:
            time.sleep(0.01)
    unit = os.path.basename(group)
    noted = {"unit": unit, "argv": list(launch.argv), "user": launch.user, "environment": dict(launch.environment)}
    store.append(f"{root}/var/log/commands.jsonl", {**noted, "stdin": launch.document.decode()})
    if launch.output >= 0:
        os.write(launch.output, ends.get("stdout", "").encode())
    for line in filter(None, (ends.get("stderr"), ends.get("stdout") if launch.output < 0 else "")):
        store.append(f"{root}/var/log/syslog.jsonl", {"tag": launch.tag, "line": line})
    os.close(begins)
    time.sleep(ends.get("seconds", 0.0))
    _end(root, folder, status=ends.get("status", 0))


def _linger(root: str, folder: str) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _enter(root, folder)
    time.sleep(_FOREVER)
    _end(root, folder)


def _enter(root: str, folder: str) -> None:
    """As a write of 0 to cgroup.procs."""
    with store.Lock(root, "groups"):
        os.makedirs(folder, exist_ok=True)
        simulated.add(root, os.getpid(), "command")
        store.create(f"{root}/proc/{os.getpid()}/cgroup", f"0::/libhook/{os.path.basename(folder)}\n")
        _fill(root, folder, [*processes(folder), os.getpid()])


def _end(root: str, folder: str, by: int = 0, status: int = 0) -> NoReturn:
    """End this process, by a signal or with a status. The kernel takes it out of its group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with store.Lock(root, "groups"):
        _fill(root, folder, [pid for pid in processes(folder) if pid != os.getpid()])
        simulated.end(root, os.getpid())
    if by:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(status)


def _fill(root: str, folder: str, pids: list[int]) -> None:
    store.replace(root, f"{folder}/cgroup.procs", "".join(f"{pid}\n" for pid in pids))
    store.replace(root, f"{folder}/cgroup.events", f"populated {bool(pids):d}\nfrozen 0\n")
    store.create(f"{folder}/cgroup.kill", "")


def kill(root: str, path: str) -> None:
    """As a write of 1 to the group's cgroup.kill."""
    folder = f"{root}/sys/{os.path.dirname(path)}"
    with store.Lock(root, "groups"):
        if not os.path.isdir(folder):
            raise refuse(errno.ENOENT, path)
        for pid in processes(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            simulated.end(root, pid)
        _fill(root, folder, [])


def remove(root: str, group: str) -> None:
    """As rmdir(2)."""
    folder = f"{root}/sys/{group}"
    with store.Lock(root, "groups"):
        if not os.path.isdir(folder):
            raise refuse(errno.ENOENT, group)
        if processes(folder):
            raise refuse(errno.EBUSY, group)
        shutil.rmtree(folder)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sessions of a simulated host (simulation/sessions/ID, JSON), and what its processes do when they are signalled.

simulation/temper/PID has what a process does: as _TEMPER says.
"""

import errno
import os
import shutil
from typing import Any

from libhook.simulation import processes, store

_TEMPER: dict[str, Any] = {"ignores": [], "stuck": False, "comes_back": 0, "program": "", "group": ""}
"""Signals without effect; whether it sleeps in the kernel then; how often something starts it again."""
_SESSION: dict[str, Any] = {
    "user": "1000",
    "processes": [],
    "closes": [],
    "stays": False,
    "leaves": False,
    "lingering": False,
    "next": "",
}
"""Its processes and those of its user's manager; those that close the card when it ends; whether nothing ends it;
whether a process without the card is left of it; whether the manager's outlive it; the session that begins when it
ends."""


def place(root: str, pid: int, program: str = "", group: str = "", **temper: Any) -> None:  # noqa: ANN401 - as JSON has
    """Say which program a process runs, in which control group it is, and what a signal does to it."""
    os.makedirs(f"{root}/simulation/temper", exist_ok=True)
    if program:
        os.makedirs(os.path.dirname(root + program), exist_ok=True)
        if not os.path.exists(root + program):
            store.create(root + program, program)
        store.link(root + program, f"{root}/proc/{pid}/exe")
    store.create(f"{root}/proc/{pid}/cgroup", f"0::{group}\n")
    store.save(root, "temper", str(pid), {**_TEMPER, "program": program, "group": group, **temper})


def group_of(session: str, user: str = "1000") -> str:
    """The control group of a session's scope."""
    return f"/user.slice/user-{user}.slice/session-{session}.scope"


def begin(root: str, name: str, **fields: Any) -> None:  # noqa: ANN401 - as above
    """Begin a session."""
    os.makedirs(f"{root}/simulation/sessions", exist_ok=True)
    store.save(root, "sessions", name, {**_SESSION, **fields})
    _populate(root, name, fields.get("user", "1000"), populated=True)


def sit(root: str, seat: str, user: str) -> None:
    """The user's session is active on this seat; "" for nobody's."""
    os.makedirs(f"{root}/simulation/seats", exist_ok=True)
    store.save(root, "seats", seat, {"says": f"of{seat}" if user else ""})
    store.save(root, "seats", f"of{seat}", {"says": user})


def is_there(root: str, name: str) -> bool:
    """Whether the session has not ended."""
    return store.load(root, "sessions", name) is not None


def loginctl(root: str, arguments: tuple[str, ...]) -> tuple[int, str]:
    """As the program: its exit status, and its output."""
    verb, name = arguments[0], arguments[-1]
    if verb in ("show-seat", "show-session"):
        found = store.load(root, "seats", name) or {}
        return (0, f"{found['says']}\n") if found else (1, "")
    if verb == "show-user":
        own = [one for one in _names(root) if (store.load(root, "sessions", one) or {}).get("user") == name]
        return (0, f"{own[0]}\n") if own else (1, "")
    session = store.load(root, "sessions", name)
    if session is None:
        return 1, ""
    if not session["stays"]:
        _end(root, name, session)
    return 0, ""


def signal(root: str, pid: int, number: int) -> None:
    """What becomes of a process."""
    if not os.path.isdir(f"{root}/proc/{pid}"):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid))
    temper = {**_TEMPER, **(store.load(root, "temper", str(pid)) or {})}
    store.append(f"{root}/var/log/signals.jsonl", {"pid": pid, "number": number})
    if number in temper["ignores"]:
        return
    if temper["stuck"]:
        path = f"{root}/proc/{pid}/stat"
        store.create(path, store.read(path).replace(") S ", ") D "))
        return
    folder = f"{root}/proc/{pid}/fd"
    opened = [os.readlink(f"{folder}/{number}") for number in os.listdir(folder)]
    comm = store.read(f"{root}/proc/{pid}/comm").strip()
    processes.end(root, pid)
    if temper["comes_back"]:
        processes.add(root, pid + 1, comm, opened)
        temper["comes_back"] -= 1
        place(root, pid + 1, **temper)


def _end(root: str, name: str, session: dict[str, Any]) -> None:
    for pid in session["processes"]:
        managed = "user@" in store.read(f"{root}/proc/{pid}/cgroup") if os.path.isdir(f"{root}/proc/{pid}") else True
        if not (managed and session["lingering"]):
            shutil.rmtree(f"{root}/proc/{pid}/fd", ignore_errors=True)
            processes.end(root, pid)
    for pid in session["closes"]:
        processes.close_file(root, pid, "/dev/dri/card0")
    store.unlink(f"{root}/simulation/sessions/{name}")
    _populate(root, name, session["user"], populated=session["leaves"])
    if session["next"]:
        begin(root, session["next"])
        processes.add(root, 900, "greeter", ["/dev/dri/card0"])
        place(root, 900, group=group_of(session["next"]))


def _populate(root: str, name: str, user: str, *, populated: bool) -> None:
    folder = f"{root}/sys/fs/cgroup{group_of(name, user)}"
    os.makedirs(folder, exist_ok=True)
    store.create(f"{folder}/cgroup.events", f"populated {populated:d}\nfrozen 0\n")


def _names(root: str) -> list[str]:
    folder = f"{root}/simulation/sessions"
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The systemd of a simulated host, as systemctl shows it: units in simulation/units/NAME (JSON).

A stop job ends well even if the unit does not stop, as systemd's does. That of a mount that is busy fails.
"""

import contextlib
import errno
import json
import os
import time
from fnmatch import fnmatchcase
from typing import Any

from libhook.facts.host import DISPLAY_MANAGER
from libhook.simulation import processes, store

_UNIT: dict[str, Any] = {
    "names": [],
    "active": "active",
    "load": "loaded",
    "job": 0,
    "triggered_by": [],
    "required_by": [],
    "may_stop": True,
    "may_start": True,
    "transient": False,
    "file": True,
    "stop": 0.0,
    "stops": True,
    "leaves": False,
    "start": 0.0,
    "starts": True,
    "process": 0,
    "mounts": "",
    "disk": "",
}
"""What a unit has unless it says otherwise: other names; the seconds of a stop, and of a start; whether it does stop,
whether it leaves processes, and whether it can be started again; whether systemd has forgotten it; the process that
ends with it; of a mount, its line of mountinfo and the disk that is claimed meanwhile."""


def add(root: str, name: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON has
    """Add a unit that runs."""
    os.makedirs(f"{root}/simulation/units", exist_ok=True)
    store.save(root, "units", name, {**_UNIT, **fields})
    _populate(root, name, fields.get("active", "active") == "active")
    _mount(root, name)
    if DISPLAY_MANAGER in (name, *fields.get("names", ())):
        os.makedirs(f"{root}/etc/systemd/system", exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(f"/usr/lib/systemd/system/{name}", f"{root}/etc/systemd/system/{DISPLAY_MANAGER}")


def state(root: str, name: str) -> str:
    """Its ActiveState."""
    return str(_load(root, name)["active"])


def running(root: str) -> list[str]:
    """The units that run."""
    return [name for name in _names(root) if state(root, name) == "active"]


def units(root: str) -> dict[str, str]:
    """What each unit that has a file is."""
    found = {name: _load(root, name) for name in _names(root)}
    return {name: unit["active"] for name, unit in found.items() if not unit["transient"]}


def change(root: str, name: str, **fields: Any) -> None:  # noqa: ANN401 - as above
    """Somebody else does something with it."""
    store.save(root, "units", name, _load(root, name) | fields)


def shut_down(root: str) -> None:
    """Stop all units. From now on nothing is started."""
    for name in _names(root):
        change(root, name, active="inactive", job=0)
        _populate(root, name, populated=False)
    store.create(f"{root}/simulation/manager", store.to_json({**_manager(root), "SystemState": "stopping"}))


def soft_reboot(root: str, *enabled: str) -> None:
    """After that: start these units. /run, the kernel and its boot id are as they were."""
    again = {"SystemState": "running", "SoftRebootsCount": str(int(_manager(root)["SoftRebootsCount"]) + 1)}
    store.create(f"{root}/simulation/manager", store.to_json(again))
    for name in enabled:
        change(root, name, active="active")


def _manager(root: str) -> dict[str, str]:
    """systemd's own properties."""
    try:
        found: dict[str, str] = json.loads(store.read(f"{root}/simulation/manager"))
    except FileNotFoundError:
        return {"SystemState": "running", "SoftRebootsCount": "0"}
    return found


def systemctl(root: str, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
    """As the program: its exit status, and its output."""
    verb, *rest = arguments
    names = rest[rest.index("--") + 1 :]
    store.append(f"{root}/var/log/systemctl.jsonl", {"verb": verb, "names": names})
    if verb == "show" and not names:
        return 0, f"{_manager(root)[rest[0].removeprefix('--property=')]}\n"
    if verb == "show":
        return 0, _show(root, names, value="--value" in rest)
    if verb in ("cancel", "kill"):
        return 0, ""
    if verb == "start" and _manager(root)["SystemState"] == "stopping":
        return 1, ""  # its transaction is destructive
    own, late = [_own(root, one) for one in names], False
    if not all(own):
        return 5, ""  # it knows not all of them, and does nothing (EnqueueUnitJobMany, since 262)
    for name in own:
        late = not (_stop(root, name, seconds, rest) if verb == "stop" else _start(root, name, rest)) or late
    busy = verb == "stop" and any(name.endswith(".mount") and state(root, name) == "active" for name in own)
    return (errno.ETIMEDOUT if late else int(busy)), ""


def _stop(root: str, name: str, seconds: float, how: list[str]) -> bool:
    unit = _load(root, name)
    if unit["active"] not in ("active", "failed", "deactivating"):
        return True
    if unit["stop"] > seconds:
        change(root, name, active="deactivating", job=7)
        time.sleep(seconds)
        return False
    time.sleep(unit["stop"])
    if unit["stops"]:
        for other in unit["required_by"] if "--job-mode=ignore-requirements" not in how else ():
            _stop(root, other, seconds, how)
        change(root, name, active="inactive", job=0)
        _mount(root, name)
        if unit["process"]:
            processes.end(root, unit["process"])
        _populate(root, name, unit["leaves"])
    return True


def _start(root: str, name: str, how: list[str]) -> bool:
    unit = _load(root, name)
    if unit["active"] == "active":
        return True
    if name.endswith(".socket"):  # socket_start() refuses while the service runs
        woken = [one for other in _names(root) if name in (one := _load(root, other))["triggered_by"]]
        if any(one["active"] == "active" for one in woken):
            change(root, name, active="failed")
            return True
    if unit["start"] and "--no-block" in how:
        change(root, name, active="activating")
        return True
    time.sleep(unit["start"])
    change(root, name, active="active" if unit["starts"] else "failed", job=0)
    _populate(root, name, unit["starts"])
    _mount(root, name)
    return True


def _mount(root: str, name: str) -> None:
    """A mount shows in mountinfo while it is active, and its disk is claimed."""
    unit, mountinfo = _load(root, name), f"{root}/proc/self/mountinfo"
    if unit["mounts"]:
        others = [line for line in store.read(mountinfo).splitlines() if line != unit["mounts"]]
        own = [unit["mounts"]] if unit["active"] == "active" else []
        store.create(mountinfo, "".join(f"{line}\n" for line in (*others, *own)))
    if unit["disk"]:
        os.makedirs(f"{root}/simulation/claimed", exist_ok=True)
        store.unlink(f"{root}/simulation/claimed/{unit['disk']}")
        if unit["active"] == "active":
            store.create(f"{root}/simulation/claimed/{unit['disk']}", "EBUSY")


def _show(root: str, names: list[str], *, value: bool) -> str:
    blocks = []
    for name in names:
        own = [_own(root, name)] if "*" not in name else [one for one in _names(root) if fnmatchcase(one, name)]
        blocks += [_block(root, one or name, value=value) for one in own]
    return "\n".join(blocks)


def _block(root: str, name: str, *, value: bool) -> str:
    absent = _UNIT | {"load": "not-found", "active": "inactive"}
    unit = _load(root, name) if name in _names(root) else absent
    if value:
        return f"{unit['job']}\n"
    fields = {
        "Id": name,
        "LoadState": unit["load"],
        "ActiveState": unit["active"],
        "Job": unit["job"],
        "TriggeredBy": _list(unit["triggered_by"]),
        "RequiredBy": _list(unit["required_by"]),
        "BoundBy": "",
        "ConsistsOf": "",
        "RefuseManualStop": "no" if unit["may_stop"] else "yes",
        "RefuseManualStart": "no" if unit["may_start"] else "yes",
        "Transient": "yes" if unit["transient"] else "no",
        "FragmentPath": f"/etc/systemd/system/{name}" if unit["file"] and unit["load"] != "not-found" else "",
        "ControlGroup": _group(root, name),
    }
    return "".join(f"{key}={text}\n" for key, text in fields.items())


def _list(names: list[str]) -> str:
    quoted = (f'"{name.replace(chr(92), chr(92) * 2)}"' if "\\" in name else name for name in names)
    return " ".join(quoted)


def _names(root: str) -> list[str]:
    try:
        return sorted(os.listdir(f"{root}/simulation/units"))
    except FileNotFoundError:
        return []


def _own(root: str, name: str) -> str:
    """The unit's own name; "" where there is none."""
    names = _names(root)
    return name if name in names else next((one for one in names if name in _load(root, one)["names"]), "")


def _load(root: str, name: str) -> dict[str, Any]:
    found = store.load(root, "units", name)
    if found is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return found


def _populate(root: str, name: str, populated: bool) -> None:
    folder = f"{root}/sys/fs/cgroup/system.slice/{name}"
    os.makedirs(folder, exist_ok=True)
    store.create(f"{folder}/cgroup.events", f"populated {populated:d}\nfrozen 0\n")


def _group(root: str, name: str) -> str:
    """Of a unit that runs or has left processes. systemd removes the group with the last of them."""
    group = f"/system.slice/{name}"
    try:
        return group if "populated 1" in store.read(f"{root}/sys/fs/cgroup{group}/cgroup.events") else ""
    except FileNotFoundError:
        return ""

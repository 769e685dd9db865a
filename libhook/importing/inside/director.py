# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the sandbox: makes the imagined host there, runs each call of libvirt's under strace.

stdin has one JSON object (importing/sandbox.py). For each call stdout has one JSON line, and then the trace. Scripts
may do to this process what they like: what it tells is only about them, and the reader waits until a deadline.
"""

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

sys.path.insert(0, "/.libhook")

from libhook.importing.inside import reacting
from libhook.importing.inside.reacting import TRACE

SYSCALLS = (
    "execve,write,openat,open,creat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,symlink,symlinkat,"
    "link,linkat,chmod,fchmodat,fchmodat2,kill,clone,clone3,fork,vfork,connect"
)
LARGEST = 24 << 20
_LOOK, _AFTERWARDS, _LONGEST = 0.002, 500, 1500
"""What the script has left in the background may start what it wants to start: until nothing new comes in so many
looks, with so many seconds between two, and no longer than that."""


def copy_host() -> None:
    """Fill the empty folders of the sandbox from the templates."""
    for name in ("sys", "proc/sys", "proc/irq", "etc"):
        shutil.copytree(f"/.host/{name}", f"/{name}", symlinks=True, dirs_exist_ok=True)
    for name in ("system", "seats"):  # sd_booted(3): so a script asks whether systemd runs
        os.makedirs(f"/run/systemd/{name}", exist_ok=True)
    for name in os.listdir("/.host/tree") if os.path.isdir("/.host/tree") else ():
        if os.path.isdir(f"/{name}") and os.path.isdir(f"/.host/tree/{name}") and not os.path.islink(f"/{name}"):
            _merge(f"/.host/tree/{name}", f"/{name}")


def _merge(source: str, target: str) -> None:
    """Copy a tree, but for folders that cannot be written to, as /usr/lib."""
    for name in os.listdir(source):
        one, other = f"{source}/{name}", f"{target}/{name}"
        try:
            if os.path.isdir(one) and not os.path.islink(one):
                os.makedirs(other, exist_ok=True)
                _merge(one, other)
            elif not os.path.lexists(other):
                shutil.copy2(one, other, follow_symlinks=False)
        except OSError:
            continue


def run(call: "dict[str, Any]") -> "dict[str, Any]":
    """Run one call. Return how it ended."""
    with open("/.trace/stdin", "wb") as document:
        document.write(str(call["stdin"]).encode("utf-8", "surrogateescape"))
    words = [
        "/host/bin/strace",
        "-f",
        "-y",
        "-q",
        "-s",
        "2048",
        "-e",
        "signal=none",
        "--seccomp-bpf",
        "-e",
        "trace=" + ",".join(f"?{name}" for name in SYSCALLS.split(",")),  # not every machine has each
        "-o",
        TRACE,
        "--",
        *call["argv"],
    ]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C",
                   "BASH_ENV": "/.libhook/tracing.sh", "LIBHOOK_IMPORT_GUEST": str(call["guest"]),
                   "LIBHOOK_IMPORT_OPERATION": str(call["operation"])}  # fmt: skip
    until = time.monotonic() + float(str(call["seconds"]))
    with open("/.trace/stdin", "rb") as document, open("/.trace/output", "wb") as output:
        child = subprocess.Popen(words, cwd="/", env=environment, stdin=document, stdout=output, stderr=output)
        told = 0
        while time.monotonic() < until and _size(TRACE) <= LARGEST:
            time.sleep(0.002)
            told = _react(told)
            if _main_is_gone(child.pid):
                break
    ended = _main_is_gone(child.pid)
    left = [pid for pid in _others() if pid != child.pid]
    if ended and left:
        reacting.end_sleep()
        _afterwards(told, child.pid)
    for pid in _others():
        if pid != child.pid:  # strace writes its last lines when all others are gone
            _kill(pid)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return {"ended": ended, "left": len(left), "output": _read("/.trace/output", 1 << 14).decode("utf-8", "replace")}


def _afterwards(told: int, strace: int) -> None:
    looks = idle = 0
    while looks < _LONGEST and idle < _AFTERWARDS and any(pid != strace for pid in _others()):
        time.sleep(_LOOK)
        before, told = told, _react(told)
        looks, idle = looks + 1, idle + 1 if told == before else 0


def _react(told: int) -> int:
    """React to what strace has written since, and tell who waits for that. Return how much of it is read."""
    asked = glob.glob(f"{reacting.ASKED}.*")  # before the trace is read: what they wait for is in it
    try:
        with open(TRACE, "rb") as file:
            file.seek(told)
            piece = file.read(1 << 20)
    except OSError:
        piece = b""
    piece = piece[: piece.rfind(b"\n") + 1]
    reacting.react(piece.decode("utf-8", "replace"))
    for path in asked:
        if os.path.lexists(path):
            os.unlink(path)
    return told + len(piece)


def _main_is_gone(strace: int) -> bool:
    """Whether the script itself has ended: strace has no child any more, or is gone itself.

    At first it has none either. Once it has written a line, it had one.
    """
    try:
        begun = _size(TRACE) > 0
        with open(f"/proc/{strace}/task/{strace}/children", encoding="ascii") as file:
            children = file.read().split()
            return not children and (begun or _is_zombie(strace))
    except OSError:
        return True


def _is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[:1] == ["Z"]


def _others() -> "list[int]":
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, 2, os.getpid())]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _read(path: str, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def main() -> None:
    """Run all calls."""
    job = json.load(sys.stdin)
    copy_host()
    for call in job["calls"]:
        reacting.begin()
        end = run(call)
        trace = _read(TRACE, LARGEST)
        end["size"] = len(trace)
        os.write(1, json.dumps(end).encode() + b"\n")
        while trace:
            trace = trace[os.write(1, trace) :]
        for name in ("trace", "output", "stdin"):
            if os.path.lexists(f"/.trace/{name}"):
                os.unlink(f"/.trace/{name}")


if __name__ == "__main__":
    main()

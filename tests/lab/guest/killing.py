# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL to a call of the hook."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from calls import HOOK
from guests import Guest
from host import PATIENCE


def kill_hook(guest: Guest, operation: str) -> None:
    """Kill the launcher and its Python, but no child: one that writes has a session of its own, and outlives them."""
    while pids := [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if is_hook(folder, guest, operation)]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_hook(process: Path, guest: Guest, operation: str) -> bool:
    """Whether it is this call of the hook itself."""
    try:
        named = f"\0{guest.name}\0{operation}\0".encode() in (process / "cmdline").read_bytes()
        return named and os.getsid(int(process.name)) != int(process.name)
    except (FileNotFoundError, ProcessLookupError):
        return False


def cut(guest: Guest, operation: str, extra: str, after: float) -> bool:
    """Call the hook, and kill it after so many seconds; whether it was not through by then."""
    order = [HOOK, guest.name, operation, "end" if operation == "release" else "begin", extra]
    with subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as hook:
        assert hook.stdin
        hook.stdin.write(guest.xml.encode())
        hook.stdin.close()
        time.sleep(after)
        kill_hook(guest, operation)
        return hook.wait(PATIENCE) != 0

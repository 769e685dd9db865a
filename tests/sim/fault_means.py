# SPDX-License-Identifier: LGPL-2.1-or-later
"""How one call of the hook is hampered by who calls it: a closed stream, a signal."""

import fcntl
import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from cases import NIC
from family import Begun, descendants, program, until
from scenario import Host

from libhook.simulation import faults
from libhook.simulation.guests import Guest

STREAMS = [closed for count in range(1, 4) for closed in itertools.combinations((0, 1, 2), count)]
_NAMES = ("stdin", "stdout", "stderr")
_PATIENCE = 300


def name_of(closed: tuple[int, ...]) -> str:
    """``stdin+stderr``."""
    return "+".join(_NAMES[stream] for stream in closed)


Launch = Callable[[list[str], bytes, Mapping[str, str]], tuple[int, bytes, bytes]]
"""Arguments, stdin and environment of the launcher; its exit code, stdout and stderr."""


def launch_without(closed: tuple[int, ...]) -> Launch:
    """Whoever calls has closed these streams."""
    return partial(_launch_without, closed)


def _launch_without(
    closed: tuple[int, ...], command: list[str], document: bytes, environment: Mapping[str, str]
) -> tuple[int, bytes, bytes]:
    def close() -> None:
        for stream in closed:
            os.close(stream)

    done = subprocess.run(
        command,
        input=None if 0 in closed else document,
        capture_output=True,
        env=environment,
        preexec_fn=close,
        timeout=2 * _PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def launch_and_signal(host: Host, guest: Guest, operation: str, number: int, *, launcher_only: bool) -> Launch:
    """While the device is without a driver, or where none is moved, while the hook waits for the guest's lock."""

    def launch(command: list[str], document: bytes, environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
        go = Path(host.root, "go")
        with ExitStack() as stack:
            go.unlink(missing_ok=True)
            if operation in ("prepare", "release"):
                faults.inject(host.root, faults.Fault("write */unbind *", after=(("wait", "go"),)))
                stack.callback(faults.heal, host.root)
            else:
                lock = os.open(f"{host.machine.state}/locks/domain-{guest.uuid}", os.O_RDWR | os.O_CREAT)
                unlock = stack.enter_context(ExitStack())
                unlock.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
            hook = stack.enter_context(
                # Who runs the tests may have it ignored.
                Begun(command, environment, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
            )
            hook.begin_with(document)
            if operation in ("prepare", "release"):
                mark = Path(host.machine.state, "in-flight", NIC)
                until(lambda: host.driver(NIC).startswith("none") and mark.exists())
            else:
                until(lambda: waits(python(hook.pid)))
            for pid in (hook.pid,) if launcher_only else (hook.pid, python(hook.pid)):
                os.kill(pid, number)
            go.touch()
            if operation not in ("prepare", "release"):
                unlock.close()
            return hook.go_on()

    return launch


def waits(pid: int) -> bool:
    """Whether it waits for a lock: it looks, sleeps, and looks again. Nothing else before that sleeps for a time."""
    with suppress(OSError):
        return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    return False


def python(launcher: int) -> int:
    """The one below it that runs Python, not what that forked (setsid), once there is one."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in descendants(launcher) if "python" in program(pid)]
        return found != []

    until(is_there)
    return found[0]

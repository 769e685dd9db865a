# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever calls may have closed a stream, go away, or send a signal in the middle of it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aftermath import recover, wrong
from amounts import QUICK
from cases import NIC
from scenario import LAUNCHER, Host, guest, reap

from libhook.simulation import faults
from libhook.simulation.hosts import nic

STREAMS = [closed for count in range(4) for closed in itertools.combinations((0, 1, 2), count)]
_MAIN = "from libhook.cli import main; main()"
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def _closing(closed: tuple[int, ...]) -> Callable[[], None]:
    def close() -> None:
        for stream in closed:
            os.close(stream)

    return close


def _run(host: Host, command: list[str], closed: tuple[int, ...], document: bytes = b"") -> int:
    """Its exit code; a traceback on whatever is left of its streams is a failure."""
    done = subprocess.run(
        command,
        input=None if 0 in closed else document,
        capture_output=True,
        env={**ENVIRONMENT, "LIBHOOK_ROOT": host.root},
        preexec_fn=_closing(closed),
        timeout=60,
        check=False,
    )
    assert reap(10)
    assert b"Traceback" not in done.stderr + done.stdout
    return done.returncode


@pytest.mark.parametrize("closed", STREAMS[:: 3 if QUICK else 1], ids=str)
def test_the_hook_lives_with_closed_streams(root: str, closed: tuple[int, ...]) -> None:
    """What it opens gets their numbers, and is not written to by mistake. Without stdin there is no document."""
    host = Host(root, nic(), launcher=True)
    one = guest(NIC)
    for operation in ("prepare", "start", "started", "release"):
        over = operation == "release"
        arguments = [one.name, operation, "end" if over else "begin", "shutdown" if over else "-"]
        document = one.xml(-1 if over else 1, operation != "prepare")
        refused = 0 in closed and operation in ("prepare", "start")
        assert _run(host, [str(LAUNCHER), *arguments], closed, document) == refused
        if operation == "started":
            assert host.driver(NIC) == ("e1000e" if 0 in closed else "vfio-pci")
    recover(host)
    assert wrong(host) == []


@pytest.mark.parametrize("closed", STREAMS[:: 3 if QUICK else 1], ids=str)
def test_the_command_lives_with_closed_streams(root: str, closed: tuple[int, ...]) -> None:
    """A service may start it so: the device comes back, and its exit code says that."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    host.libvirt.restart()
    command = [sys.executable, "-c", f"import sys; sys.path[0] = {str(LAUNCHER.parents[1])!r}\n{_MAIN}"]
    assert _run(host, [*command, "status"], closed) == 0
    assert _run(host, [*command, "recover"], closed) == 0
    assert wrong(host) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("operation", ["prepare", "release"])
def test_a_signal_in_the_middle_is_settled_by_whoever_comes_next(root: str, operation: str, number: int) -> None:
    """As when the host shuts down: the write that was on its way ends, and the rest is undone."""
    host = Host(root, nic(), launcher=True)
    one = guest(NIC)
    if operation == "release":
        for before in ("prepare", "start", "started"):
            assert host.event(one, before).code == 0
    faults.behave(root, "devices", NIC, remove=0.5)
    arguments = [one.name, operation, "begin", "-"]
    with subprocess.Popen(
        [LAUNCHER, *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "LIBHOOK_ROOT": root},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # whoever runs the tests may have it ignored
    ) as hook:
        assert hook.stdin is not None
        hook.stdin.write(one.xml(1, operation != "prepare"))
        hook.stdin.close()
        mark = Path(host.machine.state, "in-flight", NIC)
        _eventually(lambda: host.driver(NIC).startswith("none") and mark.exists())
        below = _python_below(hook.pid)
        for pid in (hook.pid, below):
            os.kill(pid, number)
        code = hook.wait(30)
        said = hook.stderr.read() if hook.stderr else b""
    assert code == (1 if operation == "prepare" else 0)
    line = f"libhook was ended by signal {int(number)} before it was done: start the guest again\n"
    assert said.decode() == (line if operation == "prepare" else "")
    assert reap(10)
    faults.behave(root, "devices", NIC, remove=None)
    assert host.event(one, "release", "failed").code == 0
    recover(host)
    assert wrong(host) == []


def _eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def _python_below(pid: int) -> int:
    """The one of a process's descendants that runs Python, not what it forked (setsid)."""
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for child in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
            if "python" in os.readlink(f"/proc/{child}/exe"):
                return child
            waiting.append(child)
    raise ProcessLookupError

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever calls the command may have closed a stream; what then becomes of the hook is in docs/faults.md."""

import signal
import subprocess
import sys

import pytest
from aftermath import wrong
from amounts import SAMPLED
from cases import NIC
from family import environment
from fault_means import STREAMS, launch_without, name_of
from launcher import SHELLS
from scenario import LAUNCHER, Host, guest, reap

from libhook.simulation.hosts import nic

_MAIN = "from libhook.cli import main; main()"


@pytest.mark.parametrize("closed", STREAMS[:: 3 if SAMPLED else 1], ids=name_of)
def test_the_command_lives_with_closed_streams(root: str, closed: tuple[int, ...]) -> None:
    """A service may start it so: the device comes back, and its exit code says that."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    host.libvirt.restart()
    command = [sys.executable, "-c", f"import sys; sys.path[0] = {str(LAUNCHER.parents[1])!r}\n{_MAIN}"]
    for what, ends in (("status", 1), ("recover", 0)):  # a dead guest has the device until then
        code, out, said = launch_without(closed)([*command, what], b"", environment(root))
        assert (code, b"Traceback" in out + said) == (ends, False)
        assert reap(60)
    assert wrong(host) == []


@pytest.mark.parametrize("how", ["recover", "hook", *SHELLS])
def test_libhook_lives_where_its_caller_ignores_the_ends_of_children(root: str, how: str) -> None:
    """A program that ignores SIGCHLD hands that on, and the kernel then buries children before we see them.

    The launcher's shell may hand it on as well, as bash does.
    """
    host = Host(root, nic())
    host.begin(guest(NIC))
    host.libvirt.restart()
    command = [*how.split(), str(LAUNCHER)] if how in SHELLS else [sys.executable, "-m", "libhook", how]
    event = [] if how == "recover" else [guest(NIC).name, "release", "end", "shutdown"]
    done = subprocess.run(
        [*command, *event],
        input=guest(NIC).xml(-1),
        cwd=LAUNCHER.parents[1],
        env=environment(root),
        capture_output=True,
        timeout=600,
        check=False,
        restore_signals=False,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert reap(60)
    assert host.driver(NIC) == "e1000e"
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"]

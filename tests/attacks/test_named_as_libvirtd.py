# SPDX-License-Identifier: LGPL-2.1-or-later
"""Anybody may call a process libvirtd. Taken for the daemon, it would keep what the dead left from coming back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libhook.facts.machine import Machine
from libhook.look import libvirtd
from libhook.look.linux import LinuxKernel

pytestmark = pytest.mark.race

NOBODY = 65534


@contextmanager
def a_process(name: str, uid: int) -> Iterator[int]:
    """A real one of this name and user."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        try:
            Path("/proc/self/comm").write_text(name)
            os.setresuid(uid, uid, uid)
            os.close(read)
            os.write(write, b"!")
        finally:
            while True:
                os.read(os.pipe()[0], 1)
    os.close(write)
    try:
        assert os.read(read, 1) == b"!"
        yield pid
    finally:
        os.close(read)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("name", ["libvirtd", "virtqemud"])
def test_only_roots_is_the_daemon(tmp_path: Path, name: str) -> None:
    """A session daemon of a user's has the name, too."""
    machine = Machine(str(tmp_path), LinuxKernel())
    for uid in {os.geteuid(), NOBODY if os.geteuid() == 0 else os.geteuid()}:
        with a_process(name, uid) as pid:
            (tmp_path / "proc").mkdir(exist_ok=True)
            (tmp_path / f"proc/{pid}").symlink_to(f"/proc/{pid}")
            assert libvirtd.any_lives(machine) is (uid != NOBODY)
            assert libvirtd.find(machine) == (pid if uid != NOBODY else libvirtd.NOT_KNOWN)
            (tmp_path / f"proc/{pid}").unlink()

# SPDX-License-Identifier: LGPL-2.1-or-later
"""hooks/qemu in a tree of its own, as it is installed, so that a test may break what it wants."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cases import NIC
from family import environment
from scenario import LAUNCHER, Host, guest, reap

from libhook.simulation.hosts import nic

OPERATIONS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach")
VETOES = ("prepare", "start")
SHELLS = ("/bin/dash", "/bin/bash", "/bin/busybox ash", "/bin/mksh")
"""What /bin/sh is on some distribution, each as it stands after ``#!``."""
WITH_DEVICE = guest(NIC).xml(1)
WITHOUT = guest().xml(1)


def put(path: Path, lib: Path, *changes: tuple[str, str]) -> Path:
    """Our hook, as install.sh puts it there, or changed so: each old text stands in it once."""
    text = LAUNCHER.read_text()
    for old, new in (("lib=${0%/*}/.. #", f"lib={lib} #"), *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Launcher:
    """A copy of the launcher whose Python leaves a trace, in a tree of its own that may be broken."""

    def __init__(self, root: str, shell: str) -> None:
        """``root`` is a simulated host; the copy stands beside it and is run by this ``shell``."""
        self.root = root
        self.folder = Path(root) / "usr" / "local" / "lib" / "libhook"
        self.path = Path(root) / "etc" / "libvirt" / "hooks" / "qemu"
        self.trace = Path(root) / "python-ran"
        python = Path(root) / "usr" / "bin" / "python3"
        for folder in (python.parent, self.folder):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            LAUNCHER.parents[1] / "libhook", self.folder / "libhook", ignore=shutil.ignore_patterns("__pyc*")
        )
        python.write_text(f'#!/bin/sh\n: >"{self.trace}"\nexec /usr/bin/python3 "$@"\n')
        python.chmod(0o755)
        put(self.path, self.folder, ("#!/bin/sh", f"#!{shell}"), ("/usr/bin/python3", str(python)))
        self.python = python

    def run(self, *arguments: str, stdin: bytes = b"", dry_run: bool = False) -> "subprocess.CompletedProcess[bytes]":
        """One call."""
        command = [str(self.path), *arguments]
        own = environment(self.root) | ({"LIBHOOK_DRY_RUN": "1"} if dry_run else {})
        done = subprocess.run(command, input=stdin, capture_output=True, env=own, timeout=600, check=False)
        assert reap(60)
        return done

    def event(self, operation: str, xml: bytes) -> "subprocess.CompletedProcess[bytes]":
        """One event of a guest's."""
        return self.run("win11", operation, "begin", "-", stdin=xml)

    @property
    def python_ran(self) -> bool:
        """Whether Python was started since the last time that was asked."""
        ran = self.trace.exists()
        self.trace.unlink(missing_ok=True)
        return ran


def installed(root: str, request: pytest.FixtureRequest) -> Launcher:
    """One on a host with one card; for a fixture, whose parameter may be the shell."""
    Host(root, nic(), launcher=True)
    return Launcher(root, getattr(request, "param", "/bin/sh"))


in_each_shell = pytest.mark.parametrize("launcher", SHELLS, indirect=True)

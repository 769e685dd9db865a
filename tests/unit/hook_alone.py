# SPDX-License-Identifier: LGPL-2.1-or-later
"""hooks/qemu with a script in the place of Python."""

import os
import shlex
import subprocess
import time
from pathlib import Path

from amounts import SAMPLED
from launcher import SHELLS, WITH_DEVICE, put

from libhook.errors import LIMITS
from libhook.simulation.guests import Guest

IN_SHELLS = SHELLS[:: 3 if SAMPLED else 1]
"""Each in turn; in a quick run the most usual one and the most unusual."""
UUID, OTHER = Guest().uuid, "11111111-2222-3333-4444-555555555555"
UNABLE = f"the hook cannot be started, because no process can be created or /dev/null cannot be opened: {LIMITS}\n"
BROKEN = "libhook itself does not run (python3 ended with status {}): libhook status shows why, install.sh repairs it\n"


class Hook:
    """A copy of the launcher, whose Python is a script."""

    def __init__(self, folder: Path, shell: str) -> None:
        """Nobody has a journal entry, and Python says nothing and ends well."""
        self.path, self.python, self.lib = folder / "hooks/qemu", folder / "python3", folder / "lib"
        self.entries = folder / "run/libhook/domains"
        self.noted = folder / "runs"
        self._folder = folder
        for made in (self.lib, self.entries):
            made.mkdir(parents=True)
        put(self.path, self.lib, ("#!/bin/sh", f"#!{shell}"), ("/usr/bin/python3", str(self.python)))
        self.answer()

    def answer(self, status: int = 0, said: str = "", *more: str) -> None:
        """Let Python say this on stderr and end so, after ``more`` commands."""
        self.python.write_text(
            f'#!/bin/sh\ncd {self._folder}\nprintf "%s\\0" "$@" >words\ncat >document\necho >>runs\necho printed\n'
            + "\n".join((*more, f"printf %s {shlex.quote(said)} >&2", f"exit {status}\n"))
        )
        self.python.chmod(0o755)

    def settings(self, *files: str) -> Path:
        """Make the folder of the settings, with these files, ten seconds old."""
        folder = self._folder / "etc/libhook"
        (folder / "config.d").mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).touch()
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (time.time() - 10,) * 2)
        return folder

    def serves(self, *names: str, age: float = 5.0) -> None:
        """Let Python have left this list of who is served, so many seconds ago."""
        served = self._folder / "run/libhook/served"
        served.write_text("".join(f"{name}\n" for name in names))
        os.utime(served, (time.time() - age,) * 2)

    def call(
        self, operation: str, xml: bytes = WITH_DEVICE, dry_run: str | None = None, name: str = "win11"
    ) -> tuple[int, str]:
        """One event: the exit status, and what is said. Nothing ever comes out of stdout."""
        done = subprocess.run(
            [self.path, name, operation, "begin", "-"],
            input=xml,
            capture_output=True,
            env=self.environment if dry_run is None else {**self.environment, "LIBHOOK_DRY_RUN": dry_run},
            timeout=600,
            check=False,
        )
        assert done.stdout == b""
        return done.returncode, done.stderr.decode()

    @property
    def environment(self) -> dict[str, str]:
        """Of somebody who means no good: nothing of ours may begin with what it says."""
        ours = ("refused", "devices", "known", "cut", "uuid", "xml", "said", "status", "reason", "begin", "line", "lib",
                "served", "settings", "found", "file", "name", "state")  # fmt: skip
        return {**dict.fromkeys(ours, "yes"), "PATH": "/opt/bin", "LIBHOOK_ROOT": str(self._folder)}

    @property
    def runs(self) -> int:
        """How often Python was started since that was asked."""
        count = len(self.noted.read_text()) if self.noted.exists() else 0
        self.noted.unlink(missing_ok=True)
        return count

    def read(self, name: str) -> bytes:
        """What Python was given: its ``words``, or the ``document``."""
        return (self._folder / name).read_bytes()

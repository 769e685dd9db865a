# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ``libhook`` command at a terminal, and a host whose desktop uses what guests could have."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from scenario import LAUNCHER, Host

from libhook.simulation import processes
from libhook.simulation.hosts import workstation

ROOT = Path(__file__).parents[2]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from libhook.cli import main; main()"


def typed(host: Host, *arguments: str, width: int = 80, program: tuple[str, ...] = (), **more: str) -> str:
    """What it writes to a terminal of this width; there both stdout and stderr end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {"LIBHOOK_ROOT": host.root, "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", **more}
    command = (sys.executable, *(program or ("-m", "libhook")), *arguments)
    process = subprocess.Popen(command, cwd=LAUNCHER.parents[1], env=environment, stdin=its, stdout=its, stderr=its)
    os.close(its)
    found = b""
    try:
        while part := os.read(ours, 1 << 16):
            found += part
    except OSError:  # EIO: nobody has the terminal open any more
        pass
    os.close(ours)
    process.wait(60)
    return found.decode().replace("\r\n", "\n")


def group_of(session: str, user: str = "1000") -> str:
    """The control group of a session's scope."""
    return f"/user.slice/user-{user}.slice/session-{session}.scope"


def desktop_session(root: str, pid: int) -> None:
    """The process is of a session that gdm has begun."""
    for number, name, parent, group in (
        (700, "gdm3", 1, "/system.slice/gdm.service"),
        (701, "gdm-session-wor", 700, group_of("2")),
    ):
        processes.add(root, number, name, parent=parent)
        processes.place(root, number, group=group)
    processes.place(root, pid, group=group_of("2"))


def desktop(root: str) -> Host:
    """A workstation whose desktop is on the GPU, and whose disk is mounted."""
    host = Host(root, workstation())
    with open(f"{root}/proc/self/mountinfo", "a") as mounts:
        mounts.write("40 22 259:1 / /data rw - xfs /dev/nvme0n1 rw\n")
    processes.add(root, 812, "Xorg", ("/dev/dri/card0",))
    return host

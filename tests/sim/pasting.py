# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cuts the command out of a refusal, and pastes it on a simulated host."""

import os
import re
import shlex
import subprocess

from command import libhook
from scenario import Host


def cut(line: str) -> str:
    """What is to be pasted: all that follows the one ``run:``."""
    _, command = line.split(" run: ")
    return command


def paste(host: Host, line: str) -> None:
    """Do it on this host. What only a kernel or a daemon could do, the simulated ones do."""
    command = cut(line)
    if command.startswith("libhook "):
        assert libhook(host, *shlex.split(command)[1:]).code == 0
    elif command.startswith(("systemctl start auditd", "auditctl -e 1", "kill -CONT ")):
        os.unlink(f"{host.root}/simulation/trail")
    elif "/sys/" in command:
        folder = re.findall(r"cd (\S+) &&", command)
        for value, path in re.findall(r"echo (\S* ?)>(\S+?)\)?(?: |$)", command):
            whole = f"{folder[0]}/{path}" if folder else path
            host.somebody_writes(whole.removeprefix("/sys/"), value.strip() or "\n")
    else:
        here = re.sub(r"(?<![\w/.])/(?=etc/|usr/)", f"{host.root}/", command)
        subprocess.run(["/bin/sh", "-euc", here], check=True, env={"PATH": "/usr/bin:/bin"}, cwd=host.root)

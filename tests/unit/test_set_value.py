# SPDX-License-Identifier: LGPL-2.1-or-later
"""What root writes to a file that the settings name: only below /sys and /proc/sys, and whole."""

import errno
import os
import re
from pathlib import Path

import pytest

from libhook.look.linux import LinuxKernel

KERNEL = LinuxKernel()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc/passwd", errno.EPERM),
        ("/sys/../etc/passwd", errno.EPERM),
        ("/proc/self/comm", errno.EPERM),
        ("/sys/no/such/attribute", errno.ENOENT),
        ("/sys/class/net/lo", errno.ELOOP),
    ],
)
def test_a_value_is_written_to_no_other_file(path: str, code: int) -> None:
    """Only below /sys and /proc/sys, and to no link."""
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        KERNEL.set_value(path, "x")


@pytest.mark.parametrize("taken", ["7", "77"])
def test_a_value_is_set_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    """In one write(2); a part of it is no success."""
    (tmp_path / "swappiness").touch()
    file = os.open(tmp_path / "swappiness", os.O_WRONLY)
    monkeypatch.setattr(os, "open", lambda path, _flags: {"/proc/sys/vm/swappiness": file}[path])
    monkeypatch.setattr(os, "write", lambda _file, content: len(content[: len(taken)]))
    if taken == "77":
        KERNEL.set_value("/proc/sys/vm/swappiness", "10")
    else:
        with pytest.raises(OSError, match="Input/output error"):
            KERNEL.set_value("/proc/sys/vm/swappiness", "10")

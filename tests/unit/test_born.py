# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever starts the tests, their processes are born alike."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_ASKS = """
import json, os, signal
print(json.dumps([sorted(map(int, os.listdir("/proc/self/fd"))), signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN,
                  os.umask(0), sorted(set(os.environ) - {"LC_CTYPE"})]))
"""
_BEGINS = "import born, subprocess, sys; born.as_usual(); subprocess.run(sys.argv[1:], close_fds=False, check=True)"


def _oddly() -> None:
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    os.umask(0o077)


def test_nothing_of_who_started_them_is_left(tmp_path: Path) -> None:
    """A descriptor, a signal that nohup or a shell ignores, a umask, a locale and colours."""
    with (tmp_path / "another's").open("w") as other:
        done = subprocess.run(
            [sys.executable, "-c", _BEGINS, sys.executable, "-c", _ASKS],
            env={"PYTHONPATH": str(_TESTS), "LC_TIME": "de_DE.UTF-8", "NO_COLOR": "1", "COLUMNS": "20"},
            pass_fds=[other.fileno()],
            preexec_fn=_oddly,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
    listing = 3  # what lists them
    assert json.loads(done.stdout) == [[0, 1, 2, listing], False, 0o022, ["LC_ALL", "PYTHONPATH"]]

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever starts the tests, their processes are born alike."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import termios
from pathlib import Path

import born

_TESTS = Path(__file__).parents[1]
_BEGINS = """
import born, signal, subprocess, sys, time
born.as_usual()
if signal.getsignal(signal.SIGINT) != signal.default_int_handler or time.tzname[0] == "CALLER":
    sys.exit("not by itself")
subprocess.run(sys.argv[1:], close_fds=False, check=True)
"""
_ASKS = """
grep -E '^Sig(Blk|Ign)' /proc/self/status
for limit in n s c f t d v; do ulimit -S -$limit; done
umask
for link in /proc/$$/fd/*; do echo ${link##*/}; done
: </dev/tty || echo no terminal
env | sort
"""
_ODD = {
    "LANG": "tr_TR",
    "LANGUAGE": "tr",
    "LC_TIME": "de_DE.UTF-8",
    "LC_ALL": "tr_TR.ISO-8859-9",
    "TZ": "CALLER-14",
    "TERM": "dumb",
    "COLUMNS": "20",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
    "PAGER": "false",
    "XDG_DATA_DIRS": "/nowhere",
    "XDG_CONFIG_HOME": "/nowhere",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "GIT_DIR": "/nowhere",
    "BASH_ENV": "/nowhere",
    "POSIXLY_CORRECT": "1",
    "LIBVIRT_DEFAULT_URI": "test:///nowhere",
    "LIBHOOK_ROOT": "/nowhere",
    "LIBHOOK_DRY_RUN": "1",
}
_FOR_ALL = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def _oddly(terminal: int) -> None:
    """Ignore and block each signal, as a child of that terminal, with few of everything."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY)
    for number in _FOR_ALL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_ALL)
    os.umask(0o077)
    for limit, soft in (("NOFILE", 64), ("STACK", 1 << 20), ("CORE", 1 << 20), ("FSIZE", 1 << 20), ("CPU", 600)):
        which = getattr(resource, f"RLIMIT_{limit}")
        resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
    for which in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        resource.setrlimit(which, (1 << 32, resource.getrlimit(which)[1]))


def test_nothing_of_who_started_them_is_left(tmp_path: Path) -> None:
    """Signals ignored and blocked, a umask, limits, a locale, descriptors, a terminal, variables; under nohup, too."""
    master, terminal = os.openpty()
    begins = [sys.executable, "-c", _BEGINS, "bash", "-c", _ASKS]
    try:
        with (tmp_path / "another's").open("w") as other:
            done = subprocess.run(
                ["nohup", "bash", "-c", '"$@"; exit $?', "bash", *begins],  # bash leads the session, and dash unblocks
                env={"PYTHONPATH": str(_TESTS), "PATH": "/usr/bin:/bin", **_ODD},
                pass_fds=[other.fileno()],
                preexec_fn=lambda: _oddly(terminal),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                text=True,
            )
    finally:
        os.close(master)
        os.close(terminal)
    assert done.returncode == 0, done.stderr
    none = "0" * 16
    of_bash = ("PWD=", "OLDPWD=", "SHLVL=", "_=")
    assert [line for line in done.stdout.splitlines() if not line.startswith(of_bash)] == [
        f"SigBlk:\t{none}",
        f"SigIgn:\t{none}",
        *("1024", "8192", "0", *["unlimited"] * 4),
        "0022",
        *("0", "1", "2", "3"),  # the last is what lists them
        "no terminal",
        "LC_ALL=C.UTF-8",
        "PATH=/usr/bin:/bin",
        f"PYTHONPATH={_TESTS}",
    ]


def test_a_limit_that_cannot_be_had_is_as_near_as_it_may_be() -> None:
    """Who starts the tests may have set the most."""
    ask = "import born, resource; born.as_usual(); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    command = ["bash", "-c", 'ulimit -n 200; exec "$@"', "bash", sys.executable, "-c", ask]
    environment = {**born.environment(), "PYTHONPATH": str(_TESTS)}
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"(200, 200)\n"

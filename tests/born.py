# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the processes of the tests are born with, whoever starts them: a shell in the background, nohup, a service."""

import os
import resource
import signal
from contextlib import suppress

_SIGNALS = tuple(getattr(signal, f"SIG{name}") for name in ("HUP", "INT", "QUIT", "ALRM", "TERM", "CHLD", "USR1"))
_OF_A_TERMINAL = ("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "LANG", "LANGUAGE")
_FILES = 1024


def as_usual() -> None:
    """Set what some would have otherwise: signals, umask, limits, descriptors, the locale and the terminal."""
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:  # a shell starts what runs in the background so
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES if most == resource.RLIM_INFINITY else min(_FILES, most), most))
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            with suppress(OSError):  # that of the folder
                os.set_inheritable(descriptor, False)
    for name in [name for name in os.environ if name in _OF_A_TERMINAL or name.startswith("LC_")]:
        del os.environ[name]
    os.environ["LC_ALL"] = "C.UTF-8"

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the processes of the tests are born with, whoever starts them: a shell in the background, nohup, a service.

How much of the machine they get stays as it is (nice, oom_score_adj, cgroup): no test looks at that, and who gives a
run less wants it to have less.
"""

import fcntl
import os
import resource
import signal
import termios
import time
from contextlib import suppress

_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
"""Python ignores them whatever it is born with (Python/pylifecycle.c), and subprocess gives its children the usual."""
_ENDLESS = resource.RLIM_INFINITY
_LIMITS = {
    resource.RLIMIT_NOFILE: 1024,
    resource.RLIMIT_STACK: 8 << 20,  # a quarter is for arguments (execve(2))
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: _ENDLESS,
    resource.RLIMIT_CPU: _ENDLESS,
    resource.RLIMIT_DATA: _ENDLESS,
    resource.RLIMIT_AS: _ENDLESS,
}
_KEPT = {"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "PYTHONPATH", "CI"}
"""Where things are, and for pytest that nobody is there to ask it for the rest of a message."""
_KEPT_ALL = ("LIBHOOK_", "PYTEST_")
_OF_LIBHOOK = {"LIBHOOK_ROOT", "LIBHOOK_DRY_RUN", "LIBHOOK_AGAIN"}
"""What libhook itself reads."""


def environment(kept_all: tuple[str, ...] = _KEPT_ALL) -> dict[str, str]:
    """Return of this process's variables those that may go on, and the locale. No TZ: a test's processes have none.

    ``kept_all`` is how names begin of which all may.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(kept_all) or name.lower().endswith("_proxy")  # the lab is fetched by it
    }
    return {name: value for name, value in kept.items() if name not in _OF_LIBHOOK} | {"LC_ALL": "C.UTF-8"}


def as_usual() -> None:
    """Set what some would have otherwise: signals, umask, limits, descriptors, terminal and environment."""
    for number in signal.valid_signals() - _OF_PYTHON:
        if signal.getsignal(number) == signal.SIG_IGN:  # a shell starts what runs in the background so
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    for limit, usual in _LIMITS.items():
        _, most = resource.getrlimit(limit)
        for soft in (usual, most):
            with suppress(ValueError):  # it is above the most
                resource.setrlimit(limit, (soft, most))
                break
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            with suppress(OSError):  # that of the folder
                os.set_inheritable(descriptor, False)
    with suppress(OSError), open("/dev/tty", "rb", buffering=0) as terminal:
        if os.getsid(0) != os.getpid():  # Ctrl-C still reaches us, since the group is the same (drivers/tty, no_tty)
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
    plain = environment()
    os.environ.clear()
    os.environ.update(plain)
    time.tzset()

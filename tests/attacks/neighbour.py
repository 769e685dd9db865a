# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process of a user without any right; where the tests do not run as root, of who runs them."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

NOBODY = 65534
_NEW_MOUNTS, _PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS, MS_REC | MS_PRIVATE
_LONGEST = 300
"""Seconds after which it ends by itself, should the test have been killed."""


def _say(sender: int) -> None:
    os.write(sender, b".")


@contextmanager
def neighbour(task: Callable[[Callable[[], None]], None], *, private: bool = False) -> Iterator[int]:
    """Its pid, once ``task`` has called the function that it is given; it ends with the block.

    ``private``: it is root still, and its mounts are its own. So is tried what a user can do in a user namespace, also
    where he may have none.
    """
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(_LONGEST)
            if private:
                ctypes.CDLL(None).unshare(_NEW_MOUNTS)
                ctypes.CDLL(None).mount(None, b"/", None, _PRIVATE, None)
            elif os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            task(partial(_say, sender))
            time.sleep(_LONGEST)
        finally:
            os._exit(1)
    os.close(sender)
    try:
        assert os.read(receiver, 1) == b".", "it ended before it was ready"
        yield pid
    finally:
        os.close(receiver)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

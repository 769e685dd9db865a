# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handles Ctrl-C and SIGTERM while a device is plugged. They end the wait for libvirt; elsewhere they are remembered.

All other work has its own deadline. To stop it half way is worse than to finish it or never to begin.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from libhook.errors import DeadlineExpired, Refused

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Catches both signals inside its ``with``. The process ends soon after."""

    def __init__(self) -> None:
        """Start with no signal seen."""
        self._came = False
        self._waiting = False

    def __enter__(self) -> Self:
        """Catch the signals."""
        self._before = [signal.signal(number, self._hear) for number in _NUMBERS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the handlers from before."""
        for number, before in zip(_NUMBERS, self._before, strict=True):
            signal.signal(number, before)

    def begin(self, *, plugs: bool) -> None:
        """Note that a question to libvirt comes next, and forget earlier signals.

        Raises Refused if a signal has come and the question would plug a device in or out (``plugs``).
        """
        if plugs and self._came:
            raise Refused("interrupted before libvirt was asked")
        self._came = False

    @contextmanager
    def waiting(self, leave: Callable[[], None]) -> Iterator[None]:
        """Let a signal end the wait for the answer, by DeadlineExpired. If one came since ``begin``, call ``leave``."""
        self._waiting = True
        try:
            if self._came:
                leave()
                self._hear()
            yield
        finally:
            self._waiting = False

    def _hear(self, *_: object) -> None:
        self._came = True
        if self._waiting:
            raise DeadlineExpired("interrupted before libvirtd answered")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C and SIGTERM while a device is plugged: they end the wait for libvirt, and are kept in mind elsewhere.

Whatever else is done has its deadline, and half of it is worse than all of it or none.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from libhook.errors import DeadlineExpired, Refused

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """From its ``with`` on; the process ends soon after."""

    def __init__(self) -> None:
        """None has come."""
        self._came = False
        self._waiting = False

    def __enter__(self) -> Self:
        """Hear them."""
        self._before = [signal.signal(number, self._hear) for number in _NUMBERS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave them to whoever had them before."""
        for number, before in zip(_NUMBERS, self._before, strict=True):
            signal.signal(number, before)

    def begin(self, *, plugs: bool) -> None:
        """Something is about to be asked. Refused where one has come, and it has a device plugged in or out."""
        if plugs and self._came:
            raise Refused("interrupted, before libvirt was asked")
        self._came = False

    @contextmanager
    def waiting(self, leave: Callable[[], None]) -> Iterator[None]:
        """Let one end the wait for the answer: DeadlineExpired. One that came since ``begin`` has ``leave`` called."""
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
            raise DeadlineExpired("interrupted, before libvirtd answered")

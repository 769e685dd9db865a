# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs several sequences of steps that may hang, side by side in one thread, until one deadline.

A sequence, or track, is a generator. It yields a Step, which a child of its own does, or an Order, which its Worker
does, and is sent the errno (0: done). Or it yields a Pause. When the deadline passes, Late is thrown into the track
where it waits. What the track returns then is its result.
"""

from __future__ import annotations

import errno
import os
import time

from libhook.children import child
from libhook.children.child import Child, Deadline
from libhook.children.worker import Worker
from libhook.light import TYPE_CHECKING, NamedTuple, contextmanager, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, TypeVar


class Step(NamedTuple):
    """Work that may never return, for a child of its own.

    ``in_flight`` is the path of the lock that says that it is on its way, if any.
    """

    task: Callable[[], None]
    in_flight: str | None = None
    unmarked: bool = False
    """Do the step even if that lock's file cannot be opened."""
    keep: int = -1
    """One more descriptor that the step needs."""
    looks: bool = False
    """The step only looks at something that does not hang with a device. If it is late, nothing is on its way."""

    def begin(self) -> Child:
        """Start the child."""
        return child.spawn(self.task, self.in_flight, self.keep, unmarked=self.unmarked)

    def clean(self) -> None:
        """Once the child has ended: remove the lock's file."""
        if self.in_flight is not None:
            with suppress(OSError):
                os.unlink(self.in_flight)


class Order(NamedTuple):
    """A call that may never return, for a Worker (see Worker.begin)."""

    worker: Worker
    function: Callable[..., None]
    arguments: tuple[str, ...] = ()
    looks: bool = False
    """As in Step."""

    def begin(self) -> Worker:
        """Tell the worker."""
        self.worker.begin(self.function, self.arguments, looks=self.looks)
        return self.worker

    def clean(self) -> None:
        """Nothing: Worker.abandon removes the lock's file."""


class Pause(NamedTuple):
    """Seconds to wait before going on."""

    seconds: float


class Late(Exception):
    """The deadline has passed. ``on_its_way``: a step has not returned, and may still take effect."""

    def __init__(self, on_its_way: bool) -> None:
        """``on_its_way`` says whether a child is left behind."""
        super().__init__()
        self.on_its_way = on_its_way


if TYPE_CHECKING:
    Result = TypeVar("Result")
    Track = Generator[Step | Order | Pause, int, Result]


class Paper(NamedTuple):
    """A file in memory that a step may write to, and what it has written by now."""

    descriptor: int
    """For ``Step.keep``."""

    def lines(self) -> list[str]:
        """The complete lines."""
        return child.lines_of(self.descriptor)


@contextmanager
def paper() -> Iterator[Paper]:
    """Make a Paper for one step."""
    descriptor = os.memfd_create("paper")
    try:
        yield Paper(descriptor)
    finally:
        os.close(descriptor)


def run(tracks: Iterable[Track[Result]], deadline: Deadline) -> list[Result]:
    """Run the tracks; return their results in the same order."""
    results: dict[int, Result] = {}
    at_work: dict[int, tuple[int, Track[Result], Any, Step | Order]] = {}
    asleep: list[tuple[float, int, Track[Result]]] = []
    ready: list[tuple[int, Track[Result], int | None]] = [(number, track, None) for number, track in enumerate(tracks)]
    while ready or at_work or asleep:
        for number, track, answer in ready:
            try:
                request = next(track) if answer is None else track.send(answer)
                while not isinstance(request, Pause):
                    if not deadline.left:
                        results[number] = _end(track, Late(on_its_way=False))
                        break
                    try:
                        worker = request.begin()
                    except OSError as error:  # no child could be started, or an earlier write is still on its way
                        request = track.send(error.errno or errno.EAGAIN)
                    else:
                        at_work[worker.handle] = (number, track, worker, request)
                        break
                else:
                    asleep.append((time.monotonic() + request.seconds, number, track))
            except StopIteration as end:
                results[number] = end.value
        ready = []
        if not at_work and not asleep:
            break
        wake = min((at for at, _, _ in asleep), default=deadline.at)
        for handle in child.ended(at_work, Deadline(min(wake, deadline.at))):
            number, track, worker, work = at_work.pop(handle)
            ready.append((number, track, worker.result()))
            work.clean()
        now = time.monotonic()
        ready += [(number, track, 0) for at, number, track in asleep if at <= now]
        asleep = [entry for entry in asleep if entry[0] > now]
        if not deadline.left and not ready:
            for number, track, worker, work in at_work.values():
                worker.abandon()
                results[number] = _end(track, Late(on_its_way=not work.looks))
            for _, number, track in asleep:
                results[number] = _end(track, Late(on_its_way=False))
            break
    return [results[number] for number in sorted(results)]


def _end(track: Track[Result], late: Late) -> Result:
    """Tell a track that it is late, and return its result. The track may not yield anything more."""
    try:
        track.throw(late)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise RuntimeError("a track yields more after its deadline")

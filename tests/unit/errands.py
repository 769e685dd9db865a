# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls for a worker to make, and what asks for them."""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

from libhook.children.child import Deadline
from libhook.children.tracks import Late, Order, Pause, Step, run
from libhook.children.worker import Worker
from libhook.facts.machine import Machine
from libhook.simulation.kernel import SimulatedKernel

MACHINE = Machine("", SimulatedKernel(""))
Track = Generator[Step | Order | Pause, int, list[int]]


def note(_machine: Machine, output: int, path: str, text: str = "") -> None:
    """Write who it is and what it was given, here and there."""
    Path(path).write_text(f"{os.getpid()} {text}", encoding="utf-8", errors="surrogateescape")
    os.write(output, f"{text}\n".encode(errors="surrogateescape"))


def fail(_machine: Machine, _output: int, code: str) -> None:
    """Fail with this errno."""
    raise OSError(int(code), "told to")


def crash(_machine: Machine, _output: int) -> None:
    """Fail with something else."""
    raise KeyError


def end(_machine: Machine, _output: int) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_machine: Machine, _output: int, begun: str, go: str) -> None:
    """Return only when this file is there, or when the test has failed long ago."""
    Path(begun).touch()
    late = Deadline.after(600)
    while not Path(go).exists() and late.left:
        time.sleep(0.005)


def until(condition: object) -> None:
    """Wait for this."""
    deadline = Deadline.after(200)
    while not condition():  # type: ignore[operator]
        assert deadline.left
        time.sleep(0.005)


def do(worker: Worker, *orders: tuple[object, ...], seconds: float = 200) -> list[int]:
    """Have the worker make these calls; -1 stands for one that is late and on its way, -2 for one that is not."""

    def track() -> Track:
        codes = []
        try:
            for function, *arguments in orders:
                codes.append((yield Order(worker, function, tuple(arguments))))  # type: ignore[arg-type]
        except Late as late:
            return [*codes, -1 if late.on_its_way else -2]
        return codes

    return run([track()], Deadline.after(seconds))[0]


def look(worker: Worker, path: str) -> Track:
    """Have it note something, as a call that only looks."""
    return [(yield Order(worker, note, (path,), looks=True))]

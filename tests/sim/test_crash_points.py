# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hook, attach and detach are killed at each of their effects; whoever comes next leaves the host as it began.

In the ordinary run at every point of one device's life that makes a difference to anybody, with two of those who may
come next, in turn, and at some points of the longer lives (in the quick run at one of four of all these); in the long
run every point with every comer, before and after, by os._exit and by SIGKILL.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from aftermath import recover
from amounts import AMOUNTS, FULL, QUICK
from cases import NIC
from crash_lives import LIVES
from scenario import Host, guest

from libhook.simulation.hosts import nic

_HERE = Path(__file__).parent
_EVERY = {
    "one device, taken": 1,
    "one device, given back": 1,
    "one device, not waited for": 1,
    "one of a group of three": 25,
    "eight devices": 60,
}
_OFTEN = 12


def _outcomes(life: str) -> list[tuple[str, list[str]]]:
    """Each point of a life, and what was wrong in the end, from a process of its own."""
    every = 1 if FULL else _EVERY.get(life, _OFTEN) * AMOUNTS.crashes
    command = [sys.executable, str(_HERE / "crash_lives.py"), life, "full" if FULL else "bounded", str(every)]
    environment = {**os.environ, "PYTHONPATH": f"{_HERE.parents[1]}:{_HERE.parent}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        operation, point, comer, problems = json.loads(line)
        found.append((f"{life}: {operation}, {point}, then {comer}", problems))
    assert done.returncode == 0, done.stderr
    return found


def _plugged(verb: str) -> list[tuple[str, list[str]]]:
    """The same of ``libhook attach`` or ``detach``."""
    every = 1 if FULL else AMOUNTS.crashes
    command = [sys.executable, str(_HERE / "crash_plugs.py"), verb, str(every), "full" if FULL else "bounded"]
    environment = {**os.environ, "PYTHONPATH": f"{_HERE.parents[1]}:{_HERE.parent}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ends = map(json.loads, done.stdout.splitlines())
    return [(f"{verb}, {point}, then {comer}", problems) for point, comer, problems in ends]


def test_every_crash_point_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """Drivers, overrides and /run/libhook are as they began, or the second guest has the device; the trail is true."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        plugged = pool.map(_plugged, ("attach", "detach"))
        outcomes = [one for ends in (*pool.map(_outcomes, LIVES), *plugged) for one in ends]
    failed = {point: problems for point, problems in outcomes if problems}
    with capsys.disabled():
        print(f"\ncrash points: {len(outcomes) - len(failed)} of {len(outcomes)} survived")
    assert failed == {}
    assert len(outcomes) > (30 if QUICK else 150)


def test_recover_in_a_loop_beside_starts_takes_nothing(root: str) -> None:
    """Whatever moment of a start it meets, what is alive stays as it is, and every start succeeds."""
    host = Host(root, nic())
    one = guest(NIC)
    with _recovering(host) as times:
        for _ in range(AMOUNTS.beside):
            begun = host.libvirt.start(one)
            assert begun.error == ""
            assert host.driver(NIC) == "vfio-pci"
            assert [held.phase for held in host.outcomes[-1].journal.values()] == ["started"]
            host.libvirt.stop(one.name, "shutdown")
            assert host.changed == []
    assert sum(times) >= AMOUNTS.beside
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"] * AMOUNTS.beside
    recover(host)
    assert host.leftovers == []


@contextmanager
def _recovering(host: Host) -> Iterator[list[int]]:
    """Run recover again and again meanwhile, in a process that is nobody's child; afterwards how often it ended."""
    times: list[int] = []
    until, stop = os.pipe()
    told, tell = os.pipe()
    if os.fork() == 0:
        os.close(stop)
        os.set_blocking(until, False)
        count = 0
        try:
            if os.fork() == 0:
                while _is_open(until):
                    recover(host)
                    count += 1
                os.write(tell, str(count).encode())
        finally:
            os._exit(0)
    os.wait()
    os.close(until)
    os.close(tell)
    try:
        yield times
    finally:
        os.close(stop)
        with os.fdopen(told) as answer:
            times.append(int(answer.read() or 0))


def _is_open(end: int) -> bool:
    try:
        return os.read(end, 1) != b""
    except BlockingIOError:
        return True

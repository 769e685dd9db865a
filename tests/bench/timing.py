# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times commands with hyperfine, turn about, so that a busy machine is busy for all of them."""

import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import join
from typing import NamedTuple

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_PATIENCE = 20.0


class Sample(NamedTuple):
    """Seconds: by the clock, of the processors (user and system), and by the clock when it was disturbed least."""

    wall: float
    cpu: float
    best: float


Case = Callable[[], Sample]


def medians(cases: Mapping[str, Case], rounds: int, note: Callable[[str], None] = lambda _: None) -> dict[str, Sample]:
    """Each case once a round; the first round warms the caches and does not count."""
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        note(f"{next(iter(cases))}: round {number} of {rounds}")
        for name, case in cases.items():
            sample = case()
            if number:
                samples[name].append(sample)
    return {
        name: Sample(
            statistics.median(one.wall for one in all_),
            statistics.median(one.cpu for one in all_),
            min(one.best for one in all_),
        )
        for name, all_ in samples.items()
    }


def timed(
    command: Sequence[str | Path], stdin: Path, environment: Mapping[str, str] | None = None, runs: int = 1
) -> Sample:
    """Run it ``runs`` times; what it leaves behind, as a child that writes the log, is waited for and not counted."""
    with tempfile.NamedTemporaryFile(prefix="libhook-bench-", suffix=".json") as answer:
        options = ["-N", f"--runs={runs}", "--style=none", f"--input={stdin}", f"--export-json={answer.name}"]
        done = subprocess.run(
            ["hyperfine", *options, join(map(str, command))],
            capture_output=True,
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            check=False,
        )
        if done.returncode:
            sys.exit(f"bench: {join(map(str, command))}: {done.stderr.decode(errors='replace').strip()}")
        result = json.load(answer)["results"][0]
    reap()
    return Sample(statistics.median(result["times"]), result["user"] + result["system"], min(result["times"]))


def adopt_orphans() -> None:
    """What a timed command leaves behind becomes a child of this process."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def reap() -> None:
    """Wait for every child."""
    until = time.monotonic() + _PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.002)


def machine() -> dict[str, object]:
    """What the figures were taken on, and how busy it was."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    version = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True)
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": version.stdout.split()[1],
        "load": round(os.getloadavg()[0], 2),
    }

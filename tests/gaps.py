# SPDX-License-Identifier: LGPL-2.1-or-later
"""Notes when the machine stood still, or was so busy that nobody got a turn: noise, and no fault of a test.

As a program: ``python3 tests/gaps.py FILE`` appends a line for each gap, until it is ended or its parent is gone.
"""

import os
import sys
import time
from pathlib import Path

_TICK = 0.2
LEAST = 1.0
"""Seconds without a tick that are a gap."""


def note(path: str) -> None:
    """Tick, and note each tick that comes too late: when it came, and for how many seconds there was none."""
    parent, last = os.getppid(), time.monotonic()
    while os.getppid() == parent:
        time.sleep(_TICK)
        now = time.monotonic()
        if now - last > LEAST:
            with open(path, "a") as file:
                file.write(f"{time.strftime('%FT%TZ', time.gmtime())} {now - last:.1f}\n")
        last = now


def told(path: Path) -> str:
    """What the file says, in a line."""
    gaps = [float(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []
    if not gaps:
        return f"the machine never stood still for more than {LEAST:g} s"
    return f"the machine stood still {len(gaps)} times, {sum(gaps):.0f} s in all, {max(gaps):.0f} s at most: {path}"


if __name__ == "__main__":
    note(sys.argv[1])

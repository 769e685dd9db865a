# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the bench's parts share: a step timed and checked, a command run, medians."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from calls import at_work
from host import driver_of, wait_for

Step = Callable[[], object]
Medians = tuple[float, float, float]


def three_medians(times: Sequence[tuple[float, float]]) -> Medians:
    """Of the first step, of the second, and of both, in milliseconds."""
    columns = ([one for one, _ in times], [two for _, two in times], [one + two for one, two in times])
    first, second, both = (round(statistics.median(column) * 1000, 1) for column in columns)
    return first, second, both


def timed(step: Step, drivers: dict[str, str]) -> float:
    """Seconds for one step, which must leave each card on its driver."""
    began = time.perf_counter()
    step()
    took = time.perf_counter() - began
    for card, driver in drivers.items():
        if driver_of(card) != driver:
            sys.exit(f"{card} is on {driver_of(card)}, not on {driver}")
    # What udev does with the cards, and libhook with its log, is not to be in the way of whoever comes next.
    run(["udevadm", "settle", "--timeout=600"])
    wait_for("the end of libhook's children", lambda: not at_work())
    return took


def run(command: list[str], text: bytes | None = None) -> None:
    """Run to the end, and fail with what it said."""
    done = subprocess.run(command, input=text, capture_output=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr.decode(errors='replace')}")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a time is linear in what others can make large, on a machine of any speed.

Only `tests/run --all` asks: other programs on the machine cost processor time, too.
"""

import resource
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def grows_with(size: Callable[[int], _T], cost: Callable[[_T], float], large: int, small: int = 0) -> None:
    """Four times the text takes about four times as long, not sixteen: eight is halfway between them.

    A large text costs more a byte than a small one that fits in the processor's caches. So the line is not at four.
    Without ``small`` the small one is a quarter of the large one.
    """
    small = small or large // 4
    times = large / small
    made = [size(small), size(large)]
    least = [cost(each) for each in made]
    for _ in range(4):  # the least of several is what it takes by itself
        if least[1] <= times**1.5 * least[0]:
            return
        least = [min(so_far, cost(each)) for so_far, each in zip(least, made, strict=True)]
    raise AssertionError(f"{times} times as much takes {least[1] / least[0]:.1f} times as long")


def is_linear(cost: Callable[[int], float], least: int, ratio: float = 1.7) -> None:
    """Four and sixteen times as many take about four and sixteen times as long, by what one and four times have added.

    What it costs with none at all is in each of the three, and drops out.
    """
    times = [float("inf")] * 3
    for measured in range(4):
        times = [min(so_far, cost(least * size)) for so_far, size in zip(times, (1, 4, 16), strict=True)]
        first, second = times[1] - times[0], times[2] - times[1]
        if measured and second <= 4 * ratio * max(first, _FLOOR):  # measured once, the first may be too long by chance
            return
    raise AssertionError(f"{least} take {times[0]:.3f} s, 4 times as many {times[1]:.3f}, 16 times {times[2]:.3f}")


_FLOOR = 0.02
"""Seconds. What takes less is not told from the noise of a busy machine."""


def used() -> float:
    """The processor time of this process so far, and of its children that have ended."""
    own, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime

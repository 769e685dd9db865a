# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a time is linear in what others can make large, on a machine of any speed.

Only `tests/run --all` asks: other programs on the machine cost processor time, too.
"""

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

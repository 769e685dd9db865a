# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a time is linear in what others can make large, on a machine of any speed."""

from collections.abc import Callable

from amounts import AMOUNTS


def grows_with(
    size: Callable[[int], bytes],
    cost: Callable[[bytes], float],
    small: int = AMOUNTS.text // 4,
    large: int = AMOUNTS.text,
) -> None:
    """Four times the text takes about four times as long, not sixteen: eight is halfway between them.

    A large text costs more a byte than a small one that fits in the processor's caches. So the line is not at four.
    """
    times = large / small
    texts = [size(small), size(large)]
    least = [cost(text) for text in texts]
    for _ in range(4):  # the least of several is what it takes by itself
        if least[1] <= times**1.5 * least[0]:
            return
        least = [min(so_far, cost(text)) for so_far, text in zip(least, texts, strict=True)]
    raise AssertionError(f"{times} times the text takes {least[1] / least[0]:.1f} times as long")

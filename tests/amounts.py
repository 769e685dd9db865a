# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much of the same a run plays: ``quick``, ``short``, ``all`` or ``long``, as LIBHOOK_TEST_PROFILE says.

What is proved is the same in each. A quick and a short run play a sample of it, so that they end soon. The sample of a
quick run is always the same. LIBHOOK_TEST_SEED chooses that of a short one.
"""

import os
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")
PROFILE = os.environ.get("LIBHOOK_TEST_PROFILE", "short")
SEED = int(os.environ.get("LIBHOOK_TEST_SEED", "0"))


class Amounts(NamedTuple):
    """Of one run."""

    examples: int
    """Generated inputs for each test that has some."""
    inputs: int
    """That a whole run generates together, at least; numbers, which have nothing to attack, are not among them."""
    starts: int
    """That fifty guests make at once."""
    beside: int
    """Starts beside a recover that runs in a loop."""
    crashes: int
    """One of so many crash points is played, times what each test says. With 0 every one is."""
    faults: int
    """One of so many faults of docs/faults.md is played."""
    variants: int
    """One of so many variants of a test on the simulated host is played."""
    upgraded: int = 200
    """Lives of a guest across upgrades."""


_SAMPLE = Amounts(20, 500, starts=50, beside=10, crashes=12, faults=12, variants=8, upgraded=6)
_LONG = Amounts(examples=4_100, inputs=100_000, starts=1_000, beside=100, crashes=1, faults=1, variants=1)
AMOUNTS = {
    "quick": _SAMPLE,
    "short": _SAMPLE,
    "all": _LONG._replace(examples=90, inputs=2_000),
    "long": _LONG,
}[PROFILE]
if os.environ.get("LIBHOOK_TEST_CRASHES") == "every":
    AMOUNTS = AMOUNTS._replace(crashes=0)
FULL = PROFILE == "long" and AMOUNTS.crashes == 0
"""Whether each crash point is played with everybody who may come next, and before and after."""
SAMPLED = PROFILE in ("quick", "short")
REST = not SAMPLED
"""Whether the tests with the marker ``rest`` are played."""


def offset(of: str, every: int) -> int:
    """Return where a sample of one of ``every`` so many begins: by the seed, and by what it is a sample ``of``."""
    return zlib.crc32(f"{SEED} {of}".encode()) % every


def sample(items: Sequence[_T], every: int, of: str) -> Sequence[_T]:
    """Return one of ``every`` so many items, and at least one."""
    return items[offset(of, min(every, len(items) or 1)) :: every]

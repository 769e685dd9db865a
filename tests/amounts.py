# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much of the same a run plays: LIBHOOK_TEST_PROFILE is ``quick``, ``default`` or ``long``, as tests/run sets it.

What is proved is the same in each; a quick run takes fewer samples of it, so that it ends soon.
"""

import os
from typing import NamedTuple

PROFILE = os.environ.get("LIBHOOK_TEST_PROFILE", "default")


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
    """One of so many crash points is played."""
    faults: int
    """One of so many faults of docs/faults.md is played."""
    variants: int
    """One of so many variants of a test on the simulated host is played."""
    upgraded: int = 200
    """Lives of a guest across upgrades."""
    text: int = 50_000_000
    """Bytes of the largest XML that each shell is given."""


_LONG = Amounts(examples=4_100, inputs=100_000, starts=1_000, beside=100, crashes=1, faults=1, variants=1)
AMOUNTS = {
    "quick": Amounts(20, 500, starts=50, beside=10, crashes=12, faults=12, variants=8, upgraded=6, text=1_000_000),
    "default": _LONG._replace(examples=90, inputs=2_000),
    "long": _LONG,
}[PROFILE]
FULL = PROFILE == "long"
QUICK = PROFILE == "quick"
REST = bool(os.environ.get("LIBHOOK_TEST_REST"))
"""Whether the tests with the marker ``rest`` are played."""

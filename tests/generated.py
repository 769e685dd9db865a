# SPDX-License-Identifier: LGPL-2.1-or-later
"""Counts the inputs that are generated for tests, so that a run can say how many there were."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from hypothesis import given
from hypothesis.strategies import SearchStrategy

Kind = Literal["XML", "configuration", "state", "arguments", "names", "numbers"]
COUNTS: Counter[str] = Counter()
TRACEBACKS = "tracebacks"
_ELSE = ("numbers", TRACEBACKS)
Test = Callable[..., None]


def generated(kind: Kind, *strategies: SearchStrategy[Any]) -> Callable[[Test], Test]:
    """As hypothesis.given, and each input counts as one of that kind; one that raises, as a traceback too."""

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def counted(*arguments: object, **named: object) -> None:
            COUNTS[kind] += 1
            try:
                test(*arguments, **named)
            except Exception:
                COUNTS[TRACEBACKS] += 1
                raise

        return given(*strategies)(counted)

    return decorate


def total() -> int:
    """Of all kinds together, but numbers."""
    return sum(number for kind, number in COUNTS.items() if kind not in _ELSE)


def summary() -> str:
    """``generated inputs: 2,040 (XML 600, …), 0 tracebacks``."""
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in sorted(COUNTS.items()) if kind not in _ELSE)
    return f"generated inputs: {total():,} ({kinds}), {COUNTS[TRACEBACKS]} tracebacks"

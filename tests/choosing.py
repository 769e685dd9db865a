# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of the collected tests a run plays: without the marker ``rest``, and a sample of a test's variants."""

from collections import Counter
from collections.abc import Callable

import pytest
from amounts import REST, offset


def choose(config: pytest.Config, items: list[pytest.Item], every: Callable[[str], int]) -> None:
    """Leave the others out, unless the command line names tests. Of a test's variants one of ``every`` is played."""
    if not is_whole(config):
        return
    played = [item for item in items if REST or not item.get_closest_marker("rest")]
    variants, seen = Counter(map(_function, played)), Counter[str]()
    kept = set[pytest.Item]()
    for item in played:
        function = _function(item)
        step = every(function)
        if (seen[function] - offset(function, min(step, variants[function]))) % step == 0:
            kept.add(item)
        seen[function] += 1
    if left := [item for item in items if item not in kept]:
        items[:] = [item for item in items if item in kept]
        config.hook.pytest_deselected(items=left)


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def is_whole(config: pytest.Config) -> bool:
    """Whether no test was left out by the command line."""
    everywhere = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return everywhere and not (config.option.keyword or config.option.markexpr or config.option.collectonly)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two and three guests that share a thing begin and end in every order, and one of these acts is killed anywhere.

In the ordinary run at one of a few points, in the quick run at one of many, in the long run at all of them.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from amounts import AMOUNTS, FULL, QUICK
from shared_crashes import FOLDS, orders

_HERE = Path(__file__).parent
_EVERY = {"ab": 4, "abc": 20}
"""Of an ordinary run: a prime to the three ways in which a crash goes on."""
_PLAYS = [(guests, fold) for guests in _EVERY for fold in FOLDS if not QUICK or guests == "ab" or fold == "together"]


def _outcomes(play: tuple[str, str]) -> list[tuple[str, list[str]]]:
    """Each point, and what was wrong, from a process of its own."""
    guests, fold = play
    every = 1 if FULL else _EVERY[guests] * AMOUNTS.crashes
    first = _PLAYS.index(play) * every // len(_PLAYS)
    command = [sys.executable, str(_HERE / "shared_crashes.py"), guests, fold, str(first), str(every)]
    environment = {**os.environ, "PYTHONPATH": f"{_HERE.parents[1]}:{_HERE.parent}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(f"{fold}: {where}", problems) for where, problems in map(json.loads, done.stdout.splitlines())]


def test_there_is_each_order_in_which_guests_may_come_and_go() -> None:
    """Two of two ends among two begins; the names of those who begin say nothing."""
    assert [" ".join(f"{what[0]}{name}" for what, name in order) for order in orders("ab")] == [
        "ba ea bb eb",
        "ba bb ea eb",
        "ba bb eb ea",
    ]
    assert len(orders("abc")) == 15


def test_every_crash_point_of_a_claim_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever lives has what all want together; once all are gone it is as it began, and no file is left."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = [one for ends in pool.map(_outcomes, _PLAYS) for one in ends]
    failed = {point: problems for point, problems in outcomes if problems}
    with capsys.disabled():
        print(f"\ncrash points of claims: {len(outcomes) - len(failed)} of {len(outcomes)} survived")
    assert failed == {}
    assert sum(", then " in point for point, _ in outcomes) > (5 if QUICK else 50)
    assert sum(" late " in point for point, _ in outcomes) > (1 if QUICK else 20)

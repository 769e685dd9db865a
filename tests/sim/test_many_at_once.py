# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many guests at once, each start and stop in processes of its own: no device has two owners, and none is leaked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from amounts import AMOUNTS

pytestmark = pytest.mark.race

_HERE = Path(__file__).parent
_GUESTS = 50
_STARTS = AMOUNTS.starts
_TOGETHER = 3
"""Times as long as one guest alone that four may take: one after the other they would take four times as long."""
_MEASUREMENTS = 4
_PATIENCE = 600
"""Seconds after which it is a deadlock."""


def _crowd(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(_HERE / "crowd.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{_HERE.parents[1]}:{_HERE.parent}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _wrong(report: dict[str, Any]) -> dict[str, Any]:
    return {what: count for what, count in report.items() if what.startswith("wrong")}


def test_fifty_guests_want_one_another_s_devices(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is given all it asked for, or refused because another has it, with recover running all the while."""
    report = _crowd("overlapping", _GUESTS, _STARTS, 1)
    with capsys.disabled():
        print(
            f"\nmany at once: {_GUESTS} guests, {_STARTS} starts, {report['started']} started, "
            f"{report['refused']} refused, {len(report['left'])} leaked, {report['seconds']:.1f} s"
        )
    assert _wrong(report) == {}
    assert report["left"] == []
    assert report["started"] + report["refused"] == _STARTS
    assert min(report["started"], report["refused"], report["recovered"]) > 0


def test_guests_with_different_devices_do_not_wait_for_one_another() -> None:
    """None finds a lock taken."""
    report = _crowd("disjoint", 8, 2, 0)
    assert _wrong(report) == {}
    assert (report["started"], report["waited for a lock"], report["left"]) == (16, 0, [])


@pytest.mark.rest
def test_four_guests_start_as_fast_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """With drivers that take their time."""
    # A machine that is busy with something else may spoil one measurement; guests that wait spoil each.
    ratios: list[float] = []
    while not ratios or (min(ratios) >= _TOGETHER and len(ratios) < _MEASUREMENTS):
        alone, together = (_crowd("disjoint", guests, 1, 0.4) for guests in (1, 4))
        assert (alone["started"], together["started"]) == (1, 4)
        ratios.append(together["seconds"] / alone["seconds"])
    with capsys.disabled():
        print(f"\ndisjoint guests: 4 at once take {min(ratios):.1f} times as long as 1")
    assert min(ratios) < _TOGETHER

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures for tests of handlers (libhook.testing), for every pytest where libhook is installed.

It imports nothing of libhook until a test asks for a fixture.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libhook.testing import Host, Outcome


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--libhook-regenerate``: golden plans are what comes out now."""
    text = "write the plans that golden_plan compares with anew; git diff shows what that changes"
    parser.getgroup("libhook").addoption("--libhook-regenerate", action="store_true", help=text)


@pytest.fixture
def simulated_host() -> "Iterator[Host]":
    """A simulated workstation, with a NIC, a graphics card and an NVMe disk. It is gone after the test."""
    from libhook.simulation.build import scratch
    from libhook.testing import Host

    folder = scratch()
    yield Host(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def golden_plan(request: pytest.FixtureRequest) -> "Callable[[Outcome], None]":
    """Compares an outcome's plan with plans/FILE.TEST.txt beside the test's file."""
    from libhook.testing import golden

    calls = itertools.count(1)

    def compare(outcome: "Outcome") -> None:
        test = request.node.nodeid.partition("::")[2]
        path = golden.place(request.path, test, next(calls))
        golden.compare(outcome.plan, path, regenerate=request.config.getoption("--libhook-regenerate"))

    return compare

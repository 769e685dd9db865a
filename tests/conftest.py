# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every test has: a number of generated inputs, and a check that none leaves a file descriptor open."""

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from amounts import AMOUNTS, PROFILE
from hypothesis import HealthCheck, settings

from libhook.simulation.build import build, scratch
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.world import World

# No deadline: the machine that runs the tests may be busy. Ordinary runs repeat the same inputs, so that
# main does not turn red by chance; `tests/run --long` looks for new ones.
for _profile in ("quick", "default"):
    settings.register_profile(_profile, deadline=None, derandomize=True, database=None, max_examples=AMOUNTS.examples)
settings.register_profile(
    "long",
    deadline=None,
    max_examples=AMOUNTS.examples,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
_PR_SET_CHILD_SUBREAPER = 36
settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--regenerate``: the golden plans are what comes out now; git diff shows what that changes."""
    parser.addoption("--regenerate", action="store_true", help="write tests/data/plans anew")


def _open_descriptors() -> dict[str, str]:
    """Give each open descriptor of this process with what it is open on."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[link.name] = os.readlink(link)
        except FileNotFoundError:
            continue  # the one that reads the folder
    return found


@pytest.fixture(autouse=True)
def _no_descriptor_left_open() -> Iterator[None]:
    """Fail a test after which a file, lock or pipe is still open."""
    before = _open_descriptors()
    yield
    left = {
        number: target
        for number, target in _open_descriptors().items()
        if before.get(number) != target and not target.startswith("socket:")  # the journal's, kept on purpose
    }
    assert not left, f"left open: {left}"


@pytest.fixture
def root() -> Iterator[str]:
    """Give an empty folder for a simulated host; with it goes whatever hangs there on purpose."""
    folder = scratch()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    # A test that waits for what the launcher left behind makes orphans its children; the next one must not have them.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def make() -> Iterator[Callable[[World], SimulatedKernel]]:
    """Build hosts and give their kernels. When a folder goes, so does what a writer of a failed test waits for."""
    roots = []

    def made(world: World) -> SimulatedKernel:
        roots.append(scratch())
        build(roots[-1], world)
        return SimulatedKernel(roots[-1])

    yield made
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)

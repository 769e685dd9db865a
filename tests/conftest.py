# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every test has: a number of generated inputs, and a check that none leaves a file descriptor open."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import born
import lines  # noqa: F401 - before libhook: it counts the lines that run
import overdue
import pytest
from _pytest.terminal import TerminalReporter
from amounts import AMOUNTS, PROFILE
from choosing import choose, is_whole
from generated import COUNTS, summary, total
from hypothesis import HealthCheck, settings
from scenario import Host, adopt_orphans
from trail_writing import History, zone
from watch_play import Watched

from libhook.children import child
from libhook.children.child import Deadline
from libhook.simulation.build import build, scratch
from libhook.simulation.hosts import workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.simulation.world import World

_REPEATED: tuple[str, ...] = ("tests/sim/",)
if PROFILE == "short":
    _REPEATED += ("tests/attacks/", "tests/test_install.py")
_LOST = pytest.StashKey[bool]()
"""A worker died, and what it has generated is not known."""
ROOT = Path(__file__).parent.parent
overdue.install()
pytest_plugins = ["libhook.pytest_plugin", "outcomes"]  # where libhook is installed, pytest finds its own by itself
born.as_usual()
# No deadline: the machine that runs the tests may be busy. Ordinary runs repeat the same inputs, so that
# main does not turn red by chance; `tests/run --all --long` looks for new ones.
_BUSY: dict[str, Any] = {
    "deadline": None,
    "max_examples": AMOUNTS.examples,
    "suppress_health_check": [HealthCheck.too_slow],
}
for _profile in ("quick", "short", "all"):
    settings.register_profile(_profile, derandomize=True, database=None, **_BUSY)
settings.register_profile("long", print_blob=True, **_BUSY)
settings.load_profile(PROFILE)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells how many inputs it generated; a whole run fails where there were too few."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["generated"] = dict(COUNTS)
    elif _has_too_few(config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _has_too_few(config: pytest.Config) -> bool:
    """Whether fewer inputs were generated than a whole run promises. A worker that died has not told of its own."""
    return is_whole(config) and not config.stash.get(_LOST, False) and total() < AMOUNTS.inputs


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A sample has one of so many variants of a test of whole hooks, and a short run of what takes as long."""
    if not config.option.libhook_regenerate:
        choose(config, items, lambda function: AMOUNTS.variants if function.startswith(_REPEATED) else 1)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ANN401 - xdist has no types
    """A worker has ended, or has died."""
    if error:
        node.config.stash[_LOST] = True
    COUNTS.update(getattr(node, "workeroutput", {}).get("generated", {}))


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say how many there were."""
    if COUNTS:
        terminalreporter.write_line(summary())
    if _has_too_few(config):
        terminalreporter.write_line(f"too few generated inputs: a {PROFILE} run promises {AMOUNTS.inputs:,}")


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


@pytest.fixture(autouse=True)
def _in_time() -> None:
    """Begin a test with a clock that no other has put on."""
    overdue.reset()


@pytest.fixture
def childless() -> None:
    """Reap what other tests have left to end by itself: for a test that waits for any child."""
    child.reap(Deadline.after(60))


@pytest.fixture
def root() -> Iterator[str]:
    """Give an empty folder for a simulated host; with it goes whatever hangs there on purpose."""
    folder = scratch()
    yield folder
    for path in Path(folder).parent.glob(f"{Path(folder).name}*"):  # a test may make others beside it, or files of them
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    # A test that waits for what the launcher left behind makes orphans its children; the next one must not have them.
    adopt_orphans(yes=False)


@pytest.fixture
def host(root: str) -> Host:
    """Two devices that a guest may have."""
    return Host(root, workstation())


@pytest.fixture
def history(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[History]:
    """``libhook history`` in UTC, on the host in tmp_path."""
    with zone("UTC"):
        yield History(tmp_path, capsysbinary)


@pytest.fixture
def watched(host: Host) -> Watched:
    """A watch that is connected."""
    it = Watched(host)
    it.connect()
    return it


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

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changes libhook and its launcher in one small place after the other, and shows each change that no test notices.

Each is made in a copy of the tree, never in the tree itself, and played against the tests that reach the changed line,
those first that reach the least besides. Which do is noted once, and kept until a file changes. A change that shows up
means one of three things: a test is missing, the code is not needed, or the change makes no difference.

The first line of each change says where and what it is, and whether a test notices it. The same seed chooses the same
changes as long as libhook stays as it is. So two trees with other tests are compared by these lines.
"""

import argparse
import difflib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import python_changes
import shell_changes
from change import LAUNCHER, Change
from playing import Ended, play

TOP = Path(__file__).resolve().parents[2]
WHERE = (
    *("libhook/children", "libhook/effects", "libhook/facts", "libhook/handlers", "libhook/kinds", "libhook/look"),
    *("libhook/story", "libhook/xml", "libhook/errors.py", "libhook/light.py", "libhook/plainjson.py"),
    *("libhook/run.py", LAUNCHER),
)
"""What an event runs."""
_NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist")
_HANGS = "hangs"
_HOW = ("noticed", _HANGS, "not noticed")
_NOTING = 7200.0
"""Seconds that a run may take in which what each test reaches is noted."""
_FIRST = 10
"""Tests that are played before all others, most of whose files need not even be read then."""
_MARGIN = 20.0
"""Seconds that the chosen tests may take longer than they took then, and three times as long; then the change hangs."""


class Reach(NamedTuple):
    """What one test reaches."""

    test: str
    seconds: float
    lines: dict[str, set[int]]

    @property
    def breadth(self) -> int:
        """How many lines: who reaches few of them is more likely to be there for this one."""
        return sum(map(len, self.lines.values()))


class Mutant(NamedTuple):
    """One change to one file."""

    path: str
    source: bytes
    """Of that file, as it was when all began."""
    change: Change
    tests: tuple[str, ...]
    """That are played."""
    left: int
    """That reach it as well, and for which there is no time."""
    limit: float
    """Seconds after which it hangs."""

    @property
    def where(self) -> str:
        """Where it is, and what."""
        return f"{self.path}:{self.change.lines(self.source)[0]}: {self.change.what}"


class Verdict(NamedTuple):
    """What became of one."""

    mutant: Mutant
    noticed: tuple[str, ...]
    """By which tests, or how; none when it was not."""


def main() -> None:
    """See --help."""
    options = _options()
    signal.signal(signal.SIGTERM, _leave)
    with _folder() as folder:
        reaches = [] if options.tests else _reaches(folder, options.jobs)
        mutants = list(_mutants(options.only or WHERE, reaches, options))
        chance = random.Random(options.seed)  # noqa: S311
        if options.number and options.number < len(mutants):
            mutants = sorted(chance.sample(mutants, options.number), key=lambda one: (one.path, one.change.start))
        print(f"{len(mutants)} changes, seed {options.seed}", flush=True)
        _begin(folder)
        if mutants and (failed := _noticed(mutants[0].tests, mutants[0].limit)):
            sys.exit(f"tests/mutants/run: nothing is changed yet, and this fails: {failed[0]}")
        counts: dict[str, Counter[str]] = {}
        with ProcessPoolExecutor(options.jobs, initializer=_begin, initargs=(folder,)) as pool:
            for mutant, noticed in pool.map(partial(_judge, every=options.every), mutants):
                how = "not noticed" if not noticed else _HANGS if noticed == (_HANGS,) else "noticed"
                counts.setdefault(mutant.path, Counter())[how] += 1
                if not noticed:
                    print(_shown(mutant), flush=True)
                else:
                    print(f"{mutant.where}: {how}", flush=True)
                if options.verbose or options.every:
                    print("".join(f"    {test}\n" for test in noticed), end="", flush=True)
    for path, made in counts.items():
        print(f"{path}: {made.total()} changes, " + ", ".join(f"{made[how]} {how}" for how in _HOW))
    every = sum(counts.values(), Counter())
    print(f"all: {every.total()} changes, " + ", ".join(f"{every[how]} {how}" for how in _HOW))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/mutants/run", description=__doc__)
    parser.add_argument(
        "--only", action="append", metavar="FILE", help=f"a file or folder, also twice (default: {' '.join(WHERE)})"
    )
    parser.add_argument("--number", type=int, metavar="N", help="so many, chosen by chance (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="for that chance (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at once (default: 1)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of tests that are played against one change (default: 60)"
    )
    parser.add_argument(
        "--tests", nargs="+", metavar="FILE", help="play all tests of these files instead, and note nothing"
    )
    parser.add_argument("--verbose", action="store_true", help="say which test noticed each of the others")
    parser.add_argument("--every", action="store_true", help="play on, and say of all tests which notice it")
    return parser.parse_args()


def _leave(*_: object) -> NoReturn:
    """With those who are at work, each of whom ends what it plays."""
    for worker in multiprocessing.active_children():
        worker.terminate()
    sys.exit("tests/mutants/run: ended by a signal")


@contextmanager
def _folder() -> Iterator[Path]:
    """Where all happens; with it go the hosts that tests leave behind when they are killed."""
    memory = "/dev/shm"
    where = memory if os.access(memory, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=where, ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - some tests run the launcher as nobody
        yield Path(folder)


def _copy(folder: Path) -> Path:
    return Path(shutil.copytree(TOP, folder / str(os.getpid()), symlinks=True, ignore=_NOT_COPIED))


def _reaches(folder: Path, jobs: int) -> list[Reach]:
    """What every test reaches: noted in a run of them all, unless it was for this very tree."""
    tree = _copy(folder)
    state = hashlib.sha256()
    for name in sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()):
        if name.startswith(("libhook/", "hooks/", "tests/")) and not name.startswith("tests/mutants/"):
            state.update(f"{name}\0".encode() + hashlib.sha256((tree / name).read_bytes()).digest())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "libhook-tests")
    kept = cache / f"reached-{state.hexdigest()[:12]}.jsonl"
    if not kept.exists():
        print("notes what each test reaches", flush=True)
        notes = folder / "notes"
        notes.mkdir()
        ended = play(tree, ["-n", str(2 * jobs)], {"LIBHOOK_REACHED": str(notes)}, _NOTING)
        noted = "".join(sorted(path.read_text() for path in notes.glob("*.jsonl")))
        if ended.status not in (0, 1) or not noted:
            sys.exit(f"tests/mutants/run: the tests do not run unchanged:\n{ended.said}")
        for failed in ended.failed:
            print(f"fails unchanged, and is left out: {failed}", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob("reached-*"):
            old.unlink(missing_ok=True)
        kept.write_text(noted)
    shutil.rmtree(tree)
    found = map(json.loads, kept.read_text().splitlines())
    return [
        Reach(one["test"], one["seconds"], {path: set(lines) for path, lines in one["reached"].items()})
        for one in found
    ]


def _mutants(where: Iterable[str], reaches: list[Reach], options: argparse.Namespace) -> Iterator[Mutant]:
    for place in where:
        path = (TOP / place).resolve()
        if not (path.exists() and path.is_relative_to(TOP)):
            sys.exit(f"tests/mutants/run: there is no {place} in {TOP}")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            name, source = str(file.relative_to(TOP)), file.read_bytes()
            if name != LAUNCHER and not name.endswith(".py"):
                sys.exit(f"tests/mutants/run: {name} is neither Python nor the launcher")
            for change in (shell_changes if name == LAUNCHER else python_changes).changes(source):
                if options.tests:
                    yield Mutant(name, source, change, tuple(options.tests), 0, options.seconds)
                    continue
                tests = sorted(_reaching(name, change, source, reaches), key=lambda one: (one.breadth, one.seconds))
                chosen, took = [], 0.0
                for test in tests:
                    if took + test.seconds <= options.seconds:
                        took += test.seconds
                        chosen.append(test.test)
                yield Mutant(name, source, change, tuple(chosen), len(tests) - len(chosen), _MARGIN + 3 * took)


def _reaching(name: str, change: Change, source: bytes, reaches: Iterable[Reach]) -> Iterator[Reach]:
    lines = set(change.lines(source))
    for reach in reaches:
        if name in reach.lines and (name == LAUNCHER or change.everywhere or reach.lines[name] & lines):
            yield reach


_tree = Path()
"""The copy of this process."""


def _begin(folder: Path) -> None:
    global _tree
    signal.signal(signal.SIGTERM, _leave)
    _tree = _copy(folder)


def _judge(mutant: Mutant, *, every: bool) -> Verdict:
    """Whether some test notices it, or ``every`` that does."""
    path = _tree / mutant.path
    try:
        _write(path, mutant.change.apply(mutant.source))
        if every:
            return Verdict(mutant, _noticed(mutant.tests, mutant.limit, every=True))
        first, others = mutant.tests[:_FIRST], mutant.tests[_FIRST:]
        return Verdict(mutant, _noticed(first, mutant.limit) or _noticed(others, mutant.limit))
    finally:
        _write(path, mutant.source)


def _noticed(tests: tuple[str, ...], limit: float, *, every: bool = False) -> tuple[str, ...]:
    """By which of them, or how."""
    if not tests:
        return ()
    chosen = _tree.with_suffix(".chosen")
    chosen.write_text("\n".join(tests))
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    by_name = {"LIBHOOK_CHOSEN": str(chosen)} if "::" in tests[0] else {}
    return _how(play(_tree, [*([] if every else ["-x"]), *files], by_name, limit))


def _how(ended: Ended) -> tuple[str, ...]:
    if ended.status == 0:
        return ()
    return tuple(ended.failed) or (_HANGS if ended.status is None else "no test can be begun",)


def _write(path: Path, content: bytes) -> None:
    """What Python compiled of the file before must not be taken for it."""
    path.write_bytes(content)
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def _shown(mutant: Mutant) -> str:
    texts = (mutant.source, mutant.change.apply(mutant.source))
    before, after = (text.decode().splitlines() for text in texts)
    by_name = any("::" in test for test in mutant.tests)
    which = f"{len(mutant.tests)} tests do" if by_name else f"{' '.join(mutant.tests)} does"
    played = f"{which} not notice" if mutant.tests else "no test gets there"
    more = f", {mutant.left} more were not played" if mutant.left else ""
    diff = difflib.unified_diff(before, after, mutant.path, mutant.path, n=1, lineterm="")
    return "\n".join((f"{mutant.where}: not noticed: {played}{more}", *diff, ""))


if __name__ == "__main__":
    main()

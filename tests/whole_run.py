# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests/run does once all is installed: a run of a sample, or all in parts."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import born
import parts
from one_run import Run
from parts import TOP, Kept, Suite

_MINUTES, _MINUTES_OF_PARTS = 80, 150
"""The run's end, and that of parts of --all. Whoever takes a change in may stop a run after 90."""
_KEPT = 5
"""Runs whose artifacts are kept."""


def main() -> int:
    """Do what the command line says, which tests/run has made."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return _all(options) if options.profile in ("all", "long") else _ordinary(options)


def _ordinary(options: argparse.Namespace) -> int:
    """Play a sample."""
    environment = _environment(options.profile)
    with _folder() as folder, _noting(folder / "gaps"):
        run = Run(folder, options.began + _MINUTES * 60, environment)
        for name, command in parts.checks(options.venv):
            run.check(name, command)
        lines, is_quick = folder / "lines", options.profile == "quick"
        is_counted = not is_quick and not options.arguments
        for suites in parts.sample(options.arguments, is_quick=is_quick):
            run.suites(*(parts.counted(it, lines) if is_counted and it.name == "pytest" else it for it in suites))
        run.try_again(may=not options.arguments)  # who chooses tests wants to know how these end
        if is_counted:
            run.tell("coverage by the sample", [sys.executable, "tests/lines.py", str(lines)])
        return 0 if run.show() else 1


def _all(options: argparse.Namespace) -> int:
    """Play all, one part after the other: those that are named, or that have not passed at this commit."""
    kept, is_good = Kept(_cache(), options.profile), True
    names = [suite.name for suites in parts.whole() for suite in suites]
    if unknown := set(options.arguments) - set(names):
        print(f"tests/run: no part of --all: {' '.join(unknown)}; there is {', '.join(names)}", file=sys.stderr)
        return 2
    wanted = set(options.arguments) or set(names) - kept.passed
    for suites in parts.whole():
        if some := [suite for suite in suites if suite.name in wanted]:
            began = time.time()
            is_passed = _side_by_side(some, _environment(options.profile))
            how = f"{'passed' if is_passed else 'failed'} in {(time.time() - began) / 60:.1f} minutes"
            kept.keep(dict.fromkeys((suite.name for suite in some), how))
            is_good = is_good and is_passed
    for part, how in kept.said().items():
        print(f"{part}: {how}")
    return 0 if is_good else 1


def _environment(profile: str) -> dict[str, str]:
    """Return what tells the tests how much to play. What is drawn is drawn by a seed."""
    seed = 0 if profile == "quick" else parts.seed()
    print(f"== seed {seed}: LIBHOOK_TEST_SEED={seed} plays the same again", flush=True)
    return {**born.environment(), "LIBHOOK_TEST_PROFILE": profile, "LIBHOOK_TEST_SEED": str(seed)}


def _side_by_side(suites: Sequence[Suite], environment: dict[str, str]) -> bool:
    """Play parts of --all. Return whether they have passed."""
    with _folder() as folder, _noting(folder / "gaps"):
        run, lines = Run(folder, time.time() + _MINUTES_OF_PARTS * 60, environment), folder / "lines"
        is_counted = suites[0].name == "pytest"
        run.suites(*(parts.counted(suite, lines) if is_counted else suite for suite in suites))
        run.try_again()
        if is_counted:
            run.check("coverage", [sys.executable, "tests/lines.py", str(lines)])
        return run.show()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--began", type=float, required=True, metavar="SECONDS", help="when, since the epoch")
    parser.add_argument("--venv", type=Path, required=True, help="the folder with what Debian does not have")
    parser.add_argument("--profile", required=True, choices=("quick", "short", "all", "long"))
    parser.add_argument("arguments", nargs="*")
    return parser.parse_args()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libhook-tests"


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder for what this run leaves; afterwards ``last`` has the same, and old ones go."""
    base = _cache()
    (base / "runs").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=time.strftime("%FT%H-%M-%SZ-", time.gmtime()), dir=base / "runs"))
    try:
        yield folder
    finally:
        (folder / "lines").unlink(missing_ok=True)
        shutil.rmtree(base / "last", ignore_errors=True)
        shutil.copytree(folder, base / "last")
        for old in sorted((base / "runs").iterdir())[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _noting(path: Path) -> Iterator[None]:
    """Note when the machine stands still meanwhile."""
    with subprocess.Popen([sys.executable, str(TOP / "tests/gaps.py"), str(path)]) as process:
        try:
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())

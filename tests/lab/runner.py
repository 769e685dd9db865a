# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run the scenario tests on a real kernel with a real libvirtd: build or find the image, boot it, report."""

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from image import SUITE, SUITES, Image, cache_folder, current_image, need_host_programs
from machine import Limits, console_tail, run_machine
from trouble import LabError

TOP = Path(__file__).resolve().parents[2]
GUEST = "/src/tests/lab/guest"
EPILOG = """
Any other argument goes to pytest, for example -k usb, -x or test_life.py. The exit status is the job's;
70 means that the lab itself failed (its machine died, or did not come up), and another try may do; 71 that
install.sh failed, or that the job hung or took too long. What the last run left (console, audit.log,
libvirtd's log, the journal, outcomes) is in ${XDG_CACHE_HOME:-~/.cache}/libhook-lab/last (last-systemd with
--systemd, last-SUITE with another suite), or where --artifacts says.
"""


_MEMORY, _ROOM, _PREFIX = "/dev/shm", 2 << 30, "libhook-lab-"


def main() -> int:
    """Do what the command line says, and give back the exit status."""
    options, pytest_arguments = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]
    scratch = None
    try:
        need_host_programs()
        with current_image(options.suite) as image:
            cache_folder().mkdir(parents=True, exist_ok=True)
            _sweep()
            scratch = _scratch()
            return _run(image, scratch, options, _job(options, pytest_arguments))
    except LabError as error:
        if scratch:
            print(console_tail(scratch), end="", file=sys.stderr)
        print(f"lab: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        if scratch:
            _keep_artifacts(scratch, options.artifacts or cache_folder() / _last(options))
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch() -> Path:
    """Make a folder that ``_sweep`` leaves alone as long as this process lives."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
        with suppress(OSError):  # another run is just about to remove it
            fcntl.flock(os.open(scratch, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
            if scratch.exists():
                return scratch


def _sweep() -> None:
    """Remove what runs have left that were killed: gigabytes, perhaps in memory. Nobody has their locks."""
    for left in (left for place in (Path(_MEMORY), cache_folder()) for left in place.glob(f"{_PREFIX}*")):
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _place() -> Path:
    """Where the machine's disks and its share are: in memory, if there is enough. It never waits for that."""
    memory = os.statvfs(_MEMORY) if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    return Path(_MEMORY) if memory and memory.f_bavail * memory.f_frsize > _ROOM else cache_folder()


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="tests/lab/run",
        description=__doc__,
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    job = parser.add_mutually_exclusive_group()
    job.add_argument("--sh", metavar="COMMANDS", help="run these shell commands inside instead of pytest")
    job.add_argument(
        "--bench", action="store_true", help="time libhook beside other tools, and in a guest's start and stop"
    )
    parser.add_argument("--raw", action="store_true", help="boot without installing libhook")
    parser.add_argument("--systemd", action="store_true", help="with systemd as process 1, for what runs as a service")
    parser.add_argument("--suite", choices=SUITES, default=SUITE, help="the generation of Debian (default %(default)s)")
    parser.add_argument("--artifacts", type=Path, metavar="DIR", help="where to leave logs and outcomes")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="how often the tests are played")
    parser.add_argument(
        "--total",
        type=float,
        default=Limits.total,
        metavar="SECONDS",
        help="limit for everything after the image is there (default %(default)s)",
    )
    parser.add_argument(
        "--silence",
        type=float,
        default=Limits.silence,
        metavar="SECONDS",
        help="limit without a word of the job, by the machine's clock (default %(default)s)",
    )
    return parser.parse_known_args(arguments)


def _last(options: argparse.Namespace) -> str:
    """Return the name of the folder with what the last such run left."""
    suite = "" if options.suite == SUITE else f"-{options.suite}"
    return f"last{suite}{'-systemd' if options.systemd else ''}"


def _job(options: argparse.Namespace, pytest_arguments: list[str]) -> str:
    if options.sh is not None or options.bench:
        if pytest_arguments:
            raise LabError(f"unknown arguments: {' '.join(pytest_arguments)}")
        return f"cd /src\n{options.sh}\n" if options.sh is not None else f"exec python3 {GUEST}/bench.py\n"
    pytest = f"python3 -m pytest -c pytest.ini --rootdir=. -p no:cacheprovider {shlex.join(pytest_arguments)}"
    profile = os.environ.get("LIBHOOK_TEST_PROFILE", "all")
    sample = (
        f"export LIBHOOK_TEST_PROFILE={profile} LIBHOOK_TEST_SEED={int(os.environ.get('LIBHOOK_TEST_SEED', '0'))}\n"
    )
    once = f"LIBHOOK_OUTCOMES=/share/outcomes {pytest} || status=$?\n"
    return f"{sample}cd {GUEST}\nstatus=0\n{once * options.times}exit $status\n"


def _run(image: Image, scratch: Path, options: argparse.Namespace, job: str) -> int:
    share = scratch / "share"
    share.mkdir()
    _pack_source(share / "source.tar")
    (share / "job").write_text(job)
    for name in ("raw", "systemd"):
        if getattr(options, name):
            (share / name).touch()
    (share / "output").touch()
    began = time.monotonic()
    print("lab: booting", flush=True)
    limits = Limits(silence=options.silence, total=options.total)
    for text in run_machine(image, scratch, limits):
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    status = int((share / "status").read_text())
    print(f"lab: exit status {status} after {time.monotonic() - began:.0f} s", flush=True)
    return status


def _pack_source(target: Path) -> None:
    """The working tree as it is now: what git does not ignore, or all where there is no git."""
    listed = (
        subprocess.run(
            [
                "git",
                "-c",
                f"safe.directory={TOP}",
                "-C",
                str(TOP),
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
            capture_output=True,
        )
        if shutil.which("git")
        else None
    )
    if listed and listed.returncode == 0:
        names = [
            name for name in listed.stdout.split(b"\0") if name and os.path.lexists(os.fsencode(TOP) + b"/" + name)
        ]
        selection = ["--null", "--no-recursion", "--files-from=-"]
    else:
        names, selection = [], ["--exclude=./.git", "."]
    packed = subprocess.run(
        ["tar", "-C", str(TOP), "-cf", str(target), "--owner=0", "--group=0", *selection],
        input=b"\0".join(names),
        capture_output=True,
    )
    if packed.returncode != 0:
        raise LabError(f"cannot pack the working tree: {packed.stderr.decode(errors='replace').strip()}")


def _keep_artifacts(scratch: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    kept = [scratch / "console.log", scratch / "qemu.log", *(scratch / "share").glob("*")]
    for path in kept:
        if (
            path.is_file()
            and path.name not in ("source.tar", "job", "raw", "systemd", "up")
            and "beat-" not in path.name
        ):
            shutil.copy(path, target / path.name)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs scripts in a sandbox on the imagined host: bubblewrap, an unprivileged user, no network, nothing of this host.

What is there of this host: the libraries, and programs that only work on text. All that can be written is in memory,
and bounded. Nothing of a script gets out but its trace, which is bounded, too.
"""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from libhook.errors import LibhookError, named
from libhook.importing import excess
from libhook.importing.filling import fill, have, want
from libhook.importing.imagined import Imagined
from libhook.importing.sources import File
from libhook.simulation.build import scratch

_NOBODY, _ALONE = 65534, 2_000_000_000
"""To the second our pid is added: a user that nobody else is, since the limit of processes counts all of one user. In
a container there may be no such user; then it is nobody."""
_MOST_OUTPUT, _LONGEST_HEAD = 96 << 20, 1 << 18
_MOST_TASKS = 128
_WRITABLE = (
    ("/.trace", 32), ("/.state", 4), ("/proc/sys", 4), ("/proc/irq", 4), ("/sys", 16), ("/run", 16), ("/tmp", 16),  # noqa: S108 - as below
    ("/var", 16), ("/etc", 24), ("/root", 4), ("/home", 4), ("/srv", 4), ("/mnt", 4), ("/opt", 4), ("/usr/local", 4),
    ("/boot", 4), ("/dev/vfio", 1), ("/dev/input", 1), ("/dev/disk", 1), ("/dev/shm", 4),  # noqa: S108 - all of them are the sandbox's own
)  # fmt: skip
"""The sandbox's own folders that can be written to, and how many MiB each may have. The first is of no other host."""
_OF_HOST = {"usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32", "proc", "dev", "host", ".host", ".libhook"}
_MOST_FOLDERS = 16


class Call(NamedTuple):
    """One call of libvirt's."""

    guest: str
    operation: str
    argv: tuple[str, ...]
    document: str = ""


class Outcome(NamedTuple):
    """How a call went, and its trace."""

    call: Call
    ended: bool
    """It ended before its deadline."""
    left: int
    """How many processes it left running."""
    output: str
    trace: str


def missing() -> list[str]:
    """The Debian packages that the sandbox needs and that are not there."""
    wanted = (("bwrap", "bubblewrap"), ("strace", "strace"), ("bash", "bash"))
    return [package for program, package in wanted if not shutil.which(program, path="/usr/bin:/bin")]


def run(
    files: Sequence[File],
    host: Imagined,
    calls: Sequence[Call],
    seconds: float,
    until: float,
    wanted: Sequence[str] = (),
    there: Sequence[str] = (),
) -> list[Outcome]:
    """Run the calls one after the other, on one host. LibhookError if the sandbox cannot be made.

    Each may take so many ``seconds``, and all of them until this moment of the monotonic clock.
    ``wanted`` are files that the scripts want to write to: those below /sys and /proc/sys are there, of others only
    the folder.
    ``there`` are files that exist, though nobody gave them; with a slash at the end they are folders.
    """
    if lacking := missing():
        names = " ".join(lacking)
        raise LibhookError(f"import runs the scripts in a sandbox, which needs {names}", f"apt-get install {names}")
    root = scratch()
    try:
        fill(root, files, host)
        for path in wanted:
            want(root, path, host.number)
        for path in there:
            have(root, path)
        user = _user(root)
        job = {"calls": [{"argv": call.argv, "guest": call.guest, "operation": call.operation, "stdin": call.document,
                          "seconds": seconds}
                         for call in calls]}  # fmt: skip
        limits = (user, excess.tasks(user) + _MOST_TASKS)
        folders = [name for name, _ in _writable(root)]
        most = min(seconds * len(calls) + 10, left(until))
        answer = _bounded(_command(root), json.dumps(job).encode(), most, limits, folders)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    outcomes = _outcomes(calls, answer)
    for one in outcomes:
        if one.ended and not one.trace.strip():
            why = one.output.strip().splitlines()[-1:] or ["it has written nothing"]
            raise LibhookError(f"strace tells nothing of {named(' '.join(one.call.argv))}: {why[0]}",
                               "allow ptrace where import runs")  # fmt: skip
    return outcomes


def left(until: float) -> float:
    """How many seconds are left until this moment of the monotonic clock."""
    return until - time.monotonic()


def _user(root: str) -> int:
    """Choose who runs the sandbox, and give this user the folder, which nobody else may enter: secrets may be in it.

    Only now, when it is filled: who runs as nobody, too, could have put a link into it before.
    """
    if os.geteuid() != 0:
        return os.geteuid()
    for user in (_ALONE + os.getpid(), _NOBODY):
        with contextlib.suppress(OSError):  # one that this user namespace does not have (chown(2), EINVAL)
            os.chown(root, user, user)
            return user
    raise LibhookError("import cannot become an unprivileged user", "run it as another user than root")


@lru_cache(maxsize=1)
def _no_namespaces() -> bool:
    """Whether bubblewrap can forbid further user namespaces: in one a script could mount what has no bound.

    Where /proc/sys cannot be written, as in some containers, it cannot (bubblewrap.c, --disable-userns).
    """
    command = ["bwrap", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


def _outcomes(calls: Sequence[Call], answer: tuple[bytes, str]) -> list[Outcome]:
    data, said = answer
    found, at = list[Outcome](), 0
    for call in calls:
        begin = data.find(b"\n", at, at + _LONGEST_HEAD) + 1
        try:
            end = json.loads(data[at:begin])
            size, left = int(end["size"]), int(end["left"])
            if not 0 <= size <= len(data):
                raise ValueError
            one = Outcome(call, end["ended"] is True, left, str(end["output"]),
                          data[begin : begin + size].decode("utf-8", "surrogateescape"))  # fmt: skip
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # the scripts may have written it
            if not found:
                raise LibhookError(f"the sandbox does not work here: {_why(said)[0]}", _why(said)[1]) from None
            one, begin, size = Outcome(call, False, 0, "", ""), len(data), 0
        found.append(one)
        at = begin + size
    return found


def _why(said: str) -> tuple[str, str]:
    """Why there is no answer at all, and what helps."""
    if lines := said.strip().splitlines():
        return lines[-1], "allow user namespaces to unprivileged users"
    return (
        "a script has ended it, or took too much memory or too many files",
        "keep the scripts as they are, with legacy",
    )


def _writable(root: str) -> list[tuple[str, int]]:
    """The folders that can be written to, and those at the top that only these scripts have, as /storage and /nix."""
    known = {name.split("/")[1] for name, _ in _WRITABLE} | _OF_HOST
    own = sorted(
        name for name in os.listdir(f"{root}/tree") if name not in known and os.path.isdir(f"{root}/tree/{name}")
    )
    return [*_WRITABLE, *((f"/{name}", 4) for name in own[:_MOST_FOLDERS])]


def _command(root: str) -> list[str]:
    words = ["bwrap", "--unshare-all", "--unshare-user", *(["--disable-userns"] if _no_namespaces() else []),
             "--uid", "0", "--gid", "0", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "host",
             "--cap-drop", "ALL"]  # fmt: skip
    for name in ("/lib", "/lib64", "/lib32", "/libx32"):
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for name in ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/libexec"):
        if os.path.lexists(name) and not os.path.islink(name):
            words += ["--ro-bind", name, name]
    words += ["--ro-bind", "/usr/bin", "/host/bin", "--ro-bind", f"{root}/bin", "/usr/bin",
              "--symlink", "bin", "/usr/sbin", "--symlink", "usr/bin", "/bin", "--symlink", "usr/bin", "/sbin",
              "--ro-bind", f"{root}/inside", "/.libhook/libhook/importing/inside",
              *(word for name in ("director.py", "tracing.sh")
                for word in ("--symlink", f"libhook/importing/inside/{name}", f"/.libhook/{name}")),
              "--ro-bind", root, "/.host", "--proc", "/proc"]  # fmt: skip
    words += ["--dev", "/dev"]
    for name, size in _writable(root):
        words += ["--size", str(size << 20), "--tmpfs", name]
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):
        words += ["--ro-bind-try", name, name]
    for name in ("kmsg", "console", "tty0", "tty1"):  # where scripts say something: without it, they would not go on
        words += ["--symlink", f"/var/log/{name}", f"/dev/{name}"]
    words += ["--symlink", "/.host/standin", "/.libhook/standin", "--remount-ro", "/dev"]
    words += ["--symlink", "../run", "/var/run"]
    for name in ("cmdline", "swaps", "interrupts"):
        words += ["--ro-bind", f"{root}/proc/{name}", f"/proc/{name}"]
    words += ["--bind", f"{root}/proc/meminfo", "/proc/meminfo"]  # what follows huge pages; a limit holds for its size
    return [*words, "--remount-ro", "/", "--chdir", "/", "/host/bin/python3", "-IS", "/.libhook/director.py"]


def _limit(user: int, tasks: int) -> None:
    """In the child: become nobody, and take no more than a sandbox needs."""
    os.setsid()
    for what, most in ((resource.RLIMIT_FSIZE, 32 << 20), (resource.RLIMIT_NOFILE, 512), (resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_DATA, 256 << 20), (resource.RLIMIT_CPU, 60),
                       (resource.RLIMIT_NPROC, tasks)):  # fmt: skip
        most = min(most, *(own for own in resource.getrlimit(what) if own != resource.RLIM_INFINITY), most)
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _bounded(
    command: list[str], job: bytes, seconds: float, limits: tuple[int, int], folders: Sequence[str]
) -> tuple[bytes, str]:
    """Run the sandbox until it ends, the deadline is over, or it has said too much. Return stdout and stderr."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
                          env={"PATH": "/usr/bin:/bin"}, preexec_fn=lambda: _limit(*limits)) as child:  # fmt: skip
        assert child.stdin  # noqa: S101 - for the type checker: it was asked for
        assert child.stdout  # noqa: S101 - as above
        assert child.stderr  # noqa: S101 - as above
        until = time.monotonic() + seconds
        answers: dict[int, bytearray] = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
        os.set_blocking(child.stdin.fileno(), False)
        writers, open_ = [child.stdin.fileno()], [*answers]
        while open_ and time.monotonic() < until and sum(map(len, answers.values())) < _MOST_OUTPUT:
            readable, writable, _ = select.select(open_, writers, [], 0.25)
            if excess.takes_too_much(child.pid, folders):
                break
            for descriptor in writable:
                try:
                    job = job[os.write(descriptor, job) :]
                except OSError:
                    job = b""
                if not job:
                    child.stdin.close()
                    writers = []
            for descriptor in readable:
                piece = os.read(descriptor, 1 << 16)
                answers[descriptor] += piece
                if not piece:
                    open_.remove(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        out, said = answers.values()
        return bytes(out), said.decode("utf-8", "replace")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs scripts in a sandbox on the imagined host: bubblewrap, an unprivileged user, no network, nothing of this host.

What is there of this host: the libraries, and programs that only work on text. All that can be written is in memory, and
bounded. Nothing of what a script does gets out but its trace, which is bounded, too.
"""

import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from libhook.errors import LibhookError
from libhook.importing.imagined import Imagined, further
from libhook.importing.inside.answers import ANSWERS
from libhook.importing.inside.wrapping import WRAPPERS
from libhook.importing.sources import File, runs
from libhook.importing.trace import PROGRAM
from libhook.simulation.build import build, scratch

_INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")
_NOBODY = 65534
_MOST_OUTPUT = 96 << 20
_TEXT_TOOLS = (
    "bash", "cat", "grep", "egrep", "fgrep", "sed", "awk", "gawk", "mawk", "cut", "tr", "sort", "uniq", "head", "tail",
    "basename", "dirname", "readlink", "realpath", "ls", "find", "xargs", "wc", "tee", "printf", "echo", "true", "false",
    "test", "[", "seq", "date", "expr", "xmllint", "xmlstarlet", "jq", "column", "paste", "comm", "diff", "rev", "tac",
    "nl", "od", "md5sum", "sha256sum", "sha1sum", "base64", "mktemp", "touch", "mkdir", "rm", "rmdir", "cp", "mv", "ln",
    "chmod", "stat", "file", "python3", "perl", "bc", "numfmt", "flock", "getopt", "tput", "xxd", "hexdump", "cmp",
    "split", "fold", "fmt", "join", "env-vars", "install", "truncate", "yes", "tsort", "pathchk", "strings", "busybox",
)  # fmt: skip
_PROGRAMS = (
    "sleep", "sync", "mount", "umount", "logger", "chown", "chgrp", "ip", "bridge", "tc", "nft", "ip6tables", "ebtables",
    "cpupower", "cpufreq-set", "cpufreq-info", "rtcwake", "reboot", "nvidia-smi", "nvidia-xconfig", "nvidia-settings",
    "xrandr", "ddcutil", "udevadm", "notify-send", "swapoff", "swapon", "zpool", "zfs", "cset", "vfio-isolate", "renice",
    "taskset", "chrt", "driverctl", "supergfxctl", "mdevctl", "nmcli", "rfkill", "bluetoothctl", "qemu-img", "drbdadm",
    "rc-service", "service", "sv", "tuned-adm", "lscpu", "numactl", "curl", "wget", "nc", "socat", "kill", "free",
    "iptables-save", "iptables-restore", "brctl", "resolvectl", "lsusb", "setpci", "hwloc-calc", "chvt", "setfacl",
)  # fmt: skip
_WORD = re.compile(r"(?:^|[;&|({`!]|\$\(|\b(?:then|do|else|if|elif|while|until|exec|sudo|command -v|which|type|hash|nohup)\b)"
                   r"\s*([A-Za-z_][\w.+-]*)", re.M)  # fmt: skip
_WHOLE = re.compile(r"(?<![\w.$}/*-])(/(?:usr/local/|usr/|opt/[\w-]+/)?s?bin/[A-Za-z_][\w.+-]*)")
_SHELL_WORDS = frozenset(
    "if then else elif fi for while until do done case esac function select time in echo cd set unset export local read"
    " return exit exec eval source shift trap test printf declare typeset let break continue wait jobs kill command type"
    " hash umask ulimit shopt true false readonly getopts pushd popd mapfile readarray builtin alias".split()
)


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


def not_here() -> list[str]:
    """Programs that read structured text, would run as they are, and are not installed."""
    return [name for name in ("xmllint", "xmlstarlet", "jq", "perl") if not os.path.exists(f"/usr/bin/{name}")]


def run(
    files: Sequence[File], host: Imagined, calls: Sequence[Call], seconds: float = 20, wanted: Sequence[str] = (),
    there: Sequence[str] = ()
) -> list[Outcome]:
    """Run the calls one after the other, on one host. LibhookError if the sandbox cannot be made.

    ``wanted`` are files that the scripts want to write to: those below /sys and /proc/sys are there, of others the folder.
    ``there`` are files that exist, though nobody gave them.
    """
    if lacking := missing():
        names = " ".join(lacking)
        raise LibhookError(f"import runs the scripts in a sandbox, which needs {names}", f"apt-get install {names}")
    root = scratch()
    try:
        _fill(root, files, host)
        for path in wanted:
            _want(root, path)
        for path in there:
            _want(root, path)
            if ".." not in path.split("/") and os.path.isdir(os.path.dirname(f"{root}/tree{path}")):
                _put(root, f"tree{path}", "")
        os.chmod(root, 0o755)  # noqa: S103 - the sandbox's user reads it, and there is no secret in it
        job = {"calls": [{"argv": call.argv, "guest": call.guest, "operation": call.operation, "stdin": call.document, "seconds": seconds}
                         for call in calls]}  # fmt: skip
        answer = _bounded(_command(root), json.dumps(job).encode(), seconds * len(calls) + 10)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return _outcomes(calls, answer)


def _outcomes(calls: Sequence[Call], answer: tuple[bytes, str]) -> list[Outcome]:
    data, said = answer
    found = list[Outcome]()
    for call in calls:
        head, _, data = data.partition(b"\n")
        try:
            end = json.loads(head)
            size = int(end["size"])
            one = Outcome(call, end["ended"] is True, int(end["left"]), str(end["output"]),
                          data[:size].decode("utf-8", "surrogateescape"))  # fmt: skip
        except (ValueError, KeyError, TypeError):
            if not found:
                why = said.strip().splitlines()[-1:] or ["it ended without a word"]
                raise LibhookError(
                    f"the sandbox does not work here: {why[0]}", "allow user namespaces to unprivileged users"
                ) from None
            one, size = Outcome(call, False, 0, "", ""), 0
        found.append(one)
        data = data[size:]
    return found


def _fill(root: str, files: Sequence[File], host: Imagined) -> None:
    """Make all folders that the sandbox is given."""
    build(root, host.world)
    texts = [file.text for file in files]
    further(root, host, texts)
    for name in ("etc/passwd", "etc/group", "etc/hosts", "etc/fstab"):
        _put(root, name, _ETC[name])
    for file in files:
        if file.place:
            _put(root, f"tree{file.place}", file.text, 0o755 if runs(file) else 0o644)
    for folder in ("var/log/libvirt/qemu", "var/lib/libvirt", "var/tmp", "run/lock", "run/user/1000", "home/user"):
        os.makedirs(f"{root}/tree/{folder}", exist_ok=True)
    with open(f"{root}/state", "w", encoding="utf-8") as state:
        json.dump(host.state, state)
    own = {file.place for file in files}
    _programs(f"{root}/bin", texts, own)
    for file in files:  # a script of one's own among the programs
        for folder in ("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"):
            name = file.place.removeprefix(folder)
            if file.place.startswith(folder) and "/" not in name:
                _put(root, f"bin/{name}", file.text, 0o755)
    for text in texts:
        for path in _WHOLE.findall(text):
            if not path.startswith(("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/")) and path not in own:
                _link(f"{root}/tree{path}", "/.libhook/standin")
    _readable(root)


def _want(root: str, path: str) -> None:
    if path.startswith(PROGRAM):
        path = path.removeprefix(PROGRAM)
        if ".." not in path.split("/"):
            _link(f"{root}/tree{path}", "/.libhook/standin")
        return
    parts = path.split("/")
    if ".." in parts or len(path) > 500:
        return
    try:
        if path.startswith(("/sys/", "/proc/sys/", "/proc/irq/")):
            if not os.path.lexists(f"{root}{path}"):
                _put(root, path[1:], "0\n")
                os.chmod(f"{root}{path}", 0o644)
        elif not path.startswith("/proc/"):
            os.makedirs(os.path.dirname(f"{root}/tree{path}"), exist_ok=True)
        _readable(root)
    except OSError:
        return


_ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:/home/user:/bin/bash\n",
    "etc/group": "root:x:0:\nuser:x:1000:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/fstab": "",
}


def _programs(folder: str, texts: Sequence[str], own: set[str]) -> None:
    os.makedirs(folder)
    names = {*ANSWERS, *WRAPPERS, *_PROGRAMS}
    for text in texts:
        names |= {word for word in _WORD.findall(text) if word not in _SHELL_WORDS}
        names |= {os.path.basename(path) for path in _WHOLE.findall(text) if path not in own}
    for name in _TEXT_TOOLS:
        real = os.path.realpath(f"/usr/bin/{name}" if os.path.lexists(f"/usr/bin/{name}") else f"/bin/{name}")
        if os.path.exists(real):
            _link(f"{folder}/{name}", f"/host/bin/{os.path.basename(real)}")
            names.discard(name)
    names -= {"sh", "exec", *_TEXT_TOOLS}
    for name in sorted(names)[:4000]:
        _link(f"{folder}/{name}", "/.libhook/standin")
    _put(folder, "sh", '#!/bin/bash -p\nexec /bin/bash "$@"\n', 0o755)
    if not os.path.lexists(f"{folder}/dash"):
        _link(f"{folder}/dash", "sh")


def _link(path: str, to: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.lexists(path):
        os.symlink(to, path)


def _put(root: str, name: str, text: str, mode: int = 0o644) -> None:
    path = f"{root}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.chmod(path, mode)


def _readable(root: str) -> None:
    for folder, _, names in os.walk(root):
        os.chmod(folder, 0o755)  # noqa: S103 - as above
        for name in names:
            if not os.path.islink(f"{folder}/{name}"):
                os.chmod(f"{folder}/{name}", os.stat(f"{folder}/{name}").st_mode | 0o444)


def _command(root: str) -> list[str]:
    words = ["bwrap", "--unshare-all", "--uid", "0", "--gid", "0", "--die-with-parent", "--new-session", "--clearenv",
             "--hostname", "host", "--cap-drop", "ALL"]  # fmt: skip
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
              "--ro-bind", _INSIDE, "/.libhook/libhook/importing/inside",
              *(word for name in ("standin", "director.py", "tracing.sh")
                for word in ("--symlink", f"libhook/importing/inside/{name}", f"/.libhook/{name}")), "--ro-bind", root, "/.host", "--proc", "/proc"]  # fmt: skip
    for name, size in (("/proc/sys", 4), ("/sys", 16), ("/run", 16), ("/tmp", 16), ("/var", 16), ("/root", 4),  # noqa: S108
                       ("/home", 4), ("/srv", 4), ("/mnt", 4), ("/opt", 4), ("/usr/local", 4), ("/boot", 4),
                       ("/proc/irq", 4), ("/.trace", 32), ("/.state", 4), ("/etc", 24)):  # fmt: skip
        words += ["--size", str(size << 20), "--tmpfs", name]
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):
        words += ["--ro-bind-try", name, name]
    words += ["--dev", "/dev", "--size", str(4 << 20), "--tmpfs", "/dev/shm", "--symlink", "../run", "/var/run"]
    for name in ("cmdline", "swaps"):
        words += ["--ro-bind", f"{root}/proc/{name}", f"/proc/{name}"]
    return [*words, "--remount-ro", "/", "--chdir", "/", "/host/bin/python3", "-IS", "/.libhook/director.py"]


def _limits() -> None:
    """In the child: become nobody, and take no more than a sandbox needs."""
    os.setsid()
    for what, most in ((resource.RLIMIT_FSIZE, 32 << 20), (resource.RLIMIT_NOFILE, 512), (resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_DATA, 256 << 20), (resource.RLIMIT_CPU, 60)):  # fmt: skip
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:
        resource.setrlimit(resource.RLIMIT_NPROC, (256, 256))
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _bounded(command: list[str], job: bytes, seconds: float) -> tuple[bytes, str]:
    """Run the sandbox until it ends, the deadline is over, or it has said too much. Return stdout and stderr."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
                          env={"PATH": "/usr/bin:/bin"}, preexec_fn=_limits) as child:  # fmt: skip  # noqa: PLW1509
        assert child.stdin and child.stdout and child.stderr
        until = time.monotonic() + seconds
        answers: dict[int, bytearray] = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
        os.set_blocking(child.stdin.fileno(), False)
        writers, open_ = [child.stdin.fileno()], [*answers]
        while open_ and time.monotonic() < until and sum(map(len, answers.values())) < _MOST_OUTPUT:
            readable, writable, _ = select.select(open_, writers, [], max(until - time.monotonic(), 0))
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
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass
        out, said = answers.values()
        return bytes(out), said.decode("utf-8", "replace")

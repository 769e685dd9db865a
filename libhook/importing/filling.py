# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fills the folders that the sandbox is given: the imagined host, the scripts, and stand-ins for its programs."""

import compileall
import contextlib
import json
import os
import py_compile
import re
from collections.abc import Sequence

from libhook.errors import BadInput
from libhook.importing.folder import inside, link, put
from libhook.importing.imagined import Imagined, further
from libhook.importing.inside.answers import ANSWERS
from libhook.importing.inside.processes import USER, uid
from libhook.importing.inside.wrapping import WRAPPERS
from libhook.importing.sources import File, runs
from libhook.importing.trace import PROGRAM
from libhook.simulation.build import build

_INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")
_TEXT_TOOLS = (
    "bash", "cat", "grep", "egrep", "fgrep", "sed", "awk", "gawk", "mawk", "cut", "tr", "sort", "uniq", "head", "tail",
    "basename", "dirname", "find", "xargs", "wc", "tee", "printf", "echo", "true",
    "test", "[", "seq", "date", "expr", "xmllint", "xmlstarlet", "jq", "column", "paste", "comm", "diff", "rev", "tac",
    "nl", "od", "md5sum", "sha256sum", "sha1sum", "base64", "mktemp", "touch", "mkdir", "rm", "rmdir", "cp", "mv", "ln",
    "chmod", "file", "python3", "perl", "bc", "numfmt", "flock", "getopt", "tput", "xxd", "hexdump", "cmp",
    "split", "fold", "fmt", "join", "false", "install", "truncate", "dd", "yes", "strings", "busybox",
)  # fmt: skip
_PROGRAMS = (
    "readlink", "realpath", "ls", "stat",
    "sleep", "sync", "mount", "umount", "logger", "chown", "chgrp", "ip", "bridge", "tc", "nft", "ip6tables",
    "cpupower", "cpufreq-set", "cpufreq-info", "rtcwake", "reboot", "nvidia-smi", "nvidia-xconfig", "nvidia-settings",
    "xrandr", "ddcutil", "udevadm", "notify-send", "swapoff", "swapon", "zpool", "zfs", "cset", "vfio-isolate",
    "taskset", "renice", "ebtables", "driverctl", "supergfxctl", "mdevctl", "nmcli", "rfkill", "bluetoothctl",
    "drbdadm", "qemu-img", "rc-service", "service", "sv", "tuned-adm", "lscpu", "numactl", "curl", "wget", "nc",
    "socat", "kill", "free", "iptables-save", "iptables-restore", "brctl", "resolvectl", "lsusb", "setpci", "chvt",
    "hwloc-calc", "setfacl",
)  # fmt: skip
_LONGEST = 500
_WORD = re.compile(r"(?:^|[;&|({`!]|\$\(|\b(?:then|do|else|if|elif|while|until|exec|sudo|command -v|which|type|hash)\b)"
                   r"\s*([A-Za-z_][\w.+-]*)", re.M)  # fmt: skip
_WHOLE = re.compile(r"(?<![\w.$}/*-])(/(?:usr/local/|usr/|opt/[\w-]+/)?s?bin/[A-Za-z_][\w.+-]*)")
_SHELL_WORDS = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "function",
        "select",
        "time",
        "in",
        "echo",
        "cd",
        "set",
        "unset",
        "export",
        "local",
        "read",
        "return",
        "exit",
        "exec",
        "eval",
        "source",
        "shift",
        "trap",
        "test",
        "printf",
        "declare",
        "typeset",
        "let",
        "break",
        "continue",
        "wait",
        "jobs",
        "kill",
        "command",
        "type",
        "hash",
        "umask",
        "ulimit",
        "shopt",
        "true",
        "false",
        "readonly",
        "getopts",
        "pushd",
        "popd",
        "mapfile",
        "readarray",
        "builtin",
        "alias",
    ]
)


def not_here() -> list[str]:
    """Programs that read structured text, would run as they are, and are not installed."""
    return [name for name in ("xmllint", "xmlstarlet", "jq", "perl") if not os.path.exists(f"/usr/bin/{name}")]


def fill(root: str, files: Sequence[File], host: Imagined) -> None:
    """Make all folders that the sandbox is given."""
    build(root, host.world)
    texts = [file.scanned for file in files]
    further(root, host, texts)
    for name, text in _etc(uid(host.state)).items():
        put(root, name, text)
    for file in files:
        if file.place:
            put(root, f"tree{file.place}", _runnable(file), 0o755 if runs(file) and not file.off else 0o644)
    put(
        root,
        f"tree/etc/systemd/system/{host.desktop}",
        f"[Service]\nExecStart=/usr/bin/{host.desktop.partition('.')[0]}\n",
    )
    link(root, "tree/etc/systemd/system/display-manager.service", f"/etc/systemd/system/{host.desktop}")
    for folder in ("var/log/libvirt/qemu", "var/lib/libvirt", "var/tmp", "run/lock", f"run/user/{uid(host.state)}",
                   f"home/{USER}"):  # fmt: skip
        os.makedirs(f"{root}/tree/{folder}", exist_ok=True)
    with open(f"{root}/state", "w", encoding="utf-8") as state:
        json.dump(host.state, state)
    for name in os.listdir(_INSIDE):  # copies: who runs the sandbox may not be able to read libhook's folder
        if name.endswith((".py", ".sh")):
            with open(f"{_INSIDE}/{name}", encoding="utf-8") as program:
                put(root, f"inside/{name}", program.read())
    os.rename(f"{root}/inside/standin.py", f"{root}/standin")
    compileall.compile_dir(  # each program that a script runs is a start of these
        f"{root}/inside", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    os.chmod(f"{root}/standin", 0o755)  # noqa: S103 - nobody else gets there; an installed one may not be executable
    given = {file.place for file in files}
    _programs(root, texts, given)
    for file in files:  # a script of one's own among the programs
        for folder in ("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"):
            name = file.place.removeprefix(folder)
            if file.place.startswith(folder) and "/" not in name:
                put(root, f"bin/{name}", file.text, 0o755)
    for text in texts:
        for path in _WHOLE.findall(text):
            if not path.startswith(("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/")) and path not in given:
                link(root, f"tree{path}", "/.libhook/standin")
    _readable(root)


def _runnable(file: File) -> str:
    """Its text, with the one bash that is here in its first line: hosts have it in other folders, too."""
    head, feed, rest = file.text.partition("\n")
    if not (file.interpreter and file.is_shell) or head.partition("#!")[2].strip().startswith(("/bin/", "/usr/bin/")):
        return file.text
    options = [word for word in head.split()[1:] if word.startswith("-")]
    return f"{' '.join(('#!/bin/bash', *options))}{feed}{rest}"


def want(root: str, path: str, text: str) -> None:
    """Make room for what a script wanted to write to: a file of the kernel's with this text, or another's folder."""
    if len(path) > _LONGEST or {"*", "?"} & {*path}:  # a pattern that has found nothing here is no file
        return
    try:
        if path.startswith(PROGRAM):
            link(root, f"tree{path.removeprefix(PROGRAM)}", "/.libhook/standin")
        elif path.startswith(("/sys/", "/proc/sys/", "/proc/irq/")):
            if not os.path.lexists(inside(root, path[1:])):
                put(root, path[1:], f"{text}\n")
        elif not path.startswith("/proc/"):
            os.makedirs(os.path.dirname(inside(root, f"tree{path}")), exist_ok=True)
        _readable(root)
    except (OSError, BadInput):
        return


def have(root: str, path: str) -> None:
    """Let a file be there, though nobody gave it; or a folder, where the path ends with a slash."""
    want(root, f"{path}x" if path.endswith("/") else path, "")
    with contextlib.suppress(OSError, BadInput):
        if not path.endswith("/") and len(path) <= _LONGEST and not os.path.lexists(inside(root, f"tree{path}")):
            put(root, f"tree{path}", "\n")


def _etc(number: int) -> dict[str, str]:
    return {
        "etc/passwd": f"root:x:0:0:root:/root:/bin/bash\n{USER}:x:{number}:{number}::/home/{USER}:/bin/bash\n",
        "etc/group": f"root:x:0:\n{USER}:x:{number}:\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/fstab": "",
    }


def _programs(root: str, texts: Sequence[str], given: set[str]) -> None:
    os.makedirs(f"{root}/bin")
    names = {*ANSWERS, *WRAPPERS, *_PROGRAMS}
    for text in texts:
        names |= {word for word in _WORD.findall(text) if word not in _SHELL_WORDS}
        names |= {os.path.basename(path) for path in _WHOLE.findall(text) if path not in given}
    for name in _TEXT_TOOLS:
        real = os.path.realpath(f"/usr/bin/{name}" if os.path.lexists(f"/usr/bin/{name}") else f"/bin/{name}")
        if os.path.exists(real):
            link(root, f"bin/{name}", f"/host/bin/{os.path.basename(real)}")
            names.discard(name)
    names -= {"sh", "exec", *_TEXT_TOOLS}
    for name in sorted(names)[:4000]:
        link(root, f"bin/{name}", "/.libhook/standin")
    put(root, "bin/sh", '#!/bin/bash -p\nexec /bin/bash "$@"\n', 0o755)
    link(root, "bin/dash", "sh")


def _readable(root: str) -> None:
    for folder, _, names in os.walk(root):
        if folder != root:  # which only the sandbox's user may enter
            os.chmod(folder, 0o755)  # noqa: S103 - nobody else gets there
        for name in names:
            if not os.path.islink(f"{folder}/{name}"):
                os.chmod(f"{folder}/{name}", os.stat(f"{folder}/{name}").st_mode | 0o444)

#!/host/bin/python3 -IS
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the sandbox, under the names of the host's programs: answers as these would on the imagined host.

strace notes its arguments. Programs that only run another one, as sudo, run it.
"""

import fcntl
import os
import signal
import sys

sys.path.insert(0, "/.libhook")

from libhook.importing.inside import answers, reacting, wrapping

VARIABLES = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "PULSE_SERVER",
    "PULSE_RUNTIME_PATH",
    "HOME",
    "USER",
    "XDG_SESSION_TYPE",
)


LOOKING = ("readlink", "realpath", "ls", "stat")
"""Programs that look at what the kernel has made of a write: it must have happened by then."""


def main() -> int:
    """Answer, or run what the program runs. Return the exit code."""
    name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    if name == "standin":
        name, words = os.path.basename(words[0]), words[1:]
    with open("/.trace/starts", "w", encoding="utf-8") as file:
        known = [f"{key}={os.environ[key]}" for key in VARIABLES if key in os.environ]
        file.write("\0".join(("env", os.getcwd(), *known)))
    if name in LOOKING:
        reacting.settle()
        os.execv(f"/host/bin/{name}", [name, *words])
    inner = wrapping.inner(name, words)
    if inner is not None:
        os.environ.update(inner.environment)
        if inner.user not in ("", "root") and "/" not in inner.user:
            os.environ.update(HOME=f"/home/{inner.user}", USER=inner.user)
            os.makedirs(os.environ["HOME"], exist_ok=True)
        found = inner.words
        if not found:
            return 0
        for folder in ("",) if "/" in found[0] else os.environ.get("PATH", "/usr/bin").split(":"):
            path = os.path.join(folder, found[0])
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                try:
                    os.execv(path, found)
                except OSError:
                    os.execv("/usr/bin/bash", ["bash", *found])
        os.execv("/.libhook/standin", ["/.libhook/standin", *found])
    with open(reacting.LOCK, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = reacting.load()
        if name in ("sleep", "udevadm", "wait"):
            fcntl.flock(lock, fcntl.LOCK_UN)
            reacting.settle()
            return _sleep(words) if name == "sleep" else 0
        if os.environ.get("LIBHOOK_IMPORT_OPERATION") in ("started", "reconnect"):
            state["processes"]["qemu-system-x86_64"] = 1999 + int(str(state["counts"].get("other", 0)))
        answers.get_on(name, words, state)
        code, text = answers.ANSWERS.get(name, answers.nothing)(words, state)
        state["processes"].pop("qemu-system-x86_64", None)
        reacting.save(state)
    sys.stdout.write(text)
    sys.stdout.flush()
    return code


def _is_beside() -> bool:
    """Whether a shell has started this, or a parent of it, with ``&``.

    Such a process has /dev/null as its stdin, and ignores SIGINT (POSIX, 2.9.3.1 and 2.11). bash's functions do not
    ignore it; a pipe has another stdin.
    """
    pid = os.getpid()
    while pid > 2:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            about = dict(line.split(":", 1) for line in file if ":" in line)
        parent = int(about["PPid"])
        if os.path.basename(os.readlink(f"/proc/{parent}/exe")) == "strace":
            return False  # the script itself
        ignored = int(about["SigIgn"], 16) >> (signal.SIGINT - 1) & 1
        if ignored or os.readlink(f"/proc/{pid}/fd/0") == "/dev/null":
            return True
        pid = parent
    return True


def _sleep(words: "list[str]") -> int:
    """Do not sleep, unless it is beside the script: what is to happen later must not happen at once."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    try:
        seconds = sum(float(word.rstrip("smhd")) * units[word[-1] if word[-1] in units else "s"] for word in words)
    except (ValueError, IndexError):
        return 1
    if _is_beside():
        reacting.sleep_beside(seconds)
    else:
        reacting.pass_time(seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the sandbox: reacts to what scripts write below /sys, as a kernel would, as far as scripts look at it.

/sys is a plain folder there. So who runs the scripts reads what strace tells of writes, and moves the links.
"""

import json
import os
import re
import time
from socket import AF_UNIX, socket

STATE, LOCK, DEVICES, DRIVERS = "/.state/state", "/.state/lock", "/sys/bus/pci/devices", "/sys/bus/pci/drivers"
ASKED, CLOCK, OVER = "/.state/asked", "/.state/clock", "/.state/over"
TRACE = "/.trace/trace"
_LONGEST = 1e8
_LOOK, _IDLE = 0.01, 300
"""Seconds between two looks, and so many looks in which nothing happens: then the script waits for who sleeps.

Looks are counted, and not seconds: on a machine that stands still a while the script has done nothing, either.
"""
_WRITE = re.compile(r'write\(\d+<(/sys/[^>]+/(?:bind|unbind|new_id|drivers_probe|remove))>, "([^"\\]*(?:\\n)?)"')
_TEST = re.compile(
    r"""write\(\d+</\.trace/lines>, "\++\\1.*?(?:\[\[?'?|test) (?:'?!'? )?-([efdrsSLhcb]) '?(/[\w./@:+-]+)"""
)
_PAGES = re.compile(r'write\(\d+</proc/sys/vm/nr_hugepages>, "(\d{1,9})(?:\\n)?"')
_KILL = re.compile(r"\bkill\((\d{1,7}), SIG")
_PATIENCE = 20.0
MOST_ASKED = 20
"""So often a script may ask the same before it is told otherwise."""
asked = dict[str, int]()


def load() -> "dict[str, dict[str, object]]":
    """Return what is known of units, modules and processes."""
    with open(STATE, encoding="utf-8") as file:
        found: dict[str, dict[str, object]] = json.load(file)
        return found


def save(state: "dict[str, dict[str, object]]") -> None:
    """Keep it."""
    with open(f"{STATE}.new", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(f"{STATE}.new", STATE)


def begin() -> None:
    """Make the state at the first call. Each call has a clock of its own."""
    asked.clear()
    with open(CLOCK, "a", encoding="ascii"):
        os.utime(CLOCK, (0, 0))
    if os.path.lexists(OVER):
        os.unlink(OVER)
    if not os.path.exists(STATE):
        with open("/.host/state", encoding="utf-8") as file:
            save(json.load(file))


def meminfo(pages: int, other: int) -> str:
    """What /proc/meminfo shows with so many huge pages. ``other`` is 1 on the second host, which has more memory."""
    sizes = {"MemTotal": 67108864, "MemFree": 50331648, "MemAvailable": 58720256, "SwapTotal": 0, "SwapFree": 0}
    lines = [f"{name + ':':<16}{size + 4096 * other:>8} kB" for name, size in sizes.items()]
    counts = {"Total": pages, "Free": pages, "Rsvd": 0, "Surp": 0}
    lines += [f"{f'HugePages_{name}:':<16}{count:>8}" for name, count in counts.items()]
    return "\n".join((*lines, "Hugepagesize:       2048 kB", ""))


def pass_time(seconds: float) -> None:
    """The script sleeps for so long: nobody waits for it, but who sleeps beside it may wake up."""
    now = _clock() + min(seconds, _LONGEST)
    os.utime(CLOCK, (now, now))


def sleep_beside(seconds: float) -> None:
    """Sleep beside the script until it has slept for as long itself, has ended, or waits for this one."""
    until, size, idle = _clock() + seconds, -1, 0
    while _clock() < until and not os.path.exists(OVER):
        if os.path.getsize(TRACE) != size:
            size, idle = os.path.getsize(TRACE), 0
        elif (idle := idle + 1) > _IDLE:
            return
        time.sleep(_LOOK)


def _clock() -> float:
    return os.stat(CLOCK).st_mtime  # strace does not trace a stat


def end_sleep() -> None:
    """The script has ended: who sleeps beside it wakes up."""
    with open(OVER, "w", encoding="ascii"):
        pass


def react(trace: str) -> None:
    """React to the writes in a piece of strace's output, in their order. Not one is lost, as in a file it could be."""
    for path, text in _WRITE.findall(trace):
        _written(path, text.replace("\\n", " ").split())
    for pages in _PAGES.findall(trace)[-1:]:
        with open("/proc/meminfo", "w", encoding="ascii") as file:
            file.write(meminfo(int(pages), int(str(load()["counts"].get("other", 0)))))
    for letter, path in _TEST.findall(trace):
        _asked(letter, path)
    for pid in _KILL.findall(trace):
        state = load()
        state["processes"] = {name: one for name, one in state["processes"].items() if str(one) != pid}
        save(state)


def _asked(letter: str, path: str) -> None:
    """Where a script asks for the same path again and again, it waits: then it comes, or goes."""
    asked[path] = asked.get(path, 0) + 1
    if asked[path] % MOST_ASKED or path.startswith(("/sys/", "/proc/", "/etc/")):
        return
    try:
        if os.path.lexists(path):
            os.unlink(path)
        else:
            os.makedirs(path if letter == "d" else os.path.dirname(path), exist_ok=True)
            if letter == "S":
                with socket(AF_UNIX) as one:
                    one.bind(path)
            elif letter != "d":
                with open(path, "x", encoding="ascii") as file:
                    file.write("\n")
    except OSError:
        return


def settle() -> None:
    """Wait until who reads strace's output has reacted to all that was written before."""
    path = f"{ASKED}.{os.getpid()}"
    with open(path, "w", encoding="ascii"):
        pass
    until = time.monotonic() + _PATIENCE
    while os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.002)


def _written(path: str, words: "list[str]") -> None:
    folder, name = os.path.split(path)
    device = words[0] if words else ""
    if name == "unbind":
        bind(device, "")
    elif name == "bind":
        bind(device, os.path.basename(folder))
    elif name == "new_id":
        for found in os.listdir(DEVICES):
            ids = [_text(f"{DEVICES}/{found}/{one}").removeprefix("0x") for one in ("vendor", "device")]
            if ids == words[:2] and not os.path.lexists(f"{DEVICES}/{found}/driver"):
                bind(found, os.path.basename(folder))
    elif name == "drivers_probe":
        probe(device)
    elif name == "remove":
        bind(os.path.basename(folder), "")


def bind(device: str, driver: str) -> None:
    """Put a device on a driver, or on none."""
    link = f"{os.path.realpath(f'{DEVICES}/{device}')}/driver"
    if not os.path.isdir(os.path.dirname(link)) or "/" in device:
        return
    if os.path.islink(link):
        old = os.path.realpath(link)
        if os.path.islink(f"{old}/{device}"):
            os.unlink(f"{old}/{device}")
        os.unlink(link)
    if driver and os.path.isdir(f"{DRIVERS}/{driver}"):
        os.symlink(f"{DRIVERS}/{driver}", link)
        if not os.path.lexists(f"{DRIVERS}/{driver}/{device}"):
            os.symlink(os.path.dirname(link), f"{DRIVERS}/{driver}/{device}")


def probe(device: str) -> None:
    """Bind a device as drivers_probe does: to its override, else to its own driver, if that is loaded."""
    override = _text(f"{DEVICES}/{device}/driver_override")
    own = str(load()["drivers"].get(device, ""))
    bind(device, override if override not in ("", "(null)") else own)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""

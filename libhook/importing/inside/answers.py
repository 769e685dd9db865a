# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the sandbox: what the host's programs would answer. Each answer is the exit code and what is printed."""

import os
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase

from libhook.importing.inside import own, processes, reacting
from libhook.importing.inside.processes import USER, YES, Answer, State

Program = Callable[[list[str], State], Answer]
_BUS = "/sys/bus/pci/devices"
_UNIT_TYPES = ("service", "socket", "timer", "target", "mount", "path", "scope", "slice")


def unit(name: str) -> str:
    """Return a unit's whole name, without its alias."""
    name = os.path.basename(name) if name.startswith("/etc/systemd/") else name
    return name if name.rpartition(".")[2] in _UNIT_TYPES else f"{name}.service"


def _is(name: str, units: dict[str, object]) -> str:
    """A unit that a script asks for by a name that nobody knew before is there, and runs."""
    return str(units.get(name, "active"))


def systemctl(words: list[str], state: State) -> Answer:
    """Answer as systemctl."""
    plain = [word for word in words if not word.startswith("-")]
    skip = {words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-p", "-M", "-H", "-t", "-o", "-n")}
    plain = [word for word in plain if word not in skip]
    verb, names = (plain[0] if plain else "list-units"), [unit(word) for word in plain[1:]]
    units = state["units"]
    names = [str(state["aliases"].get(name, name)) for name in names]
    if verb in ("start", "restart", "stop", "kill", "isolate", "enable", "disable", "reload-or-restart", "try-restart"):
        return _move(verb, names, "--now" in words, state)
    if verb in ("is-active", "is-failed"):
        texts = [_is(name, units) for name in names]
        wanted = "active" if verb == "is-active" else "failed"
        quiet = "-q" in words or "--quiet" in words
        return (0 if wanted in texts else 3), "" if quiet else "".join(f"{text}\n" for text in texts)
    if verb in ("is-enabled", "cat", "list-unit-files"):
        there = [name for name in names if _is(name, units) == "active"] or (not names and sorted(units))
        return (0 if there else 1), "".join(f"{name} enabled\n" for name in there or ())
    if verb in ("status", "show"):
        return _show(verb, words, names, state)
    if verb in ("list-units", "list-timers", "list-sockets"):
        kind = {"list-timers": "*.timer", "list-sockets": "*.socket"}.get(verb, "*")
        shown = [name for name in sorted(units) if fnmatchcase(name, kind)
                 and (not plain[1:] or any(fnmatchcase(name, word) for word in plain[1:]))]  # fmt: skip
        return 0, "".join(f"{name} loaded {units[name]} running {name}\n" for name in shown)
    if verb == "get-default":
        return 0, "graphical.target\n"
    return YES


def _move(verb: str, names: list[str], now: bool, state: State) -> Answer:
    units = state["units"]
    if verb == "isolate":
        up = bool({"graphical.target", "default.target"} & {*names})
        units.update(dict.fromkeys(state["desktop"], "active" if up else "inactive"))
    if verb in ("stop", "kill") or (verb == "disable" and now):
        units.update(dict.fromkeys(names, "inactive"))
        if {*names} & {*state["desktop"]}:  # and with it all that the user of it has started
            state["processes"].clear()
    elif verb != "disable" and (verb != "enable" or now) and verb != "isolate":
        units.update(dict.fromkeys(names, "active"))
    return YES


def _show(verb: str, words: list[str], names: list[str], state: State) -> Answer:
    lines = []
    for name in names:
        active = _is(name, state["units"])
        if verb == "status":
            lines.append(f"* {name}\n   Loaded: loaded\n   Active: {active} (running)\n")
            continue
        known = {
            "Id": name,
            "ActiveState": active,
            "LoadState": "loaded" if active == "active" or name in state["units"] else "not-found",
            "SubState": "running" if active == "active" else "dead",
            "MainPID": "901",
            "ExecStart": f"/usr/bin/{name.rpartition('.')[0]}",
            "FragmentPath": f"/usr/lib/systemd/system/{name}",
        }
        asked = [key for word in words for key in word.removeprefix("--property=").removeprefix("-p").split(",")]
        asked += [key for at, word in enumerate(words) if word == "-p" for key in words[at + 1].split(",")]
        shown = [key for key in known if key in asked] or list(known)
        bare = "--value" in words
        lines += [f"{known[key]}\n" if bare else f"{key}={known[key]}\n" for key in shown]
    some = any(_is(name, state["units"]) == "active" for name in names)
    return (0 if some or verb == "show" else 3), "".join(lines)


def modprobe(words: list[str], state: State) -> Answer:
    """Load or unload. What is not loaded can be unloaded, as with modprobe; rmmod says so."""
    names = [word.replace("-", "_") for word in words if not word.startswith("-") and "=" not in word]
    modules = state["modules"]
    if any(word.startswith("-") and not word.startswith("--") and "r" in word for word in words) or "--remove" in words:
        for name in names:
            _unload(name, modules)
    else:
        modules.update(dict.fromkeys(names, True))
        for name in names:
            os.makedirs(f"/sys/module/{name}", exist_ok=True)
            if name in ("vfio_pci", "vfio"):
                os.makedirs("/sys/bus/pci/drivers/vfio-pci", exist_ok=True)
                for order in ("bind", "unbind", "new_id", "remove_id"):
                    with open(f"/sys/bus/pci/drivers/vfio-pci/{order}", "a", encoding="ascii"):
                        pass
    return YES


def _unload(name: str, modules: "dict[str, object]") -> None:
    modules.pop(name, None)
    if os.path.isdir(f"/sys/module/{name}"):
        for folder, folders, files in os.walk(f"/sys/module/{name}", topdown=False):
            for one in (*files, *(link for link in folders if os.path.islink(f"{folder}/{link}"))):
                os.unlink(f"{folder}/{one}")
            os.rmdir(folder)


def rmmod(words: list[str], state: State) -> Answer:
    """Unload."""
    names = [word.replace("-", "_") for word in words if not word.startswith("-")]
    wrong = [name for name in names if name not in state["modules"]]
    for name in names:
        _unload(name, state["modules"])
    return (1, f"rmmod: ERROR: Module {wrong[0]} is not currently loaded\n") if wrong else YES


def lsmod(_words: list[str], state: State) -> Answer:
    """List the modules."""
    return 0, "Module                  Size  Used by\n" + "".join(f"{name}  16384  0\n" for name in state["modules"])


def lspci(words: list[str], state: State) -> Answer:
    """List the devices."""
    lines = []
    wanted = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "-s"), "")
    for address in sorted(os.listdir(_BUS)):
        if wanted and wanted not in address:
            continue
        about = state["pci"].get(address)
        if not isinstance(about, dict):
            continue
        numbers = any(word.startswith("-n") and "nn" not in word for word in words)
        name = f"{about['class']}: {about['ids']}" if numbers else f"{about['title']} [{about['ids']}]"
        full = any(word.startswith("-") and "D" in word for word in words)
        lines.append(f"{address if full else address.partition(':')[2]} {name}\n")
        if any("k" in word or "v" in word for word in words if word.startswith("-")):
            link = f"{_BUS}/{address}/driver"
            if os.path.islink(link):
                lines.append(f"\tKernel driver in use: {os.path.basename(os.readlink(link))}\n")
    return 0, "".join(lines)


def virsh(words: list[str], state: State) -> Answer:
    """Detach and reattach as libvirt does, and show the document that was given."""
    plain = [word for word in words if not word.startswith("-")]
    verb = plain[0] if plain else ""
    if verb in ("nodedev-detach", "nodedev-dettach", "nodedev-reattach") and len(plain) > 1:
        address = ":".join(plain[1].removeprefix("pci_").rsplit("_", 1)[0].split("_")) + "." + plain[1][-1]
        if verb == "nodedev-reattach":
            reacting.bind(address, str(state["drivers"].get(address, "")))
        else:
            modprobe(["vfio_pci"], state)
            reacting.bind(address, "vfio-pci")
        return 0, f"Device {plain[1]} {'re-attached' if verb == 'nodedev-reattach' else 'detached'}\n"
    if verb == "dumpxml":
        return 0, _read("/.trace/stdin")
    if verb == "domstate":
        return 0, "running\n"
    if verb in ("list", "domid", "dominfo"):
        return 0, ""
    return YES


def sysctl(words: list[str], _state: State) -> Answer:
    """Read and write below /proc/sys."""
    lines = []
    for word in words:
        if word.startswith("-"):
            continue
        name, sign, value = word.partition("=")
        path = f"/proc/sys/{name.strip().replace('.', '/')}"
        if sign:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{value.strip()}\n")
        text = _read(path).strip()
        lines.append(f"{text}\n" if any(option in words for option in ("-n", "-nq")) else f"{name} = {text}\n")
    return 0, "".join(lines)


def get_on(name: str, words: list[str], state: State) -> None:
    """Where a script asks the same again and again, it waits: then what it asks for comes to pass."""
    counts = state.setdefault("asked", {})
    key = " ".join((name, *words))[:200]
    counts[key] = f"{counts.get(key, '')}x"
    if len(str(counts[key])) != reacting.MOST_ASKED:
        return
    if name in ("lsof", "fuser"):
        state["processes"].clear()
    elif name == "systemctl" and "is-active" in words:
        for word in words:
            one = str(state["aliases"].get(unit(word), unit(word)))
            state["units"][one] = "inactive" if _is(one, state["units"]) == "active" else "active"
    elif name == "lsmod":
        state["modules"].clear()


def holders(words: list[str], state: State) -> Answer:
    """lsof and fuser: the desktop's first process has the card open, until it is killed."""
    of_card = any(word.startswith(("/dev/dri", "/dev/nvidia", "/dev/snd")) for word in words)
    name, pid = next(iter(state["processes"].items()), ("", ""))
    if not of_card or not name:
        return 1, ""
    if any(word.startswith("-") and "k" in word for word in words):
        del state["processes"][name]
    bare = os.path.basename(sys.argv[0]) == "fuser" or any(word.startswith("-") and "t" in word for word in words)
    head = "COMMAND PID USER FD TYPE DEVICE SIZE/OFF NODE NAME\n"
    return 0, f"{pid}\n" if bare else f"{head}{name} {pid} {USER} 9u CHR 226,0 0t0 411 /dev/dri/card0\n"


def mountpoint(words: list[str], state: State) -> Answer:
    """Every mount point that a script asks for is mounted, until it has unmounted it."""
    path = next((word for word in words if word.startswith("/")), "")
    there = bool(state["mounts"].get(path, True))
    return int(not there), "" if "-q" in words else f"{path} is {'' if there else 'not '}a mountpoint\n"


def mounts(words: list[str], state: State) -> Answer:
    """What df, findmnt and a plain mount list."""
    paths = [word for word in words if word.startswith("/") and not word.startswith("/dev/")]
    listed = [path for path, there in state["mounts"].items() if there]
    shown = [path for path in paths if state["mounts"].get(path, True)] if paths else ["/", *listed]
    lines = "".join(f"/dev/sd{chr(97 + at % 26)}1 on {path} type ext4 (rw)\n" for at, path in enumerate(shown))
    return int(not shown), lines


def mount(words: list[str], state: State) -> Answer:
    """Mount a path, or list."""
    if not words or words[0] in ("-l", "-t"):
        return mounts([], state)
    state["mounts"].update(dict.fromkeys((word for word in words if word.startswith("/")), True))
    return YES


def umount(words: list[str], state: State) -> Answer:
    """Take it away."""
    state["mounts"].update(dict.fromkeys((word for word in words if word.startswith("/")), False))
    return YES


def _fixed(text: str, code: int = 0) -> Program:
    return lambda _words, _state: (code, text)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def getconf(words: list[str], state: State) -> Answer:
    """The numbers that scripts ask for."""
    known = {"PAGE_SIZE": "4096", "PAGESIZE": "4096", "CLK_TCK": "100", "LONG_BIT": "64"}
    asked = next((word for word in words if not word.startswith("-")), "")
    return 0, f"{state['counts']['cpus'] if 'NPROCESSORS' in asked else known.get(asked, '')}\n"


def cpus(_words: list[str], state: State) -> Answer:
    """How many CPUs there are."""
    return 0, f"{state['counts']['cpus']}\n"


def nothing(_words: list[str], _state: State) -> Answer:
    """What a program answers of which nothing is known."""
    return YES


ANSWERS: dict[str, Program] = {
    "systemctl": systemctl, "modprobe": modprobe, "rmmod": rmmod, "lsmod": lsmod, "lspci": lspci, "virsh": virsh,
    "sysctl": sysctl, "pgrep": processes.pgrep, "pidof": processes.pidof, "killall": processes.kill_by_name,
    "pkill": processes.kill_by_name, "ps": processes.ps, **own.ANSWERS, "mountpoint": mountpoint,
    "mount": mount, "df": mounts, "findmnt": mounts, "umount": umount, "nproc": cpus, "getconf": getconf,
    "fuser": holders, "lsof": holders, "iptables": lambda words, _state: (int("-C" in words), ""),
    "ip6tables": lambda words, _state: (int("-C" in words), ""), "who": _fixed(f"{USER} tty2 2026-01-01 00:00 (:0)\n"),
    "users": _fixed(f"{USER}\n"), "logname": _fixed(f"{USER}\n"),
    "whoami": _fixed("root\n"), "systemd-detect-virt": _fixed("none\n", 1), "firewall-cmd": _fixed("success\n"),
    "powerprofilesctl": lambda words, _state: (0, "balanced\n" if words[:1] == ["get"] else ""),
    "nvidia-smi": _fixed(""), "dmesg": _fixed(""), "notify-send": _fixed(""),
    "uname": _fixed("6.12.0\n"), "mokutil": _fixed(""),
}  # fmt: skip

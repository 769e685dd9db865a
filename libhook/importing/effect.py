# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a script does to the host, as types: the recorded programs and writes, and what each of them means. Pure."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from libhook.facts.unit import TYPES
from libhook.importing.trace import Done, Place

TEXT_TOOLS = frozenset(
    "cat grep egrep fgrep sed awk gawk mawk cut tr sort uniq head tail basename dirname readlink realpath ls find xargs wc"
    " tee printf echo true false test [ seq date expr xmllint xmlstarlet jq column paste comm diff rev tac nl od md5sum"
    " sha256sum sha1sum base64 mktemp stat file bc numfmt flock getopt tput xxd hexdump cmp split fold fmt join yes env"
    " python3 perl busybox strings bash sh dash which clear".split()
)
FILE_TOOLS = frozenset("touch mkdir rm rmdir cp mv ln chmod install truncate chown chgrp setfacl dd".split())
_QUERIES: dict[str, Callable[[list[str]], bool]] = {
    "systemctl": lambda words: not {*words} & {"start", "stop", "restart", "isolate", "kill", "enable", "disable", "mask",
        "unmask", "set-property", "suspend", "hibernate", "reboot", "poweroff", "daemon-reload", "reload", "try-restart",
        "reload-or-restart", "revert", "reset-failed", "hybrid-sleep", "suspend-then-hibernate", "import-environment"},
    "virsh": lambda words: _first(words) in ("dumpxml", "list", "domstate", "dominfo", "domid", "domuuid", "nodedev-list",
        "nodedev-dumpxml", "net-list", "net-info", "net-dumpxml", "version", "uri", "domiflist", "domifaddr", "domblklist",
        "net-dhcp-leases", "capabilities", "vcpupin", "vcpuinfo", "qemu-monitor-command", ""),
    "ip": lambda words: not {*words} & {"add", "del", "delete", "set", "replace", "change", "flush", "append", "up", "down"},
    "bridge": lambda words: not {*words} & {"add", "del", "set", "replace"},
    "iptables": lambda words: bool({*words} & {"-C", "-L", "-S", "--check", "--list", "-nL", "-V", "--version"}),
    "nft": lambda words: _first(words) in ("list", "describe", ""),
    "firewall-cmd": lambda words: any(word.startswith(("--query", "--list", "--get", "--state")) for word in words),
    "sysctl": lambda words: not any("=" in word for word in words) and "-p" not in words,
    "loginctl": lambda words: _first(words).startswith(("list", "show", "session-status", "user-status")) or not words,
    "fuser": lambda words: not any(word.startswith("-") and not word.startswith("--") and "k" in word for word in words)
        and "--kill" not in words,
    "ddcutil": lambda words: "setvcp" not in words, "xrandr": lambda words: not any(
        word.startswith("--") and word not in ("--query", "--listmonitors", "--verbose") for word in words),
    "nvidia-smi": lambda words: not {*words} & {"-pm", "-pl", "--persistence-mode", "-r", "--gpu-reset", "-lgc", "-rgc", "drain"},
    "powerprofilesctl": lambda words: _first(words) != "set", "cpupower": lambda words: "frequency-set" not in words
        and "set" not in words and "idle-set" not in words,
    "rc-service": lambda words: not {*words} & {"start", "stop", "restart", "zap"},
    "service": lambda words: not {*words} & {"start", "stop", "restart", "reload"},
    "zpool": lambda words: _first(words) in ("list", "status", "get"), "zfs": lambda words: _first(words) in ("list", "get"),
    "mount": lambda words: len(words) < 3 and (not words or words[0] in ("-l", "-t")), "swapon": lambda words: not words or "--show" in words,
    "setpci": lambda words: not any("=" in word for word in words), "rfkill": lambda words: _first(words) in ("list", ""),
    "driverctl": lambda words: not {*words} & {"set-override", "unset-override"},
    "nmcli": lambda words: not {*words} & {"up", "down", "modify", "connect", "disconnect", "off", "on", "set", "delete", "add"},
    "supergfxctl": lambda words: not any(word in ("-m", "--mode", "-S") for word in words),
    "pactl": lambda words: _first(words) in ("list", "info", "stat"), "bluetoothctl": lambda words: _first(words) in
        ("show", "list", "devices", "info"), "mdevctl": lambda words: _first(words) in ("list", "types"),
    "taskset": lambda words: False, "chrt": lambda words: False,
    "mdadm": lambda words: "--detail" in words, "brctl": lambda words: _first(words) == "show",
    "docker": lambda words: _first(words) in ("ps", "inspect", "info", "images"),
}  # fmt: skip
"""For each program, whether these words only ask."""
_ASKS = frozenset(
    "lsmod lspci lsusb modinfo pgrep pidof ps lsof who users logname id whoami uname hostname nproc lscpu free dmesg journalctl"
    " findmnt mountpoint lsblk blkid getent systemd-detect-virt systemd-escape ss netstat arp ping nslookup host dig mokutil"
    " nvidia-xconfig cpufreq-info udevadm sync sleep clear reset numactl hwloc-calc tty df du iptables-save command type"
    " dmidecode inxi test lstopo wait uptime vmstat arping qemu-io pstree w last sensors cpuid hwinfo xdpyinfo".split()
)
_HELPERS = frozenset("drm drm_kms_helper drm_ttm_helper ttm drm_display_helper drm_buddy drm_exec amdxcp gpu_sched fb_sys_fops"
                     " syscopyarea sysfillrect sysimgblt i2c_nvidia_gpu i2c_algo_bit snd_hda_intel snd_hda_codec_hdmi"
                     " snd_hda_codec snd_hda_core video wmi mxm_wmi ucsi_ccg typec_ucsi cec nvidia_wmi_ec_backlight".split())  # fmt: skip
GPU_DRIVERS = frozenset("nvidia nvidia_drm nvidia_modeset nvidia_uvm nvidia_peermem nouveau amdgpu radeon i915 xe".split())
_ADDRESS = re.compile(r"([0-9a-f]{4})[:_]([0-9a-f]{2})[:_]([01][0-9a-f])[._]([0-7])", re.I)


class Effect(NamedTuple):
    """One effect."""

    kind: str
    """``down`` ``up`` (a unit), ``out`` ``in`` (a module), ``bind`` ``value`` ``trigger`` ``umount`` ``mount`` ``file``
    ``command`` ``awake`` ``sessions``; ``needless``; ``danger``; ``left`` (no setting says it); ``wrong`` (it never worked)."""
    target: str
    value: str
    done: Done
    operation: str

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.done.place


def of(done: tuple[Done, ...], operation: str, guest: str) -> Iterator[Effect]:
    """Return the effects of one call, in their order. What only asks has none."""
    files = {one.pid: one for one in done if one.what == "start" and _name(one) in FILE_TOOLS | {"sed", "dd"}}
    for one in done:
        if one.what == "start":
            yield from _of_program(one, operation)
        elif one.what in ("write", "fail", "open", "make", "remove"):
            yield from _of_file(one, operation, files.get(one.pid))
        elif one.what == "kill":
            yield Effect("danger", "kill", "it kills a process that it finds by its name or a file: libhook ends who has"
                         " a device open, with end", one, operation)  # fmt: skip
        elif one.what == "connect" and "/var/run" not in one.data and "nscd" not in one.data and one.by == "":
            yield Effect("left", "connection", "it talks to another program over a socket", one, operation)


def _of_program(one: Done, operation: str) -> Iterator[Effect]:
    name, words = _name(one), list(one.argv[1:])
    translate = _PROGRAMS.get(name)
    if name == "sleep" and operation == "started" and words and len(words[0]) > 1:
        yield Effect("left", "sleep", f"sleep {' '.join(words)}: nothing at started waits, what comes after it is run at"
                     " once", one, operation)  # fmt: skip
    elif name == "sleep":
        yield Effect("needless", "sleep", f"sleep {' '.join(words)}: libhook waits for what the next step needs", one, operation)
    elif name in ("logger", "wall"):
        yield Effect("needless", "log", "a log: journalctl -t libhook has libhook's", one, operation)
    elif name in TEXT_TOOLS | FILE_TOOLS - {"chmod", "chown", "chgrp", "setfacl"}:
        return
    elif name in _ASKS:
        yield Effect("asks", name, "", one, operation)
    elif name in _QUERIES and _QUERIES[name](words):
        if name == "virsh" and _first(words) in ("list", "dominfo", "domstate", "dumpxml", "domiflist", "domifaddr",
                                                 "domblklist", "vcpuinfo", "vcpupin"):  # fmt: skip
            yield Effect("wrong", "virsh", f"virsh {_first(words)} waits for the guest's own lock in a hook, and never"
                         " returns there: take it from the XML on stdin", one, operation)  # fmt: skip
        else:
            yield Effect("asks", name, "", one, operation)
    elif name in ("chrt", "renice", "taskset", "ionice") and any(word.isdigit() and len(word) > 2 or word.startswith("-p")
                                                                 for word in words):  # fmt: skip
        yield Effect("left", name, f"{name} works on a process that the script finds: no setting knows QEMU's", one, operation)
    elif translate:
        yield from translate(one, words, operation)
    elif "/" in one.argv[0] and _is_script(one):
        return
    else:
        yield Effect("command", name, "", one, operation)


def _is_script(one: Done) -> bool:
    """Whether it is a script whose own commands are in the trace."""
    return one.path.startswith(("/etc/libvirt/", "/etc/libvirt")) or one.by == ""


def _systemctl(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    options = [word for word in words if word.startswith("-")]
    takes = {words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-M", "-H", "-p", "-t", "-s", "--signal", "--machine")}
    verb, *names = [word for word in words if not word.startswith("-") and word not in takes] or [""]
    owner = ""
    machine = next((word.partition("=")[2] for word in options if word.startswith("--machine=")), "") or next(iter(takes), "")
    if "--user" in options or "--global" in options:
        owner = machine.partition("@")[0] or one.user
        if owner.isdigit() or owner == "user":
            owner = "@seat0"
        if not owner or owner == "root":
            yield Effect("wrong", " ".join(names), "systemctl --user as root asks root's own systemd: this never reached"
                         " the user's", one, operation)  # fmt: skip
            return
    elif machine:
        yield Effect("command", "systemctl", "", one, operation)
        return
    prefix = f"{owner}/" if owner else ""
    if verb in ("suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate", "reboot", "poweroff"):
        yield Effect("left", verb, f"no setting {verb}s the host", one, operation)
    elif verb == "isolate":
        yield Effect("down", "display-manager.service", "isolate", one, operation)
    elif verb in ("daemon-reload", "reset-failed", "import-environment", "revert"):
        yield Effect("needless", verb, f"systemctl {verb} changes nothing that libhook needs", one, operation)
    elif verb in ("start", "stop", "restart", "kill", "try-restart", "reload-or-restart") or (
        verb in ("enable", "disable") and "--now" in options
    ):
        kind = "down" if verb in ("stop", "kill", "disable") else "up" if verb in ("start", "enable") else "restart"
        for name in names:
            yield _of_unit(kind, prefix, name, one, operation)
        if verb in ("enable", "disable"):
            yield Effect("danger", verb, f"systemctl {verb} holds for good, and not only while the guest runs", one, operation)
    elif verb in ("enable", "disable", "mask", "unmask") and "--runtime" not in options:
        yield Effect("danger", verb, f"systemctl {verb} holds for good, and not only while the guest runs", one, operation)
    elif verb == "set-property" and "init.slice" in names:
        yield Effect("wrong", "init.slice", "there is no init.slice: init.scope was meant", one, operation)
    else:
        yield Effect("command", verb, "", one, operation)


def _of_unit(kind: str, prefix: str, name: str, one: Done, operation: str) -> Effect:
    if "/" in name:
        return Effect("wrong", name, f"{name} is not a unit, but a path: nothing was {'stopped' if kind == 'down' else 'started'}",
                      one, operation)  # fmt: skip
    whole = name if name.rpartition(".")[2] in TYPES or name.endswith((".target", ".slice", ".scope")) else f"{name}.service"
    if re.search(r"nosleep|no-sleep|inhibit|stay-?awake", whole):
        return Effect("awake", whole, kind, one, operation)
    if whole.startswith(("user@", "session-")) or whole in ("graphical.target", "graphical-session.target"):
        if whole == "graphical.target" and not prefix:
            return Effect(kind, "display-manager.service", "isolate", one, operation)
        if kind == "down":
            return Effect("sessions", whole, "", one, operation)
    return Effect(kind, prefix + whole, "", one, operation)


def _modules(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    removes = _name(one) == "rmmod" or any(word in ("-r", "--remove", "-rf", "-ra", "-rv", "-rfv", "-fr") for word in words)
    names = [word.replace("-", "_") for word in words if not word.startswith("-") and "=" not in word]
    several = removes or any(word in ("-a", "--all") or re.fullmatch(r"-\w*a\w*", word) for word in words)
    for name in names if several else names[:1]:
        if name.startswith("vfio") or name == "":
            yield Effect("needless", name, "libhook loads vfio, and leaves it for other guests", one, operation)
        elif name in _HELPERS and removes:
            yield Effect("needless", name, f"{name} need not go: libhook takes the guest's devices from their drivers", one, operation)
        else:
            yield Effect("out" if removes else "in", name, "", one, operation)
    if not several and len(names) > 1:
        yield Effect("wrong", names[1], f"modprobe takes {', '.join(names[1:])} for parameters of {names[0]}: they were not"
                     " loaded", one, operation)  # fmt: skip


def _virsh(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    plain = [word for word in words if not word.startswith("-")]
    verb, target = plain[0], plain[1] if len(plain) > 1 else ""
    if verb in ("nodedev-detach", "nodedev-dettach", "nodedev-reattach", "nodedev-reset"):
        yield Effect("bind", address(target), "back" if verb == "nodedev-reattach" else "vfio-pci", one, operation)
    elif verb in ("attach-device", "detach-device", "update-device", "start", "destroy", "shutdown", "reboot", "suspend", "resume",
                  "define", "undefine", "setvcpus", "emulatorpin", "attach-interface", "attach-disk"):  # fmt: skip
        yield Effect("danger", verb, f"virsh {verb} in a hook waits for a guest's lock, and may never return", one, operation)
    else:
        yield Effect("command", f"virsh-{verb}", "", one, operation)


def _kill(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    names = [word for word in words if not word.startswith("-") and not word.isdigit()]
    yield Effect("danger", "kill", f"{_name(one)} {' '.join(names)} kills by name, whoever it is: `end` ends who has a"
                 " device of the guest open", one, operation)  # fmt: skip


def _loginctl(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    if words and words[0].startswith(("terminate", "kill")):
        yield Effect("sessions", words[0], "", one, operation)
    else:
        yield Effect("command", "loginctl", "", one, operation)


def _firewall(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    flushes = {"-F", "--flush", "-X", "--delete-chain", "-Z", "-P", "--policy"} & {*words} or words[:1] == ["flush"]
    of_libvirt = any(word.startswith("LIBVIRT_") for word in words) and {"-D", "--delete", "delete"} & {*words}
    if flushes and not (("-F" in words or "-X" in words) and _own_chain(words)):
        yield Effect("danger", "flush", "it empties or deletes what others have put there", one, operation)
    elif of_libvirt and any(word == "REJECT" for word in words):
        yield Effect("danger", "libvirt", "it deletes rules of libvirt's", one, operation)
    else:
        yield Effect("command", _name(one), "", one, operation)


def _own_chain(words: list[str]) -> bool:
    chain = next((words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-F", "-X")), "")
    return bool(chain) and chain not in ("INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING") and chain[0] != "-"


def _sysctl(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    for word in words:
        name, sign, value = word.partition("=")
        if sign and not word.startswith("-"):
            yield _of_sysctl(name.strip().replace("/", "."), value.strip(), one, operation)


def _of_sysctl(name: str, value: str, one: Done, operation: str) -> Effect:
    if name in ("vm.drop_caches", "vm.compact_memory"):
        return Effect("trigger", name, value, one, operation)
    return Effect("value", name, value, one, operation)


def _umount(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    for word in words:
        if not word.startswith("-"):
            yield Effect("umount" if word.startswith("/") and not word.startswith("/dev/") else "command", word, "", one, operation)


def _mount(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    last = words[-1] if words else ""
    yield Effect("mount" if last.startswith("/") and not last.startswith("/dev/") else "command", last, "", one, operation)


def _governor(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    value = next((words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-g", "--governor")), "")
    only = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "-c"), "all")
    yield Effect("governor" if value else "command", only, value, one, operation)


def _bind(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    plain = [word for word in words if not word.startswith("-")]
    back = plain[:1] == ["unset-override"]
    yield Effect("bind", address(plain[1] if len(plain) > 1 else ""), "back" if back else plain[-1], one, operation)


def _rtcwake(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    if "no" in words:
        yield Effect("left", "rtcwake", "it sets the clock that wakes the host again", one, operation)
    else:
        yield Effect("left", "suspend", "no setting suspends the host, and other guests with it", one, operation)


def _inhibit(one: Done, _words: list[str], operation: str) -> Iterator[Effect]:
    yield Effect("awake", "systemd-inhibit", "down" if operation in ("stopped", "release") else "up", one, operation)


_PROGRAMS: dict[str, Callable[[Done, list[str], str], Iterator[Effect]]] = {
    "systemctl": _systemctl, "modprobe": _modules, "rmmod": _modules, "virsh": _virsh, "killall": _kill, "pkill": _kill,
    "fuser": _kill, "kill": _kill, "xkill": _kill, "loginctl": _loginctl, "iptables": _firewall, "ip6tables": _firewall,
    "nft": _firewall, "ebtables": _firewall, "sysctl": _sysctl, "umount": _umount, "mount": _mount, "cpupower": _governor,
    "cpufreq-set": _governor, "driverctl": _bind, "rtcwake": _rtcwake, "systemd-inhibit": _inhibit,
}  # fmt: skip


def _of_file(one: Done, operation: str, tool: Done | None) -> Iterator[Effect]:
    path, data = one.path, one.data.strip()
    if path.startswith(("/sys/", "/proc/")):
        if one.what == "write" or (one.what == "fail" and not path.startswith("/proc/self")):
            yield _of_kernel(_as_written(path), data if one.what == "write" else "", one, operation)
        return
    if path.startswith("/dev/") and not path.startswith("/dev/shm/"):
        return
    if one.what == "write" or path in ("/", ""):
        return
    named = path.rpartition("/")[2]
    if path.startswith(("/var/log/", "/tmp/qemu", "/dev/kmsg")) or "log" in named or one.data == "append":
        yield Effect("needless", "log", "a log: journalctl -t libhook has libhook's", one, operation)
    elif path.startswith(("/tmp/", "/run/", "/var/run/", "/var/tmp/", "/etc/libvirt/hooks/")):
        yield Effect("needless", "notes", "what it notes for later: libhook keeps what was before in /run/libhook", one, operation)
    elif path.startswith(("/etc/libvirt/", "/var/lib/libvirt/")) and one.what == "remove":
        yield Effect("danger", path, f"it takes away {path}, which is libvirt's", one, operation)
    elif path.startswith(("/etc/libvirt/", "/var/lib/libvirt/dnsmasq", "/var/lib/libvirt/network")):
        yield Effect("danger", path, f"it changes {path}, which is libvirt's", one, operation)
    else:
        yield Effect("file", path, "", tool or one, operation)


def _as_written(path: str) -> str:
    """A path below /sys as people write it: strace shows where the links lead to."""
    found = re.match(r"/sys/devices/pci[^/]*(?:/[^/]*)*?/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/(.+)", path)
    return f"/sys/bus/pci/devices/{found[1]}/{found[2]}" if found else path


def _of_kernel(path: str, data: str, one: Done, operation: str) -> Effect:
    last = path.rpartition("/")[2]
    if "/vtconsole/" in path:
        return Effect("needless", "console", "consoles: libhook unbinds them where a module must go, and binds them again", one, operation)
    if "framebuffer" in path:
        return Effect("needless", "framebuffer", "framebuffer: vfio-pci takes it away by itself", one, operation)
    if "/bus/pci/" in path or "/pci" in path:
        if last in ("bind", "unbind", "driver_override", "drivers_probe", "new_id", "remove_id"):
            driver = data if last == "driver_override" else path.split("/drivers/")[-1].split("/")[0] if last == "bind" else ""
            return Effect("bind", address(path if last == "driver_override" else data) or data, driver, one, operation)
        if last in ("remove", "rescan", "reset") or last.endswith("_resize"):
            return Effect("left", last, f"no setting writes to {last}: nothing comes between a driver and vfio", one, operation)
    if path == "/sys/power/state":
        return Effect("left", "suspend", "no setting suspends the host, and other guests with it", one, operation)
    if path.startswith("/proc/sys/"):
        return _of_sysctl(path.removeprefix("/proc/sys/").replace("/", "."), data, one, operation)
    if path.startswith("/proc/") or path.startswith("/sys/fs/cgroup") or last in ("bind", "unbind"):
        return Effect("written", path, data, one, operation)
    return Effect("value", path, data, one, operation)


def address(text: str) -> str:
    """The PCI address in a text, as /sys writes it; "" if there is none."""
    found = _ADDRESS.search(text)
    return f"{found[1]}:{found[2]}:{found[3]}.{found[4]}".lower() if found else ""


def _name(one: Done) -> str:
    return one.argv[0].rpartition("/")[2] if one.argv else ""


def _first(words: list[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")

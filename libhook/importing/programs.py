# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the programs do that scripts start: units, modules, devices, rules and the rest. Pure."""

import re
from collections.abc import Callable, Iterator

from libhook.facts.unit import TYPES
from libhook.importing import dangers
from libhook.importing.asking import ASKS, FILE_TOOLS, TEXT_TOOLS, first, only_asks
from libhook.importing.done import Done
from libhook.importing.effect import Effect, Kind, address
from libhook.importing.inside.processes import USER

_HELPERS_WORDS = (
    "drm drm_kms_helper drm_ttm_helper ttm drm_display_helper drm_buddy drm_exec amdxcp gpu_sched fb_sys_fops"
    " syscopyarea sysfillrect sysimgblt i2c_nvidia_gpu i2c_algo_bit snd_hda_intel snd_hda_codec_hdmi"
    " snd_hda_codec snd_hda_core video wmi mxm_wmi ucsi_ccg typec_ucsi cec nvidia_wmi_ec_backlight"
)
_HELPERS = frozenset(_HELPERS_WORDS.split())
GPU_DRIVERS = frozenset(
    [
        "nvidia",
        "nvidia_drm",
        "nvidia_modeset",
        "nvidia_uvm",
        "nvidia_peermem",
        "nouveau",
        "amdgpu",
        "radeon",
        "i915",
        "xe",
    ]
)

_OF_GUESTS_WORDS = "list dominfo domstate dumpxml domiflist domifaddr domblklist vcpuinfo vcpupin qemu-monitor-command"
_OF_GUESTS = frozenset(_OF_GUESTS_WORDS.split())
"""What virsh asks of the hook's own guest, or of all: libvirtd holds the guest's lock while a hook runs."""


def of_program(one: Done, operation: str) -> Iterator[Effect]:
    """Return what starting this program does."""
    name, words = _name(one), list(one.argv[1:])
    if name == "virsh" and words[:1] in (["-c"], ["--connect"]):
        words = words[2:]
    translate = _PROGRAMS.get(name)
    if why := dangers.why(name, words):
        yield Effect("danger", name, f"{' '.join((name, *words))}: {why}", one, operation)
    elif name == "sleep":
        yield Effect(
            "needless", "sleep", f"sleep {' '.join(words)}: libhook waits for what the next step needs", one, operation
        )
    elif name in ("logger", "wall", "systemd-cat"):
        yield Effect("needless", "log", "a log: journalctl -t libhook has libhook's", one, operation)
    elif name in TEXT_TOOLS | FILE_TOOLS - {"chmod", "chown", "chgrp", "setfacl"}:
        return
    elif name in ASKS:
        yield Effect("asks", name, "", one, operation)
    elif only_asks(name, words):
        if name == "virsh" and first(words) in _OF_GUESTS:
            yield Effect("wrong", "virsh", f"virsh {first(words)} waits for the guest's own lock in a hook, and never"
                         " returns there: take it from the XML on stdin", one, operation)  # fmt: skip
        else:
            yield Effect("asks", name, "", one, operation)
    elif name in ("chrt", "renice", "taskset", "ionice") and _names_a_process(words):
        yield Effect(
            "left", name, f"{name} works on a process that the script finds: no setting knows QEMU's", one, operation
        )
    elif translate:
        yield from translate(one, words, operation)
    elif not one.by:  # a script that was given: what it does is in the trace
        return
    else:
        yield Effect("command", name, "", one, operation)


def _names_a_process(words: list[str]) -> bool:
    return any((word.isdigit() and len(word) > 2) or word.startswith("-p") for word in words)


def _systemctl(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    options = [word for word in words if word.startswith("-")]
    takes = {
        words[at + 1]
        for at, word in enumerate(words[:-1])
        if word in ("-M", "-H", "-p", "-t", "-s", "--signal", "--machine")
    }
    verb, *names = [word for word in words if not word.startswith("-") and word not in takes] or [""]
    owner = ""
    machine = next((word.partition("=")[2] for word in options if word.startswith("--machine=")), "") or next(
        iter(takes), ""
    )
    if "--user" in options or "--global" in options:
        owner = machine.partition("@")[0] or one.user
        if owner.isdigit() or owner == USER:
            owner = "@seat0"
        if not owner or owner == "root":
            yield Effect("wrong", " ".join(names), "systemctl --user as root asks root's own systemd: it never"
                         " reached the user's", one, operation)  # fmt: skip
            return
    elif machine:
        yield Effect("command", "systemctl", "", one, operation)
        return
    prefix = f"{owner}/" if owner else ""
    if verb in ("suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate", "reboot", "poweroff"):
        yield Effect("left", verb, f"no setting {verb}s the host", one, operation)
    elif verb == "isolate":
        up = bool({"graphical", "graphical.target", "default.target", "default"} & {*names})
        yield Effect("up" if up else "down", "display-manager.service", "isolate", one, operation)
    elif verb in ("daemon-reload", "reset-failed", "import-environment", "revert"):
        yield Effect("needless", verb, f"systemctl {verb} changes nothing that libhook needs", one, operation)
    elif verb in ("start", "stop", "restart", "kill", "try-restart", "reload-or-restart") or (
        verb in ("enable", "disable") and "--now" in options
    ):
        kind: Kind = (
            "down" if verb in ("stop", "kill", "disable") else "up" if verb in ("start", "enable") else "restart"
        )
        for name in names:
            yield _of_unit(kind, prefix, name, one, operation)
        if verb in ("enable", "disable"):
            yield Effect(
                "danger", verb, f"systemctl {verb} holds for good, and not only while the guest runs", one, operation
            )
    elif verb in ("enable", "disable", "mask", "unmask") and "--runtime" not in options:
        yield Effect(
            "danger", verb, f"systemctl {verb} holds for good, and not only while the guest runs", one, operation
        )
    elif verb == "set-property" and "init.slice" in names:
        yield Effect("wrong", "init.slice", "there is no init.slice: init.scope was meant", one, operation)
    else:
        yield Effect("command", verb, "", one, operation)


def _of_unit(kind: Kind, prefix: str, name: str, one: Done, operation: str) -> Effect:
    if "/" in name:
        done = "stopped" if kind == "down" else "started"
        return Effect("wrong", name, f"{name} is not a unit, but a path: nothing was {done}", one, operation)
    whole = (
        name
        if name.rpartition(".")[2] in TYPES or name.endswith((".target", ".slice", ".scope"))
        else f"{name}.service"
    )
    if re.search(r"nosleep|no-sleep|inhibit|stay-?awake", whole):
        return Effect("awake", whole, kind, one, operation)
    if whole.startswith(("user@", "session-")) or whole in ("graphical.target", "graphical-session.target"):
        if whole == "graphical.target" and not prefix:
            return Effect(kind, "display-manager.service", "isolate", one, operation)
        if kind == "down":
            return Effect("sessions", whole, "", one, operation)
    return Effect(kind, prefix + whole, "", one, operation)


def _modules(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    removes = _name(one) == "rmmod" or any(
        word in ("-r", "--remove", "-rf", "-ra", "-rv", "-rfv", "-fr") for word in words
    )
    names = [word.replace("-", "_") for word in words if not word.startswith("-") and "=" not in word]
    several = removes or any(word in ("-a", "--all") or re.fullmatch(r"-\w*a\w*", word) for word in words)
    for name in names if several else names[:1]:
        if name.startswith("vfio") or name == "":
            yield Effect("needless", name, "libhook loads vfio, and leaves it for other guests", one, operation)
        elif name in _HELPERS and removes:
            yield Effect(
                "needless",
                name,
                f"{name} need not go: libhook takes the guest's devices from their drivers",
                one,
                operation,
            )
        else:
            yield Effect("out" if removes else "in", name, "", one, operation)
    if not several and len(names) > 1:
        yield Effect("wrong", names[1], f"modprobe takes {', '.join(names[1:])} for parameters of {names[0]}: they were"
                     " not loaded", one, operation)  # fmt: skip


def _virsh(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    plain = [word for word in words if not word.startswith("-")]
    verb, target = plain[0], plain[1] if len(plain) > 1 else ""
    if verb in ("nodedev-detach", "nodedev-dettach", "nodedev-reattach", "nodedev-reset"):
        yield Effect("bind", address(target), "back" if verb == "nodedev-reattach" else "vfio-pci", one, operation)
    elif verb in ("attach-device", "detach-device", "update-device", "start", "destroy", "shutdown", "reboot",
                  "suspend", "resume", "define", "undefine", "setvcpus",
                   "emulatorpin", "attach-interface", "attach-disk"):  # fmt: skip
        yield Effect(
            "danger", verb, f"virsh {verb} in a hook waits for a guest's lock, and may never return", one, operation
        )
    else:
        yield Effect("command", f"virsh-{verb}", "", one, operation)


def _kill(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    names = [word for word in words if not word.startswith("-") and not word.isdigit()]
    yield Effect("danger", "kill", f"{_name(one)} {' '.join(names)} kills by name, whoever it is: `end` ends who has a"
                 " device of the guest open", one, operation)  # fmt: skip


def _loginctl(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    if (
        words
        and words[0].startswith(("terminate", "kill"))
        and not any(word[:1] not in ("", "-") for word in words[1:])
    ):
        yield Effect("wrong", words[0], f"loginctl {words[0]} had no name, and ended nobody", one, operation)
    elif words and words[0].startswith(("terminate", "kill")):
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
            yield of_sysctl(name.strip().replace("/", "."), value.strip(), one, operation)


def of_sysctl(name: str, value: str, one: Done, operation: str) -> Effect:
    """Return what setting a sysctl does."""
    if name in ("vm.drop_caches", "vm.compact_memory"):
        return Effect("trigger", name, value, one, operation)
    return Effect("value", name, value, one, operation)


def _umount(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    for word in words:
        if not word.startswith("-"):
            yield Effect(
                "umount" if word.startswith("/") and not word.startswith("/dev/") else "command",
                word,
                "",
                one,
                operation,
            )


def _mount(one: Done, words: list[str], operation: str) -> Iterator[Effect]:
    last = words[-1] if words else ""
    yield Effect(
        "mount" if last.startswith("/") and not last.startswith("/dev/") else "command", last, "", one, operation
    )


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
    "nft": _firewall, "ebtables": _firewall, "sysctl": _sysctl, "umount": _umount, "mount": _mount,
    "cpupower": _governor, "cpufreq-set": _governor, "driverctl": _bind, "rtcwake": _rtcwake,
    "systemd-inhibit": _inhibit,
}  # fmt: skip


def _name(one: Done) -> str:
    return one.argv[0].rpartition("/")[2] if one.argv else ""

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host on which the scripts run: it has what they name, its devices, its units and its modules."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.unit import TYPES
from libhook.importing.folder import inside
from libhook.importing.inside.reacting import meminfo
from libhook.simulation.world import AUDIO, NVME, USB, VGA, Device, Driver, Module, World

_DESKTOPS = (
    "gdm gdm3 sddm lightdm ly greetd lxdm xdm slim cosmic-greeter plasmalogin mdm kdm nodm lemurs emptty entrance"
)
DESKTOPS = tuple(_DESKTOPS.split())
GPU_MODULES = ("nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm", "nouveau", "amdgpu", "radeon", "i915", "xe")
_ADDRESS = re.compile(
    r"(?<![0-9a-f])(?:([0-9a-f]{4})[:_])?([0-9a-f]{2})[:_]([01][0-9a-f])[._]([0-7])(?![0-9a-f])", re.I
)
_LISTS = re.compile(r"AllowedCPUs=([\d,-]+)|cpu(\d+)/cpufreq|(?<=-c )(\d+(?:[-,]\d+)*)")
_UNIT = re.compile(rf"[\w@:.\\-]+\.(?:{'|'.join(TYPES)})\b")
_UNIT_OF = re.compile(
    r"(?:systemctl|service)\b[^\n;&|]*?\b(?:stop|start|restart|is-active|disable|kill)((?:[ \t]+[\w@:.-]+)+)"
)
_MODULE_OF = re.compile(r"(?:modprobe|rmmod)((?:[ \t]+[\w.=-]+)+)")
_MOUNTED = re.compile(r"umount(?:[ \t]+-\w+)*[ \t]+[\"']?(/(?!dev/)[\w./-]*\w)")
_KILLED = re.compile(r"\bkill\b[^\n;|&]*?(?:\$\(|`)\s*(?:pidof|pgrep)(?:[ \t]+-\w+)*[ \t]+([\w.-]{1,64})")
_PROCESSES = ("plasmashell", "gnome-shell", "Xorg", "Xwayland", "sway", "Hyprland", "pipewire", "pulseaudio", "niri")
_CARD = PciAddress.parse("0000:01:00.0")
_STACK = ("nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm")
NVIDIA, AMD, INTEL = "10de:2684", "1002:73bf", "8086:56a0"


class Imagined(NamedTuple):
    """The host."""

    world: World
    state: dict[str, dict[str, object]]
    """What stand-ins know: units, modules, processes, drivers, texts of lspci."""
    cpus: int
    desktop: str
    """The unit of its display manager."""
    invented: str = ""
    """The PCI address of its card, if nobody has named any."""
    other: int = 0
    """1 for a second host, on which all numbers, addresses and names are others that only a host could say."""

    @property
    def number(self) -> str:
        """What is in a file of the kernel's of which nothing is known: far from the first host's, also when halved."""
        return str(4096 * self.other)


def imagine(
    texts: Iterable[str], given: Iterable[PciAddress], cpus: int, users: Mapping[str, int] = {}, other: int = 0
) -> Imagined:
    """Return a host with all that these scripts and the guest's XML name, and this host's users by number."""
    text = "\n".join(texts)
    maker = _maker(text)
    named = sorted({*_addresses(text), *given})
    devices = _devices(named or [_CARD], maker)
    driver = {"10de": "nvidia", "1002": "amdgpu", "8086": "i915"}[maker[:4]]
    if driver == "nvidia" and "nouveau" in text and "nvidia_drm" not in text and "nvidia-drm" not in text:
        driver = "nouveau"
    drivers = (Driver(driver, ids=("class:0300",)), Driver("snd_hda_intel", ids=("class:0403",)),
               Driver("xhci_hcd", ids=("class:0c03",), module="xhci_pci"), Driver("nvme", ids=("class:0108",)),
               Driver("e1000e", ids=("class:0200",)))  # fmt: skip
    own = {device.address: _driver_of(device, drivers) for device in devices}
    bound = tuple(device._replace(driver=own[device.address]) for device in devices)
    modules = tuple(Module(name) for name in _STACK) if driver == "nvidia" else ()
    world = World(bound, drivers, modules=modules)
    desktops = [name for name in DESKTOPS if re.search(rf"(?<![\w/-]){name}(?![\w-])", text)]
    desktop = f"{desktops[0]}.service" if desktops else "sddm.service"
    count = max([cpus, *(number + 1 for number in _cpus(text))])
    state = _state(text, world, desktop, count, own)
    state["counts"]["other"] = other
    state["users"] = {name: number for name, number in users.items() if name in text}
    state["processes"] = {name: number + 300 * other for name, number in _named_processes(text).items()}
    return Imagined(world, state, count, desktop, "" if named else str(_CARD), other)


def _named_processes(text: str) -> dict[str, int]:
    return {name: 1500 + at for at, name in enumerate(_PROCESSES) if name == "Xorg" or name.lower() in text.lower()} | {
        name: 1600 + at for at, name in enumerate(dict.fromkeys(_KILLED.findall(text)))}  # fmt: skip


def _maker(text: str) -> str:
    low = text.lower()
    counts = [(len(re.findall(pattern, low)), ids) for pattern, ids in
              ((r"nvidia|nouveau", NVIDIA), (r"amdgpu|radeon", AMD), (r"i915|\bxe\b", INTEL))]  # fmt: skip
    return max(counts, key=lambda count: count[0])[1]


def _addresses(text: str) -> set[PciAddress]:
    found = set[PciAddress]()
    for domain, bus, slot, function in _ADDRESS.findall(text):
        try:
            found.add(PciAddress.parse(f"{domain or '0000'}:{bus}:{slot}.{function}".lower()))
        except BadInput:
            continue
    return set(sorted(found)[:64])


def _devices(addresses: list[PciAddress], maker: str) -> list[Device]:
    """The first functions are those of a graphics card. Others get a driver, too."""
    found = list[Device]()
    slots = [(one.domain, one.bus, one.slot) for one in addresses]
    cards = [slot for slot in dict.fromkeys(slots) if slots.count(slot) > 1] or [slots[0]]
    for number, one in enumerate(addresses):
        slot = (one.domain, one.bus, one.slot)
        of_card = {0: VGA, 1: AUDIO, 2: USB, 3: USB}.get(one.function, USB)
        class_ = of_card if slot in cards else USB if number % 2 else NVME
        ids = maker if class_ == VGA else {AUDIO: f"{maker[:4]}:ab28", NVME: "144d:a808"}.get(class_, "1022:149c")
        at = cards.index(slot) if slot in cards else 0
        children = (("drm", f"card{at}"), ("drm", f"renderD{128 + at}")) if class_ == VGA else ()
        found.append(Device(str(one), None, 10 + slots.index(slot), class_, ids, header=0x80, children=children))
    return found


def _driver_of(device: Device, drivers: tuple[Driver, ...]) -> str | None:
    return next((driver.name for driver in drivers if driver.matches(device)), None)


def _cpus(text: str) -> list[int]:
    groups = ("".join(found) for found in _LISTS.findall(text))
    return [int(number) for group in groups for number in re.findall(r"\d+", group) if int(number) < 1024]


def _state(
    text: str, world: World, desktop: str, cpus: int, own: dict[str, str | None]
) -> dict[str, dict[str, object]]:
    units = {"multi-user.target": "active", "graphical.target": "active", "user@1000.service": "active"}
    for words in _UNIT_OF.findall(text):
        for word in words.split():
            name = word if _UNIT.fullmatch(word) else f"{word}.service"
            if not word.startswith("-") and name.partition(".")[0] not in DESKTOPS:
                units[name] = "active"
    started = re.compile(r"systemctl\b[^\n;&|]*?\bstart((?:[ \t]+[\w@:.-]+)+)")
    elsewhere = started.sub(" ", text)  # as an argument of a loop over what is stopped
    for words in started.findall(text):
        for word in words.split():
            if not re.search(rf"(?<![\w.-]){re.escape(word.removesuffix('.service'))}(?![\w-])", elsewhere):
                units[word if _UNIT.fullmatch(word) else f"{word}.service"] = "inactive"
    units.update({f"{name}.service": "inactive" for name in DESKTOPS})
    units[desktop] = "active"
    units.pop("display-manager.service", None)
    modules = {
        name for words in _MODULE_OF.findall(text) for name in words.replace("-", "_").split() if "=" not in name
    }
    modules = {name for name in modules if name in GPU_MODULES or not name.startswith(("_", "vfio"))}
    known = {driver.module_name for driver in world.drivers if driver.loaded} | {one.name for one in world.modules}
    gpus = {name for name in modules if name in GPU_MODULES} - known
    titles = {VGA: "VGA compatible controller [0300]", AUDIO: "Audio device [0403]", USB: "USB controller [0c03]",
              NVME: "Non-Volatile memory controller [0108]"}  # fmt: skip
    makers = {"10de": "NVIDIA Corporation AD102", "1002": "Advanced Micro Devices, Inc. [AMD/ATI] Navi 21",
              "8086": "Intel Corporation Arc"}  # fmt: skip
    pci = {device.address: {"class": device.class_[:4], "ids": device.ids, "title":
           f"{titles.get(device.class_, 'Device')}: {makers.get(device.ids[:4], 'Samsung')}"}
           for device in world.devices}  # fmt: skip
    return {
        "units": dict(units), "aliases": {"display-manager.service": desktop}, "desktop": {desktop: True},
        "modules": dict.fromkeys(sorted(known | (modules - gpus)), True), "drivers": dict(own), "pci": dict(pci),
        "mounts": dict.fromkeys(_MOUNTED.findall(text), True), "counts": {"cpus": cpus},
    }  # fmt: skip


_PAGES = "sys/kernel/mm/hugepages/hugepages-2048kB"
_VALUES = {
    "vm/nr_hugepages": "0", "vm/drop_caches": "0", "vm/compact_memory": "0", "vm/swappiness": "60",
    "vm/stat_interval": "1", "kernel/watchdog": "1", "kernel/nmi_watchdog": "1", "kernel/sched_rt_runtime_us": "950000",
    "net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "2", "kernel/osrelease": "6.12.0",
    "net/ipv4/conf/all/route_localnet": "0", "kernel/hostname": "host", "vm/overcommit_memory": "0",
}  # fmt: skip


def further(root: str, host: Imagined, texts: Iterable[str]) -> None:
    """Add to a built host what scripts look at: consoles, the firmware's framebuffer, CPUs, sysctls, named files."""
    for at, name in enumerate(("(S) dummy device", "(M) frame buffer device")):
        _write(root, f"sys/class/vtconsole/vtcon{at}/name", name)
        _write(root, f"sys/class/vtconsole/vtcon{at}/bind", str(at))
    for driver in ("efi-framebuffer", "simple-framebuffer", "vesa-framebuffer"):
        for order in ("bind", "unbind"):
            _write(root, f"sys/bus/platform/drivers/{driver}/{order}", "")
    _write(root, "sys/bus/platform/drivers/efi-framebuffer/efi-framebuffer.0/uevent", "")
    _write(root, "sys/bus/platform/devices/efi-framebuffer.0/uevent", "")
    for number in range(host.cpus):
        folder = f"sys/devices/system/cpu/cpu{number}/cpufreq"
        for name, value in (
            ("scaling_governor", ("schedutil", "ondemand")[host.other]),
            ("energy_performance_preference", ("balance_performance", "balance_power")[host.other]),
        ):
            _write(root, f"{folder}/{name}", value)
        _write(root, f"{folder}/scaling_available_governors", "performance powersave ondemand schedutil")
    for name in ("present", "possible", "online"):
        _write(root, f"sys/devices/system/cpu/{name}", f"0-{host.cpus - 1}")
    for name, value in _VALUES.items():
        more = host.other if name == "vm/nr_hugepages" else int(host.number)  # few pages: scripts ask for enough
        _write(root, f"proc/sys/{name}", str(int(value) + more) if value.isdigit() else value)
    for folder in ("sys/kernel/mm/hugepages", "sys/devices/system/node/node0/hugepages"):
        for size in (2048, 1048576):
            for name in ("nr_hugepages", "free_hugepages", "nr_overcommit_hugepages"):
                _write(root, f"{folder}/hugepages-{size}kB/{name}", str(host.other))
    for name in ("nr_hugepages", "free_hugepages"):  # one value under several names
        os.unlink(f"{root}/{_PAGES}/{name}")
        os.symlink("/proc/sys/vm/nr_hugepages", f"{root}/{_PAGES}/{name}")
    _write(root, "proc/meminfo", meminfo(host.other, host.other).rstrip())
    os.chmod(f"{root}/proc/meminfo", 0o666)  # noqa: S103 - only the sandbox's user may enter the folder
    for device in host.world.devices:
        folder = f"sys/bus/pci/devices/{device.address}"
        for name in ("remove", "reset", "power/control", "boot_vga", "d3cold_allowed", "reset_method"):
            _write(
                root,
                f"{folder}/{name}",
                {"power/control": "auto", "boot_vga": "1", "d3cold_allowed": "1"}.get(name, ""),
            )
    _write(root, "proc/irq/default_smp_affinity", "ff")
    _interrupts(root, host)
    for name in ("rescan", "drivers_probe"):
        _write(root, f"sys/bus/pci/{name}", "")
    for driver in ("vfio-pci", *(one.name for one in host.world.drivers)):
        for order in ("bind", "unbind", "new_id", "remove_id"):
            _write(root, f"sys/bus/pci/drivers/{driver}/{order}", "")
    for path in sorted({path for text in texts for path in _LITERAL.findall(text)})[:500]:
        if not os.path.lexists(f"{root}{path}"):
            _write(root, path[1:], host.number)


def _interrupts(root: str, host: Imagined) -> None:
    """The table of interrupts, and a folder for each. Else scripts would find those of the host that imports."""
    lines = [" " * 11 + "".join(f"CPU{number:<8}" for number in range(host.cpus))]
    for at, name in enumerate(_INTERRUPTS):
        number = 40 + 40 * host.other + at
        lines.append(f"{number:>4}:" + " 0" * host.cpus + f" IR-PCI-MSI-0000:00:1f.0 {at}-edge {name}")
        _write(root, f"proc/irq/{number}/smp_affinity", "ff")
        _write(root, f"proc/irq/{number}/smp_affinity_list", f"0-{host.cpus - 1}")
    _write(root, "proc/interrupts", "\n".join([*lines, f" NMI:{' 0' * host.cpus} Non-maskable interrupts"]))


_INTERRUPTS = ("nvme0q0", "xhci_hcd", "eth0", "ahci[0000:00:17.0]", "snd_hda_intel:card0", "nvidia", "amdgpu", "i915",
               "vfio-msix[0](0000:01:00.0)", "vfio-intx(0000:01:00.1)")  # fmt: skip


_LITERAL = re.compile(
    r"(?<![\w$}])(/(?:sys/(?!bus/pci/|class/vtconsole|bus/platform)|proc/sys/|proc/irq/)[\w./:-]*\w)(?![\w*$/{])"
)


def _write(root: str, name: str, text: str) -> None:
    try:
        path = inside(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{text}\n" if text else "")
    except (OSError, UnicodeEncodeError, BadInput):
        return

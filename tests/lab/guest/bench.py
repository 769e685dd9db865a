# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handing one network card over and back, four ways side by side: libhook, driverctl, virsh, and bare writes.

All in one run and turn about, so that a busy machine is busy for all of them. Prints a table, and each row as
a line of JSON for programs.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from guests import Guest, pci, virsh
from host import NIC, PCI, driver_of, hand_over

HOOK = "/etc/libvirt/hooks/qemu"
ROUNDS = 9
Step = Callable[[], None]


def main() -> int:
    """Measure, print, and fail if a way does not do what it is timed for."""
    hand_over(NIC, "vfio-pci", None)  # loads the module, which only the first of them would pay for
    hand_over(NIC, "e1000e", None)
    ways = {"libhook": hook(), "driverctl": driverctl(), "virsh": nodedev(), "sysfs writes": sysfs()}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, (take, give) in ways.items():
            took[name].append((timed(take, "vfio-pci"), timed(give, "e1000e")))
    # The first round warms the caches.
    medians = {name: [milliseconds(column) for column in columns(times[1:])] for name, times in took.items()}
    print(f"{'':<14}{'hand over':>12}{'give back':>12}{'both':>12}{'x bare':>9}   (ms, medians of {ROUNDS})")
    for name, (take_ms, give_ms, both_ms) in medians.items():
        ratio = both_ms / medians["sysfs writes"][2]
        print(f"{name:<14}{take_ms:>12.0f}{give_ms:>12.0f}{both_ms:>12.0f}{ratio:>9.2f}")
    for name, (take_ms, give_ms, both_ms) in medians.items():
        print(json.dumps({"way": name, "take_ms": take_ms, "give_ms": give_ms, "both_ms": both_ms}))
    return 0


def columns(times: list[tuple[float, float]]) -> list[list[float]]:
    """The rounds as three columns: handing over, giving back, and both."""
    return [[take for take, _ in times], [give for _, give in times], [take + give for take, give in times]]


def milliseconds(seconds: list[float]) -> float:
    """The median, rounded."""
    return round(statistics.median(seconds) * 1000, 1)


def timed(step: Step, driver: str) -> float:
    """Seconds for one step, which must leave the card on the driver."""
    began = time.perf_counter()
    step()
    took = time.perf_counter() - began
    if driver_of(NIC) != driver:
        sys.exit(f"{NIC} is on {driver_of(NIC)}, not on {driver}")
    return took


def hook() -> tuple[Step, Step]:
    """What libvirtd runs at prepare and release, fed the XML that libvirtd would write."""
    guest = Guest([pci(NIC)], "bench")
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(guest.xml)
        file.flush()
        virsh("define", file.name)
    xml = virsh("dumpxml", guest.uuid).encode()
    virsh("undefine", guest.uuid)

    def call(*arguments: str) -> Step:
        return lambda: run([HOOK, guest.name, *arguments], xml)

    return call("prepare", "begin", "-"), call("release", "end", "destroyed")


def driverctl() -> tuple[Step, Step]:
    """The distribution's tool for driver overrides."""
    return (
        lambda: run(["driverctl", "--nosave", "set-override", NIC, "vfio-pci"]),
        lambda: run(["driverctl", "--nosave", "unset-override", NIC]),
    )


def nodedev() -> tuple[Step, Step]:
    """What hook scripts do, where it does not deadlock."""
    name = "pci_" + NIC.replace(":", "_").replace(".", "_")
    return lambda: run(["virsh", "nodedev-detach", name]), lambda: run(["virsh", "nodedev-reattach", name])


def sysfs() -> tuple[Step, Step]:
    """The least it can take: the kernel's own time, and nothing checked."""
    device = PCI / "devices" / NIC

    def rebind(override: str) -> Step:
        def step() -> None:
            for path, text in (
                (device / "driver_override", override),
                (device / "driver" / "unbind", NIC),
                (PCI / "drivers_probe", NIC),
            ):
                Path(path).write_text(text)

        return step

    return rebind("vfio-pci\n"), rebind("\n")


def run(command: list[str], text: bytes | None = None) -> None:
    """Run to the end, and fail with what it said."""
    done = subprocess.run(command, input=text, capture_output=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr.decode(errors='replace')}")


if __name__ == "__main__":
    sys.exit(main())

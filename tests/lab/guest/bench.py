# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handing network cards over and back, four ways side by side: libhook, driverctl, virsh, and bare writes.

One, two, four and eight cards, each in an IOMMU group of its own: libhook is called once for all of them, as libvirtd
calls it, the others once for each, as their users' scripts do. All in one run and turn about, so that a busy machine is
busy for all of them. Then the start and stop of a guest with a card that libvirt manages, without a hook and with
libhook. Prints two tables, and each row as a line of JSON for programs.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import managed
from guests import Guest, libvirts_own_xml, pci
from host import NIC, NIC2, NIC3, NIC4, NIC5, PCI, VFS, driver_of, hand_over
from measuring import Medians, Step, run, three_medians, timed

HOOK = "/etc/libvirt/hooks/qemu"
CARDS = (NIC, NIC2, NIC3, NIC4, NIC5, *VFS[:3])
COUNTS = (1, 2, 4, 8)
ROUNDS = 7
OURS = "libhook"
Way = Callable[[Sequence[str]], tuple[Step, Step]]


def main() -> int:
    """Measure, print, and fail if a way does not do what it is timed for."""
    homes = {card: driver_of(card) or "" for card in CARDS}
    hand_over(NIC, "vfio-pci", None)  # loads the module, which only the first of them would pay for
    hand_over(NIC, homes[NIC], None)
    print(f"{os.cpu_count()} CPUs, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}; medians of {ROUNDS}, ms")
    steps = {(count, name): way(CARDS[:count]) for count in COUNTS for name, way in WAYS.items()}
    took: dict[tuple[int, str], list[tuple[float, float]]] = {key: [] for key in steps}
    for _ in range(ROUNDS + 1):
        for (count, name), (take, give) in steps.items():
            cards = CARDS[:count]
            times = (timed(take, dict.fromkeys(cards, "vfio-pci")), timed(give, {card: homes[card] for card in cards}))
            took[count, name].append(times)
    # The first round warms the caches.
    medians = {key: three_medians(times[1:]) for key, times in took.items()}
    print(f"{'cards':>5}  {'':<14}{'hand over':>12}{'give back':>12}{'both':>12}{'x libhook':>12}")
    for (count, name), (take_ms, give_ms, both_ms) in medians.items():
        ratio = both_ms / medians[count, OURS][2]
        print(f"{count:>5}  {name:<14}{take_ms:>12.0f}{give_ms:>12.0f}{both_ms:>12.0f}{ratio:>12.2f}")
    for name in WAYS:
        if name != OURS:
            won = first_won(medians, name)
            print(f"libhook takes less than {name} {f'from {won} cards on' if won else 'nowhere'}", flush=True)
    lives = managed.lives()
    managed.show(lives)
    for (count, name), (take_ms, give_ms, both_ms) in medians.items():
        print(json.dumps({"way": name, "devices": count, "take_ms": take_ms, "give_ms": give_ms, "both_ms": both_ms}))
    managed.show_json(lives)
    return 0


def first_won(medians: dict[tuple[int, str], Medians], name: str) -> int | None:
    """The number of cards from which on libhook takes less than this way, of those that were tried."""
    lost = [count for count in COUNTS if medians[count, OURS][2] >= medians[count, name][2]]
    return next((count for count in COUNTS if count > max(lost, default=0)), None)


def hook(cards: Sequence[str]) -> tuple[Step, Step]:
    """What libvirtd runs at prepare and release, fed the XML that libvirtd would write."""
    guest = Guest([pci(card) for card in cards], f"bench-{len(cards)}")
    xml = libvirts_own_xml(guest).encode()

    def call(*arguments: str) -> Step:
        return lambda: run([HOOK, guest.name, *arguments], xml)

    return call("prepare", "begin", "-"), call("release", "end", "destroyed")


def each(commands: Sequence[list[str]]) -> Step:
    """One after the other."""

    def step() -> None:
        for command in commands:
            run(command)

    return step


def driverctl(cards: Sequence[str]) -> tuple[Step, Step]:
    """The distribution's tool for driver overrides."""
    return (
        each([["driverctl", "--nosave", "set-override", card, "vfio-pci"] for card in cards]),
        each([["driverctl", "--nosave", "unset-override", card] for card in cards]),
    )


def nodedev(cards: Sequence[str]) -> tuple[Step, Step]:
    """What hook scripts do, where it does not deadlock."""
    names = ["pci_" + card.replace(":", "_").replace(".", "_") for card in cards]
    return (
        each([["virsh", "nodedev-detach", name] for name in names]),
        each([["virsh", "nodedev-reattach", name] for name in names]),
    )


def sysfs(cards: Sequence[str]) -> tuple[Step, Step]:
    """The least it can take one after the other: the kernel's own time, and nothing checked."""

    def rebind(override: str) -> Step:
        def step() -> None:
            for card in cards:
                device = PCI / "devices" / card
                for path, text in (
                    (device / "driver_override", override),
                    (device / "driver" / "unbind", card),
                    (PCI / "drivers_probe", card),
                ):
                    Path(path).write_text(text)

        return step

    return rebind("vfio-pci\n"), rebind("\n")


WAYS: dict[str, Way] = {OURS: hook, "driverctl": driverctl, "virsh": nodedev, "sysfs writes": sysfs}


if __name__ == "__main__":
    sys.exit(main())

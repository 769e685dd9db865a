# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGKILL to the hook at moments of chance, with real drivers: whoever comes next leaves the host as it was."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from amounts import SAMPLED, SEED
from calls import call, command, dump_of_hooks
from conftest import MakeGuest
from guests import Device, Guest, Refused, libvirts_own_xml, pci, virsh
from host import NIC, NIC2, PATIENCE, STATE, driver_of, override_of, wait_for
from killing import cut, is_hook, kill_hook
from trail import in_log, records

pytestmark = pytest.mark.race
MOMENTS = 4 if SAMPLED else 20
LIVES = 4
CARDS = (NIC, NIC2)
HOME = dict.fromkeys(CARDS, ("e1000e", None))


@pytest.fixture
def chance() -> random.Random:
    """When to kill, by the run's seed."""
    return random.Random(SEED)  # noqa: S311 - to be had again


@pytest.fixture
def one(guest: MakeGuest) -> Guest:
    """A guest with two cards of two IOMMU groups, and the XML that libvirtd would write of it."""
    made = guest(*map(pci, CARDS))
    made.xml = libvirts_own_xml(made)
    return made


def at_home() -> bool:
    """Each card is on its driver with no override."""
    return {card: (driver_of(card), override_of(card)) for card in CARDS} == HOME


def left() -> list[str]:
    """What is kept of guests, cards and writes."""
    return [str(path) for name in ("domains", "claims", "in-flight") for path in (STATE / name).iterdir()]


def expect_settled(what: str) -> None:
    """The cards are back and nothing is held; only what holds nothing may lie about until ``recover`` tidies up.

    Half an entry holds nothing, either: the hook was killed before it had renamed what it had written.
    """
    if not at_home() or list((STATE / "domains").glob("*.json")) or (left() and command("recover").code) or left():
        raise AssertionError(f"{what}: {left()}\n{command('status').said}\n{dump_of_hooks()}")


def recover(guest: Guest) -> None:
    """Settle it, but for a guest that seems to be about to run: that is over when libvirtd says so."""
    answer = command("recover")
    assert answer.code == 0, answer
    if "is starting the guest" in answer.said:
        assert call(guest, "release", "failed").code == 0
    else:
        assert left() == [], answer


@pytest.mark.rest
def test_prepare_killed(one: Guest, chance: random.Random) -> None:
    """`release failed`, or `libhook recover`, leaves each card on its driver and nothing that anybody waits for."""
    took = call(one, "prepare").seconds
    assert call(one, "release", "failed").code == 0
    killed = 0
    for number in range(10 * MOMENTS):
        moment = chance.uniform(0, took)
        if cut(one, "prepare", "-", moment):
            killed += 1
        else:  # it was through: the first call is slower than others
            took = moment
        if number % 2:
            recover(one)
        else:
            assert call(one, "release", "failed").code == 0
        expect_settled(f"killed after {moment:.3f} of {took:.3f} s")
        if killed == MOMENTS:
            break
    assert killed == MOMENTS
    assert records(one, ours=True, result="success") == []


@pytest.mark.rest
def test_release_killed(one: Guest, guest: MakeGuest, chance: random.Random) -> None:
    """`libhook recover`, a second release, or the next guest that wants a card ends what the killed one began."""
    other = guest(pci(NIC))

    def release_again() -> None:
        assert call(one, "release", "destroyed").code == 0

    def next_comer() -> None:
        answer = call(other, "prepare")
        assert answer.code == 0, answer
        assert driver_of(NIC) == "vfio-pci"
        assert (driver_of(NIC2), override_of(NIC2)) == HOME[NIC2]
        assert call(other, "release", "failed").code == 0

    ways: tuple[Callable[[], None], ...] = (lambda: recover(one), release_again, next_comer)
    begin(one)
    took = call(one, "release", "destroyed").seconds
    killed = 0
    for number in range(10 * MOMENTS):
        moment = chance.uniform(0, took)
        begin(one)
        if cut(one, "release", "destroyed", moment):
            killed += 1
        else:  # it was through: the first call is slower than others
            took = moment
        ways[number % len(ways)]()
        expect_settled(f"killed after {moment:.3f} of {took:.3f} s, way {number % len(ways)}")
        expect_ended(one, lives=number + 2)
        if killed == MOMENTS:
            break
    assert killed == MOMENTS


def begin(guest: Guest) -> None:
    """What libvirtd calls for a guest that starts, but `start`, which writes nothing to a device."""
    for operation in ("prepare", "started"):
        answer = call(guest, operation)
        assert answer.code == 0, answer


def expect_ended(guest: Guest, lives: int) -> None:
    """So many times it was recorded as given each of its cards, and last as having given it back."""

    def told(device: Device) -> list[str]:
        found = in_log(guest, ours=True, result="success")
        return [record.field("reason") for record in found if record.is_about(device)]

    def ended() -> bool:
        return all(told(device).count("start") == lives and told(device)[-1] == "stop" for device in guest.devices)

    wait_for("the record of each end", ended)


@pytest.mark.rest
def test_killed_under_libvirtd(one: Guest, chance: random.Random) -> None:
    """libvirtd answers, the cards come back, and the guest can be started again, whichever of its hooks is killed."""
    took = call(one, "prepare").seconds, call(one, "release", "failed").seconds
    with ThreadPoolExecutor(1) as pool:
        for number in range(LIVES):
            moment = chance.uniform(0, 1)
            what = f"killed after {moment:.2f} of its time"
            starting = pool.submit(start, one)
            strike(one, "prepare", moment * took[0])
            if not starting.result(PATIENCE):
                virsh("list")
                recover(one)
                expect_settled(what)
                one.start()
            ending = pool.submit(one.destroy)
            strike(one, "release", moment * took[1])
            ending.result(PATIENCE)
            virsh("list")
            one.wait_until_gone()
            recover(one)
            expect_settled(what)
            expect_ended(one, lives=number + 1)
    one.start().destroy()


def start(guest: Guest) -> bool:
    """Whether it starts."""
    with suppress(Refused):
        guest.start()
        return True
    return False


def strike(guest: Guest, operation: str, after: float) -> None:
    """Kill this hook of the guest's so many seconds after libvirtd has begun it."""
    wait_for(operation, lambda: any(is_hook(folder, guest, operation) for folder in Path("/proc").glob("[0-9]*")))
    time.sleep(after)
    kill_hook(guest, operation)

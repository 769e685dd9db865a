# SPDX-License-Identifier: LGPL-2.1-or-later
"""Six guests that want the same four virtual functions, started at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from amounts import SAMPLED
from conftest import MakeGuest
from guests import Guest, Refused, pci
from host import STATE, VFS, driver_of, override_of, wait_for
from trail import expect_failed, expect_given, expect_returned

pytestmark = pytest.mark.race

ROUNDS = 1 if SAMPLED else 3
# Each wants what two others want, libhook binding for four of them and libvirtd for two.
WISHES = (
    (pci(VFS[0]), pci(VFS[1])),
    (pci(VFS[1]), pci(VFS[2])),
    (pci(VFS[2]), pci(VFS[3])),
    (pci(VFS[3]), pci(VFS[0])),
    (pci(VFS[0], managed=True),),
    (pci(VFS[2], managed=True), pci(VFS[3], managed=True)),
)


def start(one: Guest) -> str | None:
    """Start it; what is said when it is refused, None when it runs."""
    try:
        one.start()
    except Refused as refusal:
        return str(refusal)
    return None


@pytest.mark.rest
def test_six_guests_at_once_on_four_functions(guest: MakeGuest) -> None:
    """None has two owners, the losers read who has it, the trail says who got what, and all of them come back."""
    for number in range(ROUNDS):
        turned = WISHES[number:] + WISHES[:number]  # the first to be started has the better chance
        guests = [guest(*wish, name=f"many-{number}-{place}") for place, wish in enumerate(turned)]
        with ThreadPoolExecutor(len(guests)) as pool:
            said = dict(zip(guests, pool.map(start, guests), strict=True))
            winners = [one for one, refusal in said.items() if refusal is None]
            owned = [device.record for one in winners for device in one.devices]
            assert winners
            assert len(owned) == len(set(owned)), said
            assert {driver_of(vf) for vf in owned} == {"vfio-pci"}
            assert {driver_of(vf) for vf in VFS if vf not in owned} <= {"igbvf"}
            for one in guests:
                if said[one] is None:
                    expect_given(one)
                else:
                    expect_loser_knows(one, said[one] or "", winners)
                    expect_failed(one)
            list(pool.map(Guest.destroy, winners))
        for one in winners:
            expect_returned(one)
        wait_for("the end of all entries", lambda: not list((STATE / "domains").iterdir()))
        assert {(driver_of(vf), override_of(vf)) for vf in VFS} == {("igbvf", None)}
        assert list((STATE / "claims").iterdir()) == []


def expect_loser_knows(one: Guest, said: str, winners: list[Guest]) -> None:
    """The line names a device that was wanted, and who has it."""
    held = [
        (device.record, f"held by the guest {winner.name}")
        for winner in winners
        for device in winner.devices
        if device.record in {own.record for own in one.devices}
    ]
    assert any(address in said and owner in said for address, owner in held), said
    assert "Traceback" not in said

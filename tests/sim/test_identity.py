# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses move when hardware changes, and a guest is not given what came to the address of its device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import DISK, GPU, NIC, SOUND, VF0, VF1
from command import libhook
from rebooting import CARD, SSD, WIN11, live, moved, note, rebooting, shifted, with_disks
from scenario import Host, guest

from libhook.effects import locks
from libhook.simulation.hosts import sriov, workstation
from libhook.story import survey


@pytest.fixture(name="reboot")
def _reboot(root: str, tmp_path: Path) -> Callable[..., Host]:
    return rebooting(root, tmp_path)


def test_another_device_is_refused(reboot: Callable[..., Host]) -> None:
    """Before anything is written, with what was there, what is there, where the old one is, and what accepts it."""
    live(reboot(workstation()), WIN11)
    host = reboot(moved())
    before = host.everything()
    assert host.event(WIN11, "prepare", dry_run=True).code == 0
    outcome = host.event(WIN11, "prepare")
    correct = "if it has moved, correct the address in the guest's XML with virsh edit win11"
    assert outcome.code == 1
    assert (
        f"{GPU} is another device than the guest had there: it was [1002:73bf], subsystem 1002:0000, and now it"
        " is [144d:a808], subsystem 144d:0000; a device like that is now at 0000:04:00.0; "
    ) in outcome.line
    assert outcome.line.endswith(f": {correct}; or, if the guest is to have this one, run: libhook accept {WIN11.uuid}")
    assert (
        f"{SOUND} is not on this host; the guest had [1002:ab28], subsystem 1002:0000 there; a"
        " device like that is now at 0000:04:00.1: "
    ) in outcome.line
    assert outcome.line.count("not on this host") == 1
    assert host.records == [f"start {GPU} failed", f"start {SOUND} failed"]
    assert host.driver(GPU) == "nvme"
    assert {path for path in host.everything().items() if "/run/" not in path[0]} >= {
        path for path in before.items() if "/sys/" in path[0]
    }
    assert host.event(guest("0000:04:00.0", "0000:04:00.1"), "prepare").code == 0, "at the addresses of today"


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        (("A", "B"), ("A", "B"), ""),
        (("A", "B"), ("B", "A"), "0000:05:00.0"),
        (("A",), ("C",), "nowhere"),
        (("",), ("C",), ""),
        (("A",), ("",), ""),
    ],
)
def test_a_serial_number_tells_disks_of_a_model_apart(
    reboot: Callable[..., Host], before: tuple[str, ...], after: tuple[str, ...], refused: str
) -> None:
    """Where it can be read at both times."""
    live(reboot(with_disks(*before)), SSD)
    host = reboot(with_disks(*after))
    outcome = host.event(SSD, "prepare")
    assert outcome.code == bool(refused)
    if refused:
        assert "serial A, and now it is" in outcome.line
        assert (f"that device is now at {refused}" in outcome.line) == (refused != "nowhere")


def test_a_serial_number_that_could_not_be_read_once_is_not_forgotten(reboot: Callable[..., Host]) -> None:
    """The disk was on vfio at the second start."""
    live(reboot(with_disks("A")), SSD)
    hidden = with_disks("A")
    on_vfio = tuple(
        one._replace(driver="vfio-pci", override="vfio-pci") if one.address == DISK else one for one in hidden.devices
    )
    live(reboot(hidden._replace(devices=on_vfio, vfio_loaded=True)), SSD)
    host = reboot(with_disks("B"))
    assert note(host, SSD).devices[0].identity.serial == "A"
    assert "serial A, and now it is" in host.event(SSD, "prepare").line


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_consent(reboot: Callable[..., Host], mode: str) -> None:
    """Warn says it in the log and the plan; off does not look. Either way the start is noted."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted(), f'[domains."win11"]\nidentity = "{mode}"\n')
    plan = libhook(host, "plan", "-", stdin=CARD.xml()).out
    assert (f"warning: {NIC} is another device than" in plan) == (mode == "warn")
    live(host, CARD)
    assert note(host).devices[0].identity.ids == "144d:a808"


def test_consent_hands_over_nothing_that_is_gone(reboot: Callable[..., Host]) -> None:
    """Preflight refuses a device that is not there, whatever the guest had at its last start."""
    live(reboot(workstation()), WIN11)
    host = reboot(moved(), '[domains."win11"]\nidentity = "warn"\n')
    assert f"{SOUND} is not on this host" in host.event(WIN11, "prepare").line


BY_UUID = f'[domains."{CARD.uuid}"]'


@pytest.mark.parametrize(
    ("section", "refused"),
    [
        ("", ""),
        ('[domains."win11"]', ""),
        (BY_UUID, ""),
        ('[domains."other"]', "is another device than"),
        ('[domains."win*"]', 'domains."win*".identity may not be set for a pattern'),
        (f'[devices."{NIC}"]', f'devices."{NIC}".identity may not be set for whichever guest has a device'),
    ],
)
def test_consent_names_one_guest(reboot: Callable[..., Host], section: str, refused: str) -> None:
    """As other consents to a risk; or it is for all."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted(), f'{section}\nidentity = "off"\n')
    outcome = host.event(CARD, "prepare")
    assert outcome.code == bool(refused)
    assert not refused or refused in outcome.line


def test_a_start_without_the_device_ends_no_comparison(reboot: Callable[..., Host]) -> None:
    """It is remembered at its address, however often the guest starts without it."""
    host = reboot(workstation())
    live(host, guest(GPU, SOUND, NIC))
    for _ in range(2):
        live(host, guest(GPU, SOUND))
    host = reboot(shifted())
    assert f"{NIC} is another device than the guest had there: it was [8086:10d3]" in host.event(CARD, "prepare").line
    assert libhook(host, "accept", "win11").code == 0
    live(host, CARD)


def test_a_card_that_was_moved_is_not_expected_where_it_was(reboot: Callable[..., Host]) -> None:
    """The guest has it elsewhere by now. So the guest may have what came to the old address."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted())
    live(host, guest("0000:02:00.0"))
    assert [(each.address, each.identity.ids) for each in note(host).past] == [(NIC, "8086:10d3")]
    live(host, guest("0000:02:00.0", NIC))


def test_what_another_guest_has_is_not_offered(reboot: Callable[..., Host]) -> None:
    """To name its address would only be refused for that guest."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted())
    place = "a device like that is now at 0000:02:00.0"
    assert place in host.event(CARD, "prepare").line
    host.event(CARD, "release", "failed")
    host.begin(guest("0000:02:00.0", name="linux")._replace(uuid="11111111-2222-3333-4444-555555555555"))
    line = host.event(CARD, "prepare").line
    assert f"{NIC} is another device than" in line
    assert "is now at" not in line


def test_a_vf_out_of_a_pool_is_not_noted(reboot: Callable[..., Host]) -> None:
    """libvirt chooses another at each start. A VF whose address is in the XML is the guest's own."""
    host = reboot(sriov())
    for pooled in (VF0, VF1):
        device = guest(pooled, source="interface", managed=True)
        host.event(guest(), "prepare")
        host.libvirt._lists.prepare(device.name, device.devices)
        for operation in ("start", "started", "release"):
            host.event(device, operation)
        assert not Path(host.machine.notes).exists()
    host = reboot(sriov())
    live(host, guest(VF1, source="interface", managed=True))
    assert [each.address for each in note(host).devices] == [VF1]


def test_nothing_is_locked_while_a_note_is_read(reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may hang, and no other guest must wait for that."""
    host, busy = reboot(workstation()), list[bool]()
    live(host, WIN11)
    look = survey.changed

    def changed(*arguments: Any) -> Any:  # noqa: ANN401 - as it is
        busy.append(any(map(locks.is_locked, map(str, Path(host.machine.state, "locks").iterdir()))))
        return look(*arguments)

    monkeypatch.setattr(survey, "changed", changed)
    live(host, WIN11)
    assert busy == [False]


def test_a_clone_begins_anew(reboot: Callable[..., Host]) -> None:
    """It has another UUID."""
    live(reboot(workstation()), WIN11)
    clone = guest(NIC, name="clone")._replace(uuid="11111111-2222-3333-4444-555555555555")
    live(reboot(shifted()), clone)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses move when hardware changes, and a guest is not given what came to the address of its device."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from rebooting import CARD, SSD, WIN11, live, logged, moved, note, rebooting, shifted, with_disks
from scenario import Host, guest

from libhook.effects import identities
from libhook.facts.host import Identity
from libhook.facts.identity import MOST_PAST, Note, Noted
from libhook.simulation.hosts import workstation
from libhook.story.session import state_of


@pytest.fixture(name="reboot")
def _reboot(root: str, tmp_path: Path) -> Callable[..., Host]:
    return rebooting(root, tmp_path)


def test_a_start_notes_what_the_devices_are(reboot: Callable[..., Host]) -> None:
    """Root's own, and the guest's devices alone; a second start changes only when that was."""
    host = reboot(with_disks("S5GX"))
    live(host, guest(NIC, DISK))
    found = note(host)
    assert [(each.address, each.identity) for each in found.devices] == [
        (NIC, Identity("8086:10d3", "8086:0000")),
        (DISK, Identity("144d:a808", "144d:0000", "S5GX")),
    ]
    assert found.name == "win11"
    for path in (Path(host.machine.notes), Path(host.machine.notes).parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert Path(identities.path_of(host.machine, WIN11.uuid)).stat().st_mode & 0o777 == 0o600
    live(host, guest(NIC))
    assert [each.address for each in note(host).devices] == [NIC]
    assert [each.address for each in note(host).past] == [DISK]
    assert (host.changed, host.leftovers) == ([], [])


def test_another_device_is_refused(reboot: Callable[..., Host]) -> None:
    """Before anything is written, with what was there, what is there, where the old one is, and what accepts it."""
    live(reboot(workstation()), WIN11)
    host = reboot(moved())
    before = host.everything()
    assert host.event(WIN11, "prepare", dry_run=True).code == 0
    outcome = host.event(WIN11, "prepare")
    uuid, correct = WIN11.uuid, f"if it has moved, correct the address in the guest's XML with virsh edit {WIN11.uuid}"
    assert outcome.code == 1
    assert (
        f"{GPU} is another device than at the guest's last start: it was [1002:73bf], subsystem 1002:0000, and now it"
        " is [144d:a808], subsystem 144d:0000; a device like that is now at 0000:04:00.0; "
    ) in outcome.line
    assert outcome.line.endswith(f": {correct}; or, if the guest is to have this one, run: libhook accept {uuid}")
    assert (
        f"{SOUND} is not on this host; the guest had [1002:ab28], subsystem 1002:0000 there at its last start; a"
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


@pytest.mark.parametrize("section", ['[domains."win*"]', '[devices."0000:01:00.0"]'])
def test_consent_names_one_guest(reboot: Callable[..., Host], section: str) -> None:
    """As other consents to a risk."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted(), f'{section}\nidentity = "off"\n')
    assert "identity" in host.event(CARD, "prepare").line


def test_a_clone_begins_anew(reboot: Callable[..., Host]) -> None:
    """It has another UUID."""
    live(reboot(workstation()), WIN11)
    clone = guest(NIC, name="clone")._replace(uuid="11111111-2222-3333-4444-555555555555")
    live(reboot(shifted()), clone)


def test_a_refused_start_is_not_noted(reboot: Callable[..., Host]) -> None:
    """Nor one that QEMU ends."""
    host = reboot(workstation())
    assert host.event(guest(GPU), "prepare").code == 1
    host.event(guest(GPU), "release", "failed")
    host.event(WIN11, "prepare")
    host.event(WIN11, "release", "failed")
    assert identities.names(host.machine) == []


def _link(path: Path) -> None:
    path.rename(f"{path}x")
    path.symlink_to(f"{path}x")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda path: path.write_text("{"),
    "no note": lambda path: path.write_text("[]"),
    "another's": lambda path: path.write_text(path.read_text().replace(WIN11.uuid, "x" * 36)),
    "no address": lambda path: path.write_text(path.read_text().replace(GPU, "../x")),
    "deep": lambda path: path.write_text("[" * 100_000),
    "others may write": lambda path: path.chmod(0o666),
    "a link": _link,
    "a folder": _folder,
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "the folder is open to others": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_note_that_cannot_be_read_warns(reboot: Callable[..., Host], broken: str) -> None:
    """The guest starts, and its note is made anew where that is possible."""
    live(reboot(workstation()), WIN11)
    host = reboot(workstation())
    path = Path(identities.path_of(host.machine, WIN11.uuid))
    BROKEN[broken](path)
    assert host.libvirt.start(WIN11).error == ""
    host.libvirt.stop("win11")
    warned = logged(host, "devices not compared with the last start")
    assert len(warned) == 1
    if broken in ("a folder", "the folder is open to others"):
        assert logged(host, "devices not noted")
    else:
        assert [one.address for one in note(host).devices] == [GPU, SOUND]


def test_where_nothing_can_be_written_the_guest_starts(reboot: Callable[..., Host]) -> None:
    """That its devices are not noted is in the log."""
    host = reboot(workstation())
    Path(f"{host.root}/var/lib/libhook").write_text("")
    live(host, WIN11)
    assert logged(host, "devices not noted")


def test_nothing_is_locked_while_a_note_is_written(
    reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may hang, and the guest's end must not wait for that."""
    host, busy = reboot(workstation()), list[bool]()
    state = state_of(host.machine)
    monkeypatch.setattr(identities, "save", lambda *_: busy.append(state.is_busy(WIN11.uuid)))
    live(host, WIN11)
    assert busy == [False]


def test_what_undefined_guests_leave_goes_after_a_year(reboot: Callable[..., Host]) -> None:
    """Those of guests that are defined stay, however old."""
    host = reboot(workstation())
    live(host, WIN11)
    ages = {
        "11111111-1111-1111-1111-111111111111.json": 1.1,
        "22222222-2222-2222-2222-222222222222.json": 1.1,
        "33333333-3333-3333-3333-333333333333.json": 0.9,
        "44444444-4444-4444-4444-444444444444.json.new": 1.1,
    }
    for name, years in ages.items():
        path = Path(host.machine.notes, name)
        path.write_text("{}")
        os.utime(path, (time.time() - years * identities.YEAR,) * 2)
    Path(f"{host.root}/etc/libvirt/qemu").mkdir(parents=True, exist_ok=True)
    Path(f"{host.root}/etc/libvirt/qemu/old.xml").write_text(
        "<!-- WARNING -->\n<domain>\n<name>old</name>\n<uuid>22222222-2222-2222-2222-222222222222</uuid>\n</domain>"
    )
    live(host, WIN11)
    assert sorted(name[0] for name in os.listdir(host.machine.notes)) == ["2", "3", WIN11.uuid[0]]


def test_notes_have_a_limit(reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many the oldest go, whose guests are not defined."""
    host = reboot(workstation())
    monkeypatch.setattr(identities, "_MOST", 3)
    for number in range(8):
        live(host, WIN11._replace(uuid=f"{number}1111111-2222-3333-4444-555555555555"))
        when = time.time() - 100 + number
        os.utime(identities.path_of(host.machine, f"{number}1111111-2222-3333-4444-555555555555"), (when, when))
    assert [name[0] for name in identities.names(host.machine)] == ["5", "6", "7"]


def test_what_a_guest_had_has_a_limit() -> None:
    """The oldest go."""
    note = Note("u", "win11")
    for number in range(MOST_PAST + 10):
        note = note.with_start("win11", {NIC: Identity(f"8086:{number:04x}")}, number)
    assert len(note.past) == MOST_PAST
    assert note.past[-1] == Noted(NIC, Identity("8086:0048"), 72, 72)
    assert Note.from_json(json.loads(json.dumps(note.to_json()))) == note

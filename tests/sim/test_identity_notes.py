# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is noted of guests' devices: when, for how long, and what becomes of a note that cannot be read or written."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from family import until
from overdue import soon
from rebooting import CARD, WIN11, live, logged, note, rebooting, shifted, with_disks
from scenario import Host, guest

from libhook.children.child import Deadline
from libhook.effects import identities, locks
from libhook.errors import LibhookError
from libhook.facts.host import Identity
from libhook.facts.identity import FORMAT, MOST_DEVICES, MOST_PAST, Note, Noted
from libhook.look import guests
from libhook.simulation import store
from libhook.simulation.hosts import nic, workstation
from libhook.story import identities as noting
from libhook.story.session import state_of

CLONE = WIN11._replace(uuid="55555555-2222-3333-4444-555555555555")


@pytest.fixture(name="reboot")
def _reboot(root: str, tmp_path: Path) -> Callable[..., Host]:
    return rebooting(root, tmp_path)


def test_a_start_notes_what_the_devices_are(reboot: Callable[..., Host]) -> None:
    """Root's own, and the guest's devices alone. A start without one leaves that as it was."""
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
    first = note(host).at(DISK)
    live(host, guest(NIC))
    assert [each.address for each in note(host).devices] == [NIC, DISK]
    assert (note(host).at(DISK), note(host).past) == (first, ())
    assert (host.changed, host.leftovers) == ([], [])


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
    warned = logged(host, "devices not compared with what the guest had")
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
    reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The disk may hang, and the guest's end must not wait for that."""
    host, seen = reboot(workstation()), tmp_path / "seen"
    state = state_of(host.machine)
    monkeypatch.setattr(identities, "update", lambda *_: seen.write_text(f"{state.is_busy(WIN11.uuid)}"))
    live(host, WIN11)
    assert seen.read_text() == "False"


def test_a_disk_that_hangs_keeps_nobody_waiting(reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """The child that writes is left behind, and the log says so."""
    host = reboot(workstation())
    log = f"{host.root}/var/log/libhook.jsonl"
    monkeypatch.setattr(noting, "_PATIENCE", 0.1)
    monkeypatch.setattr(identities, "update", lambda *_: until(lambda: "devices not noted" in str(store.lines(log))))
    live(host, WIN11)
    assert [one["reason"] for one in logged(host, "devices not noted")] == ["no answer within 0.1 s"]


def test_where_no_process_can_be_started_the_guest_starts(
    reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That its devices are not noted is in the log."""
    host = reboot(workstation())

    def fail(*_: object) -> NoReturn:
        raise LibhookError("no child process can be started")

    monkeypatch.setattr(noting, "telling", SimpleNamespace(lines=fail))
    live(host, WIN11)
    assert [one["reason"] for one in logged(host, "devices not noted")] == ["no child process can be started"]


def test_a_note_of_a_later_version_is_left_alone(reboot: Callable[..., Host]) -> None:
    """Nothing is compared, nothing is written, and the log says why. Nor does accept touch it."""
    live(reboot(workstation()), CARD)
    host = reboot(shifted())
    path = Path(identities.path_of(host.machine, CARD.uuid))
    text = json.dumps({"format": FORMAT + 1, "uuid": CARD.uuid, "cards": []})
    path.write_text(text)
    live(host, CARD)
    assert path.read_text() == text
    said = f"{path}: a later libhook wrote it, in format {FORMAT + 1}"
    for event in ("devices not compared with what the guest had", "devices not noted"):
        assert [said in str(one["reason"]) for one in logged(host, event)] == [True]
    for name in (CARD.uuid, "win11"):
        accepted = libhook(host, "accept", name)
        assert (accepted.code, path.read_text()) == (1, text)
        assert "a later libhook wrote it" in accepted.err


def test_what_undefined_guests_leave_goes_after_a_year(
    reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once another guest is noted. Those of guests that are defined stay, however old."""
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
    assert len(os.listdir(host.machine.notes)) == 5, "only the first start of a guest looks"
    live(host, CLONE)
    assert sorted(name[0] for name in os.listdir(host.machine.notes)) == ["2", "3", CLONE.uuid[0], WIN11.uuid[0]]
    monkeypatch.setattr(guests, "uuids", lambda _: [][1])
    live(host, CLONE._replace(uuid=f"6{CLONE.uuid[1:]}"))
    assert not logged(host, "old notes not removed"), "what is defined is young again, and nobody reads its XML"


def test_where_libvirts_files_cannot_be_read_old_notes_stay(
    reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says so. The guest's own note is written by then."""
    host = reboot(workstation())
    live(host, WIN11)
    path = identities.path_of(host.machine, WIN11.uuid)
    os.utime(path, (time.time() - 1.1 * identities.YEAR,) * 2)
    monkeypatch.setattr(guests, "uuids", lambda _: [][1])
    live(host, CLONE)
    assert [one["reason"] for one in logged(host, "old notes not removed")] == ['IndexError: "list index out of range"']
    assert len(identities.names(host.machine)) == 2


def test_notes_have_a_limit(reboot: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many the oldest go, whose guests are not defined."""
    host = reboot(workstation())
    monkeypatch.setattr(identities, "_MOST", 3)
    for number in range(8):
        live(host, WIN11._replace(uuid=f"{number}1111111-2222-3333-4444-555555555555"))
        when = time.time() - 100 + number
        os.utime(identities.path_of(host.machine, f"{number}1111111-2222-3333-4444-555555555555"), (when, when))
    assert [name[0] for name in identities.names(host.machine)] == ["5", "6", "7"]


def test_of_two_cards_that_are_alike_one_has_moved() -> None:
    """The other one's address is compared as before."""
    card = Identity("1002:73bf")
    note = Note(WIN11.uuid, "win11").with_start("win11", {"0000:01:00.0": card, "0000:02:00.0": card}, 1)
    after = note.with_start("win11", {"0000:03:00.0": card}, 2)
    assert [one.address for one in after.devices] == ["0000:03:00.0", "0000:02:00.0"]
    assert [one.address for one in after.past] == ["0000:01:00.0"]


def test_a_note_is_written_by_one_at_a_time(root: str) -> None:
    """Of many who change it at once, each finds what the one before has written."""
    machine = Host(root, nic()).machine
    identities.update(machine, WIN11.uuid, Deadline.after(60), lambda: Note(WIN11.uuid, "0"))

    def count() -> Note:
        note = identities.load(machine, WIN11.uuid)
        assert note
        return note._replace(name=str(int(note.name) + 1))

    children = []
    for _ in range(4):
        if not (pid := os.fork()):
            with suppress(BaseException):
                for _ in range(25):
                    identities.update(machine, WIN11.uuid, Deadline.after(200), count)
                os._exit(0)
            os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    note = identities.load(machine, WIN11.uuid)
    assert note
    assert (note.name, os.listdir(machine.notes)) == ("100", [f"{WIN11.uuid}.json"])


def test_who_waits_for_the_notes_waits_so_long(root: str) -> None:
    """Another process has them, and may have been stopped."""
    machine = Host(root, nic()).machine
    first = Note(WIN11.uuid, "first")
    identities.update(machine, WIN11.uuid, Deadline.after(60), lambda: first)
    with locks.folder(machine.notes, Deadline.after(60)), pytest.raises(LibhookError, match="is not free"):
        identities.update(machine, WIN11.uuid, soon(), lambda: first._replace(name="second"))
    assert identities.load(machine, WIN11.uuid) == first


def test_what_a_guest_had_has_a_limit() -> None:
    """The oldest go."""
    note = Note("u", "win11")
    for number in range(MOST_PAST + 10):
        note = note.with_start("win11", {NIC: Identity(f"8086:{number:04x}")}, number)
    assert len(note.past) == MOST_PAST
    assert note.past[-1] == Noted(NIC, Identity("8086:0048"), 72, 72)
    assert Note.from_json(json.loads(json.dumps(note.to_json()))) == note


def test_devices_that_a_guest_does_without_have_a_limit() -> None:
    """Those that it has done without for longest go to the past."""
    note = Note("u", "win11")
    for number in range(MOST_DEVICES + 1):
        note = note.with_start("win11", {f"0000:{number:02x}:00.0": Identity(f"8086:{number:04x}")}, number + 1)
    assert len(note.devices) == MOST_DEVICES
    assert note.past == (Noted("0000:00:00.0", Identity("8086:0000"), 1, 1),)

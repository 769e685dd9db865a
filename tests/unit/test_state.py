# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files in /run/libhook: written whole or not at all, read as what they are, and tidied away."""

import errno
import os
import resource
import shutil
import stat
from pathlib import Path

import hanging
import pytest
from disturbing import refusing

from libhook.children.child import Deadline, ended, spawn
from libhook.effects import files, notes
from libhook.effects.state import FOLDERS
from libhook.errors import BadInput, LibhookError
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, Process
from libhook.facts.host import Binding
from libhook.facts.machine import Machine
from libhook.look import processes
from libhook.simulation.build import build
from libhook.simulation.hosts import nic
from libhook.simulation.kernel import SimulatedKernel
from libhook.story.session import make_state, state_of
from libhook.story.tidy import tidy

NIC = "0000:01:00.0"
UUID, OTHER = "c7a5fdbd-edaf-9455-926a-d65c16db1809", "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def machine(root: str) -> Machine:
    """A host with one card, on which libhook has begun."""
    build(root, nic())
    machine = Machine(root, SimulatedKernel(root))
    make_state(machine)
    return machine


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(tmp_path: Path) -> None:
    """And nothing of the new one is left beside it."""
    (tmp_path / "name/inner").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        files.replace(str(tmp_path / "name"), "text")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "name", tmp_path / "name/inner"]


def test_a_folder_that_cannot_be_looked_at_is_not_trusted() -> None:
    """For want of memory, say: then nobody knows what the configuration says."""
    with refusing("lstat", errno.ENOMEM), pytest.raises(LibhookError, match=r"^/: Cannot allocate memory"):
        files.expect_trusted("/etc/libhook", "")


@pytest.mark.parametrize("length", [100, 5000])
def test_a_file_that_cannot_grow_is_left_as_it_was(tmp_path: Path, length: int) -> None:
    """The kernel takes a part of a write for which it has no room: half of one entry and half of another is none."""
    path = tmp_path / "entry"
    before = "b" * length
    path.write_text(before)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(OSError, match="No space left on device"):
            files.overwrite(str(path), "a" * 9000)
        assert path.read_text().rstrip() == before
        files.overwrite(str(path), "a" * 8000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text().rstrip() == "a" * 8000


def test_an_entry_under_the_name_of_another_guest_is_broken(machine: Machine) -> None:
    """As after a copy by hand: nobody gives back, for one guest, what is another's."""
    state = state_of(machine)
    state.save(Held(UUID, "win11", "kvm", "started", state.boot(), Process(1, 1)))
    assert state.load(UUID)
    Path(machine.state, f"domains/{UUID}.json").rename(Path(machine.state, f"domains/{OTHER}.json"))
    with pytest.raises(BadInput, match=f"{OTHER}.json is broken .it belongs to {UUID}"):
        state.load(OTHER)


def test_the_mark_of_a_write_goes_when_the_write_has_come_back(machine: Machine) -> None:
    """Not while it is on its way, though who began it is gone."""
    mark = Path(machine.state, "in-flight", NIC)
    silent = f"{machine.root}/silent"
    os.mkfifo(silent)
    hung = spawn(lambda: os.close(os.open(silent, os.O_RDONLY)), str(mark))
    tidy(state_of(machine))
    assert mark.exists()
    hanging.answer(silent)
    assert ended([hung.handle], Deadline.after(60))
    assert hung.result() == 0
    tidy(state_of(machine))
    assert not mark.exists()


def test_whoever_asked_libvirt_is_at_work_as_long_as_the_child_that_asks(machine: Machine) -> None:
    """It may still be done though he was killed; what a killed child leaves says nothing, and is tidied away."""
    state, gone = state_of(machine), Process(4711, 0)
    assert not processes.works(state, gone)
    silent = f"{machine.root}/silent"
    os.mkfifo(silent)
    asking = spawn(lambda: os.close(os.open(silent, os.O_RDONLY)), state.mark_of(gone))
    tidy(state)
    assert (processes.works(state, gone), processes.lives(state.machine, gone)) == (True, False)
    hanging.answer(silent)
    assert ended([asking.handle], Deadline.after(60))
    assert asking.result() == 0
    assert not processes.works(state, gone)
    Path(state.in_flight_path("asking-no-number")).touch()
    tidy(state)
    assert state.names("in-flight") == ["asking-no-number"]


def test_half_a_note_for_the_launcher_is_tidied_away(machine: Machine) -> None:
    """And the whole one stays."""
    for name in ("served", "served.4711", "served.4711.new", "watched.json"):
        Path(machine.state, name).touch()
    tidy(state_of(machine))
    assert {path.name for path in Path(machine.state).iterdir() if path.is_file()} == {"served", "watched.json"}


def test_what_need_not_be_waited_for_is_tidied_away_with_its_guest(machine: Machine) -> None:
    """The word of a guest that has an entry stays; whatever is written to that entry takes it back."""
    state = state_of(machine)
    held = Held(UUID, "win11", "kvm", "starting", state.boot(), Process(1, 1))
    state.save(held)
    for uuid in (UUID, OTHER):
        state.unwait(uuid)
    tidy(state)
    assert state.names("unwaited") == [UUID]
    state.save(held)
    assert state.names("unwaited") == []
    state.unwait(UUID)
    state.forget(UUID)
    assert state.names("unwaited") == []


def test_what_libhook_makes_is_root_s_alone(machine: Machine) -> None:
    """Whatever umask libvirtd hands on: folders, entries, locks, and the mark of a write on its way."""
    shutil.rmtree(machine.state)
    state, before = state_of(machine), os.umask(0)
    try:
        make_state(machine)
        state.save(Held(UUID, "win11", "kvm", "started", state.boot(), Process(1, 1)))
        state.claim(PciAddress.parse(NIC), UUID)
        with state.locked(["a"], Deadline.after(60)):
            writing = spawn(lambda: None, state.in_flight_path(NIC))
            modes = {stat.S_IMODE(path.stat().st_mode) for path in Path(machine.state).rglob("*") if path.is_file()}
        assert ended([writing.handle], Deadline.after(60))
        assert writing.result() == 0
    finally:
        os.umask(before)
    folders = (Path(machine.state), *(path for path in Path(machine.state).rglob("*") if path.is_dir()))
    assert modes == {0o600}
    assert len(folders) == 1 + len(FOLDERS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


@pytest.mark.parametrize("name", ["", *FOLDERS])
def test_no_folder_is_used_that_somebody_else_could_write_to(machine: Machine, name: str) -> None:
    """Each of them is looked at, every time; that one is not there is only in the way of who makes nothing."""
    state, folder = state_of(machine), Path(machine.state, name)
    for what in ("another's", "a file"):
        if what == "a file":
            shutil.rmtree(folder)
            folder.touch()
        else:
            folder.chmod(0o770)
        for look in (state.check, lambda: make_state(machine)):
            with pytest.raises(LibhookError, match=f"^{str(folder).rstrip('/')}[ :]"):
                look()
    folder.unlink()
    state.check()
    make_state(machine)
    assert folder.is_dir()


def test_what_a_device_needs_to_come_back_needs_no_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes that only spare a later question are not worth a failure."""
    state = state_of(machine)

    def full(path: str, _: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(files, "replace", full)
    notes.remember_home(state.machine, PciAddress.parse(NIC), Binding("e1000e", ""), Process(1, 1))
    notes.remember_watched(state.machine, {})
    assert (state.names("homes"), notes.watched(state.machine)) == ([], None)


def test_a_claim_that_others_could_have_written_is_nobody_s(machine: Machine) -> None:
    """It is in the way of no start, and of no end; who claims the device writes it anew."""
    state, address = state_of(machine), PciAddress.parse(NIC)
    state.claim(address, UUID)
    claim = Path(machine.state, "claims", NIC)
    claim.chmod(0o666)
    assert not state.has_lost(UUID, [address])
    state.disclaim(address, UUID)
    assert claim.exists()
    state.claim(address, OTHER)
    assert (claim.read_text(), stat.S_IMODE(claim.stat().st_mode)) == (OTHER, 0o600)


def test_only_a_whole_entry_is_a_guest_s(machine: Machine) -> None:
    """What was being written when somebody was killed is none."""
    for name in (f"{UUID}.json.new", f"{OTHER}.json"):
        Path(machine.state, "domains", name).touch()
    assert state_of(machine).uuids() == (OTHER,)

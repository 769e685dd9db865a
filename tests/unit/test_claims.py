# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a device, and where it was before: what the files of /run/libhook say, each for itself and together."""

import errno
import fcntl
import json
import os
from pathlib import Path
from unittest import mock

import pytest

from libhook.children.child import Deadline
from libhook.effects import files, notes
from libhook.effects.state import State
from libhook.errors import BadInput, LibhookError, TooNew
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.host import Binding, Claim
from libhook.facts.machine import Machine
from libhook.simulation.build import build
from libhook.simulation.hosts import nic
from libhook.simulation.kernel import SimulatedKernel
from libhook.story.session import make_state, state_of

NIC, SECOND = PciAddress.parse("0000:01:00.0"), PciAddress.parse("0000:02:00.0")
UUID, OTHER = "c7a5fdbd-edaf-9455-926a-d65c16db1809", "11111111-2222-3333-4444-555555555555"
LIBVIRTD = Process(7, 70)


@pytest.fixture(name="state")
def _state(root: str) -> State:
    """Of a host on which libhook has begun."""
    build(root, nic())
    machine = Machine(root, SimulatedKernel(root))
    make_state(machine)
    return state_of(machine)


def _held(state: State, *addresses: PciAddress, uuid: str = UUID, boot: str = "") -> Held:
    devices = tuple(HeldDevice("pci", str(address)) for address in addresses)
    return Held(uuid, f"of {uuid[:1]}", "kvm", "started", boot or state.boot(), LIBVIRTD, devices)


def _path(state: State, name: str) -> Path:
    return Path(state.machine.state, name)


def test_a_claim_counts_with_an_entry_that_says_the_same(state: State) -> None:
    """Neither without an entry, nor with one of a guest that has other devices."""
    state.claim(NIC, UUID)
    assert state.claims([NIC, SECOND]) == {}
    state.save(_held(state, SECOND))
    assert state.claims([NIC, SECOND]) == {}
    state.save(_held(state, NIC))
    assert state.claims([NIC, SECOND]) == {NIC: Claim(UUID, "of c")}


def test_only_who_has_a_device_gives_it_up(state: State) -> None:
    """A guest that was refused never had it; whoever claims it anew has it."""
    state.claim(NIC, UUID)
    state.disclaim(NIC, OTHER)
    assert _path(state, f"claims/{NIC}").read_text() == UUID
    state.claim(NIC, OTHER)
    assert _path(state, f"claims/{NIC}").read_text() == OTHER
    state.disclaim(NIC, OTHER)
    assert state.names("claims") == []


def test_a_claim_that_is_made_again_is_not_written_again(state: State) -> None:
    """Nothing is needed for it then, also where there is no room."""
    state.claim(NIC, UUID)
    with mock.patch.object(files, "replace", side_effect=AssertionError):
        state.claim(NIC, UUID)


@pytest.mark.parametrize("text", ["", "garbage", f"../{UUID[3:]}", UUID[:-1], "\0" * len(UUID)])
def test_where_a_claim_does_not_say_who_every_entry_is_asked(state: State, text: str) -> None:
    """A device of a guest that lives is nobody else's because a file is damaged; nor is a broken entry asked twice."""
    _path(state, "domains/broken.json").write_text("{")
    state.save(_held(state, NIC))
    _path(state, f"claims/{NIC}").write_text(text)
    assert state.claims([NIC]) == {NIC: Claim(UUID, "of c")}
    state.disclaim_for_nobody(NIC)
    state.disclaim_for_nobody(SECOND)
    assert state.names("claims") == [str(NIC)]
    _path(state, f"claims/{NIC}").chmod(0o666)
    assert state.claims([NIC]) == {NIC: Claim(UUID, "of c")}


@pytest.mark.parametrize(("text", "too_new"), [("{", False), ('{"format": 99}', True)])
def test_a_guest_whose_entry_cannot_be_read_keeps_its_device(state: State, text: str, too_new: bool) -> None:
    """Nobody knows that it has ended."""
    state.claim(NIC, UUID)
    _path(state, f"domains/{UUID}.json").write_text(text)
    assert state.claims([NIC]) == {NIC: Claim.unread(UUID, too_new=too_new)}
    with pytest.raises(TooNew if too_new else BadInput, match=f"{UUID}.json"):
        state.load(UUID)
    state.disclaim_for_nobody(NIC)
    assert state.names("claims") == [str(NIC)]
    _path(state, f"domains/{UUID}.json").unlink()
    state.disclaim_for_nobody(NIC)
    assert state.names("claims") == []


def test_a_claim_stays_where_nobody_sees_whether_there_is_an_entry(state: State) -> None:
    """One that cannot be looked at is not taken for none."""
    state.claim(NIC, UUID)
    state.save(_held(state, NIC))
    real, refusal = os.open, OSError(errno.EIO, "Input/output error")

    def unseen(path: str, *rest: int) -> int:
        if "domains" in path:
            raise refusal
        return real(path, *rest)

    with mock.patch("os.lstat", side_effect=refusal), mock.patch("os.open", unseen):
        state.disclaim_for_nobody(NIC)
    assert state.claims([NIC]) == {NIC: Claim(UUID, "of c")}


def test_an_entry_of_another_boot_is_void(state: State) -> None:
    """Unless nobody can say which boot this is: then it is taken for one of this."""
    state.save(_held(state, NIC, boot="another"))
    assert state.load(UUID) is None
    state.save(_held(state, NIC))
    assert state.load(UUID) == _held(state, NIC)
    boot = Path(state.machine.proc, "sys/kernel/random/boot_id")
    held = _held(state, NIC, boot="another")
    state.save(held)
    for ruin in (lambda: boot.write_text("\n"), boot.unlink):
        ruin()
        assert state.load(UUID) == held
        with pytest.raises(LibhookError, match="boot_id"):
            state.boot()


def test_where_there_is_no_room_for_a_second_file_the_first_is_overwritten(state: State) -> None:
    """What is recorded already must not be lost; where there is none yet, nothing is taken."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch.object(files, "replace", side_effect=full), pytest.raises(OSError, match="No space left"):
        state.save(_held(state, NIC))
    state.save(_held(state, NIC, SECOND))
    with mock.patch.object(files, "replace", side_effect=full):
        state.save(_held(state, NIC))
    assert state.load(UUID) == _held(state, NIC)


def test_forgetting_leaves_nothing_of_that_guest(state: State) -> None:
    """Nor of a write that was cut short; twice is as well; another's stays."""
    state.save(_held(state, NIC))
    state.save(_held(state, uuid=OTHER))
    _path(state, f"domains/{UUID}.json.new").touch()
    for _ in range(2):
        state.forget(UUID)
        assert state.names("domains") == [f"{OTHER}.json"]
    assert state.uuids() == (OTHER,)


def test_a_device_belongs_where_the_same_libvirtd_has_seen_it(state: State) -> None:
    """A number that another process has now says nothing, nor does a libvirtd that nobody knew."""
    for binding in (Binding("e1000e", ""), Binding(None, "own\udcff")):
        notes.remember_home(state.machine, NIC, binding, LIBVIRTD)
        assert notes.home(state.machine, NIC, LIBVIRTD) == binding
        assert notes.home(state.machine, SECOND, LIBVIRTD) is None
        for other in (Process(7, 71), Process(8, 70)):
            assert notes.home(state.machine, NIC, other) is None
    notes.remember_home(state.machine, NIC, Binding("e1000e", ""), Process(7, 0))
    assert notes.home(state.machine, NIC, Process(7, 0)) is None
    for text in (json.dumps(["../x", "", *LIBVIRTD]), json.dumps(["x", ""]), "{", "[" * 100_000):
        _path(state, f"homes/{NIC}").write_text(text)
        assert notes.home(state.machine, NIC, LIBVIRTD) is None


def test_a_guest_whose_entry_somebody_removed_is_known(state: State) -> None:
    """By its claim, by the note of who had devices when the folder was made, or because there is no folder."""
    assert not state.has_lost(UUID, [NIC, SECOND])
    state.claim(SECOND, UUID)
    assert state.has_lost(UUID, [NIC, SECOND])
    assert not state.has_lost(UUID, [NIC])
    assert not state.has_lost(OTHER, [NIC, SECOND])
    for uuid in (OTHER, UUID):
        _path(state, f"lost/{uuid}").touch()
    assert state.has_lost(OTHER, [])
    state.forget_lost({OTHER})
    assert state.names("lost") == [OTHER]
    state.disclaim(NIC, OTHER)
    assert state.names("lost") == []
    _path(state, "domains").rmdir()
    assert state.has_lost(OTHER, [])


def test_who_had_devices_is_noted_when_the_folder_is_made(root: str) -> None:
    """Once: from then on a guest without an entry has had none."""
    build(root, nic())
    state = state_of(Machine(root, SimulatedKernel(root)))
    assert not state.stands
    state.make(lambda: [UUID])
    assert (state.names("lost"), state.stands) == ([UUID], True)
    state.make(lambda: [OTHER])
    assert state.names("lost") == [UUID]


def test_only_a_write_that_has_not_come_back_is_on_its_way(state: State) -> None:
    """A file alone was left by somebody who was killed; what is no device's is passed over."""
    for name in (NIC, SECOND, "asking-5-6"):
        _path(state, f"in-flight/{name}").touch()
    assert state.in_flight() == set()
    with _path(state, f"in-flight/{NIC}").open("r+") as mark, _path(state, "in-flight/asking-5-6").open("r+") as asks:
        for held in (mark, asks):
            fcntl.flock(held, fcntl.LOCK_EX)
        assert state.in_flight() == {NIC}
        for address in (NIC, SECOND):
            state.settle_in_flight(address)
        assert sorted(state.names("in-flight")) == [str(NIC), "asking-5-6"]
    for name in state.names("in-flight"):
        _path(state, f"in-flight/{name}").unlink()
    _path(state, "in-flight").rmdir()
    assert (state.in_flight(), state.stands) == (frozenset(), False)
    _path(state, "in-flight").touch()
    assert (state.in_flight(), state.stands) == (frozenset(), False)


def test_a_guest_at_which_somebody_works_is_busy(state: State) -> None:
    """And no other; a lock that a killed process left is tidied away."""
    with state.locked([f"domain-{UUID}"], Deadline.after(60)):
        assert state.is_busy(UUID)
        assert not state.is_busy(OTHER)
        _path(state, f"locks/domain-{OTHER}").touch()
        state.remove_unused_locks()
        assert state.names("locks") == [f"domain-{UUID}"]
    assert not state.is_busy(UUID)


def test_what_was_watched_last_is_known(state: State) -> None:
    """Or nothing, where that cannot be read: nobody is to end because of it."""
    assert notes.watched(state.machine) is None
    notes.remember_watched(state.machine, {"a": ["b"]})
    assert notes.watched(state.machine) == {"a": ["b"]}
    for text in ("{", "[" * 100_000):
        _path(state, "watched.json").write_text(text)
        assert notes.watched(state.machine) is None
    _path(state, "watched.json").chmod(0o666)
    assert notes.watched(state.machine) is None

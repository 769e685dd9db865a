# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules of a real kernel are taken out for guests, and come back: what rmmod, modprobe and /sys say of them.

No guest starts here: two journal entries are enough to have a claim each.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from host import BEHIND_BRIDGE, STATE, driver_of, wait_for

sys.path.insert(0, "/src")

from libhook.children.child import Deadline
from libhook.effects.state import State
from libhook.facts.config import Config
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.machine import Machine
from libhook.kinds import module, registry
from libhook.kinds.kind import Work
from libhook.kinds.module import unloading
from libhook.look.linux import LinuxKernel

A, B = (f"{name * 8}-0000-0000-0000-000000000000" for name in "ab")
MACHINE = Machine("", LinuxKernel())
STATE_OF_LIBHOOK = State(MACHINE, registry.read)
SECONDS = 300


@pytest.fixture(autouse=True)
def folders() -> Iterator[None]:
    """Of libhook, as a start makes them; and nothing is left in the one of what guests share."""
    STATE_OF_LIBHOOK.make(lambda: ())
    yield
    assert list((STATE / "shared").iterdir()) == []


@pytest.fixture
def dummy() -> Iterator[str]:
    """A module that nobody needs."""
    subprocess.run(["modprobe", "dummy", "numdummies=0"], check=True, timeout=600)
    yield "dummy"
    subprocess.run(["rmmod", "dummy"], check=True, timeout=600)


def _loaded(name: str) -> bool:
    return Path("/sys/module", name, "initstate").exists()


def _failures(guest: str, actions: list[unloading.Out]) -> list[str]:
    work = Work(MACHINE, STATE_OF_LIBHOOK, Deadline.after(SECONDS), Config(holder_wait=1), guest)
    outcomes = module.carry_out(work, actions)
    return [outcome.failure.reason for outcome in outcomes if outcome.failure]


def _take(guest: str, *names: str) -> list[str]:
    """With a journal entry for the guest that names them. Why not."""
    actions = tuple(unloading.out(name) for name in names)
    boot = STATE_OF_LIBHOOK.boot()
    devices = tuple(HeldDevice("pci", address) for address in BEHIND_BRIDGE)
    STATE_OF_LIBHOOK.save(Held(guest, "modules", "kvm", "started", boot, Process(1, 1), devices, actions=actions))
    return _failures(guest, list(actions))


def _give_back(guest: str, *names: str) -> list[str]:
    failures = _failures(guest, [unloading.out(name)._replace(back=True) for name in names])
    STATE_OF_LIBHOOK.forget(guest)
    return failures


@contextmanager
def _loop_device(file: Path) -> Iterator[None]:
    """The module ``loop`` in use."""
    file.write_bytes(bytes(1 << 20))
    done = subprocess.run(["losetup", "-f", "--show", file], capture_output=True, text=True, check=True, timeout=600)
    try:
        yield
    finally:
        subprocess.run(["losetup", "-d", done.stdout.strip()], check=True, timeout=600)


def test_out_until_the_last_guest_has_ended(dummy: str) -> None:
    """Both orders of ends, one after the other."""
    for first, last in ((A, B), (B, A)):
        assert (_take(A, dummy), _take(B, dummy)) == ([], [])
        assert not _loaded(dummy)
        assert _give_back(first, dummy) == []
        assert not _loaded(dummy)
        assert _give_back(last, dummy) == []
        assert _loaded(dummy)


def test_what_was_not_loaded_stays_out() -> None:
    """It is neither taken out nor loaded."""
    assert not _loaded("dummy")
    assert (_take(A, "dummy"), _give_back(A, "dummy")) == ([], [])
    assert not _loaded("dummy")


def test_what_another_module_needs_is_refused() -> None:
    """With its name, and nothing has changed."""
    assert _take(A, "nvme_core") == ["the module nvme_core is in use by nvme"]
    assert _loaded("nvme_core")
    assert _give_back(A, "nvme_core") == []


def test_what_is_in_use_is_refused(tmp_path: Path) -> None:
    """By a loop device with a file, until that is gone."""
    with _loop_device(tmp_path / "file"):
        assert _take(A, "loop") == ["the module loop is in use"]
        assert _loaded("loop")
    wait_for("the loop device", lambda: Path("/sys/module/loop/refcnt").read_text() == "0\n")
    assert _take(A, "loop") == []
    assert not _loaded("loop")
    assert _give_back(A, "loop") == []
    assert _loaded("loop")


def test_what_is_built_in_is_refused() -> None:
    """It has a folder, for its parameters, and no state."""
    built_in = next(
        path.name
        for path in sorted(Path("/sys/module").iterdir())
        if not (path / "initstate").exists() and "vfio" not in path.name
    )
    assert _take(A, built_in) == [f"the module {built_in} is built into the kernel"]
    assert _give_back(A, built_in) == []


def test_the_devices_of_a_driver_come_back_with_it() -> None:
    """Without the module they have no driver, whatever udev makes of that; with it they have theirs."""
    assert _take(A, "e1000") == []
    try:
        assert not _loaded("e1000")
        assert [driver_of(address) for address in BEHIND_BRIDGE] == [None, None]
    finally:
        assert _give_back(A, "e1000") == []
    wait_for("their driver", lambda: [driver_of(address) for address in BEHIND_BRIDGE] == ["e1000"] * 2)

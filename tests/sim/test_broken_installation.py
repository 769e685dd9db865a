# SPDX-License-Identifier: LGPL-2.1-or-later
"""Python, lxml or libhook itself is broken: hooks/qemu stands between that and libvirtd."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import NIC
from launcher import OPERATIONS, VETOES, WITH_DEVICE, WITHOUT, Launcher, in_each_shell, installed

from libhook.children.child import Deadline
from libhook.effects import identities
from libhook.facts.host import Identity
from libhook.facts.identity import Note
from libhook.facts.machine import Machine
from libhook.handlers.registry import HANDLERS
from libhook.simulation import store
from libhook.simulation.guests import Guest
from libhook.simulation.kernel import SimulatedKernel

ENDS = ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "ALRM", "TERM")
"""Signals by which somebody ends a process; the others say that it has a fault of its own."""


@pytest.fixture
def launcher(root: str, request: pytest.FixtureRequest) -> Launcher:
    """Give a launcher on a host with one card."""
    return installed(root, request)


def _break_python(launcher: Launcher) -> None:
    launcher.python.unlink()


def _break_python_at_once(launcher: Launcher) -> None:
    launcher.python.write_text("#!/bin/sh\nkill -SEGV $$\n")


def _break_lxml(launcher: Launcher) -> None:
    folder = launcher.folder / "lxml"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('no lxml')\n")


def _delete_half(launcher: Launcher) -> None:
    for name in ("facts/plan.py", "facts/host.py", "story/giveback.py"):
        (launcher.folder / "libhook" / name).unlink()
    shutil.rmtree(launcher.folder / "libhook" / "handlers")


def _delete_all(launcher: Launcher) -> None:
    shutil.rmtree(launcher.folder)


def _add(launcher: Launcher, name: str, code: str) -> None:
    """At the end of a module that is there."""
    with (launcher.folder / "libhook" / name).open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.write(code)


def _add_a_syntax_error(launcher: Launcher) -> None:
    _add(launcher, "run.py", "def broken(:\n")


def _raise_in_the_middle(launcher: Launcher) -> None:
    _add(launcher, "handlers/registry.py", "def plan_for(situation, undone=()):\n    raise KeyError('a\\nbug')\n")


def _exit_in_the_middle(launcher: Launcher) -> None:
    _add(launcher, "cli.py", "def launched():\n    print('stray'); sys.exit(2)\n")


BREAKS = (
    _break_python,
    _break_python_at_once,
    _break_lxml,
    _delete_half,
    _delete_all,
    _add_a_syntax_error,
    _raise_in_the_middle,
    _exit_in_the_middle,
)


@pytest.mark.parametrize("ruin", BREAKS)
def test_a_broken_installation_only_stops_guests_with_devices_from_starting(
    launcher: Launcher, ruin: Callable[[Launcher], None]
) -> None:
    """In one line without a traceback; whatever runs, ends or has no device goes on, in silence."""
    ruin(launcher)
    state = Path(launcher.root) / "run" / "libhook" / "domains"
    for held in (False, True):
        if held:
            state.mkdir(parents=True, mode=0o700, exist_ok=True)
            (state / f"{Guest().uuid}.json").write_text("{}")
        for operation in OPERATIONS:
            done = launcher.event(operation, WITH_DEVICE)
            assert done.stdout == b""
            if operation in VETOES:
                assert done.returncode == 1
                assert done.stderr.count(b"\n") == 1
                assert done.stderr.decode().rstrip("\n").isprintable()
                assert b"Traceback" not in done.stderr
            else:
                assert (done.returncode, done.stderr) == (0, b"")
        if not held:
            for operation in OPERATIONS:
                done = launcher.event(operation, WITHOUT)
                assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_without_lxml_a_device_still_comes_back(launcher: Launcher) -> None:
    """What a journal entry says is given back without reading the XML's devices."""
    driver = Path(launcher.root, "sys/bus/pci/devices", NIC, "driver")
    for operation in VETOES:
        assert launcher.event(operation, WITH_DEVICE).returncode == 0
    assert driver.readlink().name == "vfio-pci"
    _break_lxml(launcher)
    done = launcher.event("release", WITH_DEVICE)
    assert (done.returncode, done.stderr, driver.readlink().name) == (0, b"", "e1000e")


@pytest.mark.parametrize("name", sorted({name.partition(".")[0] for names in HANDLERS.values() for name in names}))
def test_a_handler_whose_file_is_broken_keeps_no_device(launcher: Launcher, name: str) -> None:
    """The kinds of action give back. A start that asks this handler is refused, in its name.

    Some are asked only where the settings ask for something, one where a device is not what it was.
    """
    settings = Path(launcher.root, "etc/libhook/config.toml")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("modules = []\naudit.required = true\n")
    driver = Path(launcher.root, "sys/bus/pci/devices", NIC, "driver")
    for operation in VETOES:
        assert launcher.event(operation, WITH_DEVICE).returncode == 0
    _add(launcher, f"handlers/{name}.py", "raise ZeroDivisionError('of ours')\n")
    done = launcher.event("release", WITH_DEVICE)
    assert (done.returncode, done.stderr, driver.readlink().name) == (0, b"", "e1000e")
    trail = [record["text"] for record in store.lines(f"{launcher.root}/var/log/audit.jsonl")]
    assert [text.split()[2] for text in trail] == ([] if name == "audit" else ["reason=start"])
    if name == "identity":
        machine = Machine(launcher.root, SimulatedKernel(launcher.root))
        note = Note(Guest().uuid, "win11").with_start("win11", {NIC: Identity("8086:0000")}, 0)
        identities.update(machine, note.uuid, Deadline.after(60), lambda: note)
    done = launcher.event("prepare", WITH_DEVICE)
    assert done.returncode == 1
    assert done.stderr.startswith(b"the handler ")
    assert f"{name}.py, line ".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_what_is_printed_by_mistake_never_reaches_libvirt(launcher: Launcher) -> None:
    """A stray print, also of a handler's or a library's, would become a guest's XML or be shown as an error."""
    _add(launcher, "story/session.py", "print('<domain/>', flush=True)\n")
    done = launcher.event("prepare", WITH_DEVICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@in_each_shell
def test_a_python_that_dies_of_a_signal_is_said_in_our_words(launcher: Launcher) -> None:
    """Each shell has its own for it, which would be a second line."""
    _break_python_at_once(launcher)
    done = launcher.event("prepare", WITH_DEVICE)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"status 139" in done.stderr


@in_each_shell
def test_a_python_that_somebody_ends_is_no_broken_installation(launcher: Launcher) -> None:
    """The guest is to be started again, and that is said; nobody is sent to repair what is not broken."""
    for name in ENDS:
        launcher.python.write_text(f"#!/bin/sh\nkill -{name} $$\n")
        number = int(signal.Signals[f"SIG{name}"])
        said = f"the hook was ended by signal {number} before it was done: start the guest again"
        for operation in ("prepare", "started"):
            done = launcher.event(operation, WITH_DEVICE)
            expected = (1, b"", f"{said}\n") if operation in VETOES else (0, b"", "")
            assert (done.returncode, done.stdout, done.stderr.decode()) == expected

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether libvirt says that a guest runs, from its folder of status files, in any condition."""

from pathlib import Path

import pytest

from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.look import libvirtd
from libhook.simulation.kernel import SimulatedKernel

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
STATUS = (
    "<domstatus state='running' reason='booted' pid='4711'>\n"
    "  <domain type='kvm' id='1'>\n    <name>win11</name>\n    <uuid>{}</uuid>"
)


def _says(root: Path, name: str = "win11") -> bool | None:
    return libvirtd.has_status_file(Machine(str(root), SimulatedKernel(str(root))), name, UUID)


@pytest.fixture
def status(tmp_path: Path) -> Path:
    """Where the guest's file is to be."""
    folder = tmp_path / "run/libvirt/qemu"
    folder.mkdir(parents=True)
    return folder / "win11.xml"


def test_without_the_folder_nothing_is_known(tmp_path: Path) -> None:
    """A missing file means something only where files are kept."""
    assert _says(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        (None, False),
        (STATUS.format(UUID), True),
        (STATUS.format(UUID.upper()), True),
        (STATUS.format("11111111-2222-3333-4444-555555555555"), False),
        ("cut sho", True),
    ],
)
def test_the_guests_own_file_says_that_it_runs(tmp_path: Path, status: Path, text: str | None, runs: bool) -> None:
    """Not that of another which has its name by now; one that cannot be understood may be its own."""
    if text is not None:
        status.write_text(text)
    assert _says(tmp_path) is runs


def test_a_file_that_cannot_be_read_may_be_of_a_guest_that_runs(tmp_path: Path, status: Path) -> None:
    """A device is not taken from under a guest because of an error of the file system."""
    status.mkdir()
    assert _says(tmp_path) is True


def test_a_folder_that_cannot_be_listed_may_have_any_guest_s_file(tmp_path: Path, status: Path) -> None:
    """It is not taken for an empty one, nor for one that libvirt has not made yet."""
    status.parent.rmdir()
    assert libvirtd.with_host_devices(Machine(str(tmp_path), SimulatedKernel(str(tmp_path)))) == frozenset()
    status.parent.symlink_to(status.parent)
    assert _says(tmp_path) is True
    with pytest.raises(LibhookError, match=r"qemu: Too many levels of symbolic links$"):
        libvirtd.with_host_devices(Machine(str(tmp_path), SimulatedKernel(str(tmp_path))))


def test_who_runs_is_known_only_where_each_status_file_can_be_read(tmp_path: Path, status: Path) -> None:
    """A file of another kind is none, and one that is gone when it is opened is of a guest that has ended."""
    machine = Machine(str(tmp_path), SimulatedKernel(str(tmp_path)))
    status.write_text(STATUS.format(UUID.upper()))
    status.with_name(f"{'x' * 251}.pid").touch()
    status.with_name("gone.xml").symlink_to("nowhere")
    assert libvirtd.running(machine) == frozenset([UUID])
    status.with_name("other.xml").mkdir()
    assert libvirtd.running(machine) is None
    assert libvirtd.running(machine._replace(root=f"{tmp_path}/nowhere")) is None


@pytest.mark.usefixtures("status")
def test_a_name_that_is_too_long_for_a_file_has_none(tmp_path: Path) -> None:
    """Libvirt could not write one either."""
    assert _says(tmp_path, "n" * 253) is False


@pytest.mark.parametrize(
    ("text", "pid"),
    [
        (None, libvirtd.NOT_KNOWN),
        (STATUS.format(UUID), 4711),
        (STATUS.format(UUID.upper()), 4711),
        (STATUS.format("11111111-2222-3333-4444-555555555555"), libvirtd.NOT_KNOWN),
        (STATUS.format(UUID).replace("pid=", "tid="), libvirtd.NOT_KNOWN),
        ("cut sho", libvirtd.NOT_KNOWN),
    ],
)
def test_the_guests_own_file_names_its_qemu(tmp_path: Path, status: Path, text: str | None, pid: int) -> None:
    """And not that of another guest; where it does not, nobody guesses."""
    if text is not None:
        status.write_text(text)
    assert libvirtd.qemu(Machine(str(tmp_path), SimulatedKernel(str(tmp_path))), "win11", UUID) == pid

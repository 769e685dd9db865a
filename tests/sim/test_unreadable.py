# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine does not say, or says what it never should: refused in a line that names where, and never our own bug."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from aftermath import OTHER, recover, wrong
from cases import DISK, NIC
from disturbing import refusing
from scenario import Host, guest

from libhook.errors import KERNEL_LOG
from libhook.look import sysfs
from libhook.simulation.hosts import nic, workstation


def _aliases(root: str) -> Path:
    (found,) = Path(root, "lib/modules").glob("*/modules.alias")
    return found


def _attribute(root: str, name: str) -> Path:
    return Path(root, "sys/bus/pci/devices", NIC, name)


@pytest.mark.parametrize(
    "strange",
    [b"alias vfio_pci:v\xff\xfe* caf\xe9\n", b"alias vfio_pci:v1\n", b"alias vfio_pci:", b"\0" * 4096],
    ids=["not ASCII", "no module", "cut off", "null bytes"],
)
def test_an_alias_that_depmod_did_not_write_names_no_driver(root: str, strange: bytes) -> None:
    """As after a power cut: the other lines count, and the guest gets its device."""
    host = Host(root, nic())
    path = _aliases(root)
    path.write_bytes(path.read_bytes() + strange)
    host.begin(guest(NIC))
    host.event(guest(NIC), "release", "shutdown")
    assert wrong(host) == []


@pytest.mark.parametrize("text", [b"", b"zzz\n", b"\xff\n\n\0", b"x" * 8192], ids=["empty", "word", "binary", "long"])
def test_a_class_that_cannot_be_read_is_refused(root: str, text: bytes) -> None:
    """It may be a bridge, or the display: nobody knows what would be taken away."""
    host = Host(root, nic())
    path = _attribute(root, "class")
    path.unlink()
    path.write_bytes(text)
    outcome = host.event(guest(NIC), "prepare")
    assert outcome.line.startswith(f"{NIC}: its class cannot be read")
    assert host.records == [f"start {NIC} failed"]
    assert (outcome.writes, outcome.changed) == ((), ())


def test_an_override_that_cannot_be_read_is_refused(root: str) -> None:
    """What was set there would be lost: it could not be restored."""
    host = Host(root, nic())
    _attribute(root, "driver_override").unlink()
    outcome = host.event(guest(NIC), "prepare")
    assert outcome.line.startswith(f"{NIC}: its driver_override cannot be read")
    assert (outcome.code, outcome.writes) == (1, ())


def test_an_override_that_cannot_be_read_any_more_is_restored(root: str) -> None:
    """It is taken for ours, so that no probe leads back to vfio-pci."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    overrides = sysfs.overrides

    def unread(*arguments: Any) -> dict[Any, None]:  # noqa: ANN401 - as the real one
        return dict.fromkeys(overrides(*arguments))

    with mock.patch("libhook.look.sysfs.overrides", unread):
        host.event(guest(NIC), "release", "shutdown")
    assert wrong(host) == []


def test_an_override_whose_reader_could_not_be_started_is_read_by_another(root: str) -> None:
    """There was no process to be had for a moment."""
    host = Host(root, nic())
    host.begin(guest(NIC))
    tries = iter([True])
    with refusing("fork", errno.EAGAIN, lambda: next(tries, False)):
        outcome = host.event(guest(NIC), "release", "shutdown")
    assert next(tries, None) is None
    assert outcome.writes[0] == (f"bus/pci/devices/{NIC}/driver_override", "\n")
    assert wrong(host) == []


def test_a_group_that_is_renumbered_between_two_looks_is_refused(root: str) -> None:
    """Nobody has seen who else is in it."""
    host = Host(root, nic())
    link = _attribute(root, "iommu_group")
    link.unlink()
    link.symlink_to("../../../kernel/iommu_groups/77")
    outcome = host.event(guest(NIC), "prepare")
    assert f"{NIC} is not among the devices of its IOMMU group 77" in outcome.line
    assert outcome.changed == ()


def _is_a_folder(root: str) -> None:
    path = _aliases(root)
    path.unlink()
    path.mkdir()


def _is_no_link(root: str) -> None:
    path = _attribute(root, "driver")
    path.unlink()
    path.write_text("")


@pytest.mark.parametrize(
    ("spoil", "where"), [(_is_a_folder, "modules.alias: Is a directory"), (_is_no_link, "driver: Invalid argument")]
)
def test_what_nobody_could_foresee_is_said_of_the_machine(root: str, spoil: Callable[[str], None], where: str) -> None:
    """It is no bug of ours, and reinstalling does not help."""
    host = Host(root, nic())
    spoil(root)
    outcome = host.event(guest(NIC), "prepare")
    assert where in outcome.line
    assert outcome.line.endswith(KERNEL_LOG)
    assert "libhook itself" not in outcome.line
    assert host.records == [f"start {NIC} failed"]


@pytest.mark.parametrize("text", [None, ""])
def test_without_a_boot_id_nothing_is_taken_and_everything_given_back(root: str, text: str | None) -> None:
    """An entry without one would be void for whoever reads it next, and the device lost."""
    host = Host(root, nic())
    path = Path(root, "proc/sys/kernel/random/boot_id")
    known = path.read_text()

    def forget() -> None:
        path.unlink()
        if text is not None:
            path.write_text(text)

    forget()
    outcome = host.event(guest(NIC), "prepare")
    assert "boot_id" in outcome.line
    assert outcome.changed == ()
    path.write_text(known)
    host.begin(guest(NIC))
    forget()
    host.event(guest(NIC), "release", "shutdown")
    assert wrong(host) == []


def test_a_configuration_that_is_lost_to_a_bad_disk_keeps_nothing(root: str) -> None:
    """It opens, and cannot be read: said at prepare, and given back all the same."""
    host = Host(root, nic(), "dry_run = false\n")
    host.begin(guest(NIC))
    opening = os.fdopen

    def bad(descriptor: int, mode: str = "r", *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        file = opening(descriptor, mode, *rest, **more)
        if "config.toml" not in os.readlink(f"/proc/self/fd/{descriptor}"):
            return file
        broken = mock.MagicMock(wraps=file)
        broken.__enter__.return_value.read.side_effect = OSError(errno.EIO, os.strerror(errno.EIO))
        broken.__exit__.side_effect = lambda *_: file.close()
        return broken

    with mock.patch("os.fdopen", bad):
        ended = host.event(guest(NIC), "release", "shutdown")
        assert "config.toml cannot be read: Input/output error" in ended.logged("configuration ignored")[0]["reason"]
        refused = host.event(guest(NIC), "prepare")
    assert "config.toml cannot be read: Input/output error" in refused.line
    host.event(guest(NIC), "release", "failed")
    recover(host)
    assert wrong(host) == []


def _in_no_way_a_link(root: str, name: str) -> Callable[[], None]:
    """What mends it."""
    path = _attribute(root, name)
    target = os.readlink(path)
    path.unlink()
    path.write_text("")

    def mend() -> None:
        path.unlink()
        path.symlink_to(target)

    return mend


def test_a_device_that_cannot_be_looked_at_keeps_no_other_of_its_guest(root: str) -> None:
    """The other comes back at once; of the first it is said why not, and recover tries again."""
    host = Host(root, workstation())
    both = guest(NIC, DISK)
    host.begin(both)
    mend = _in_no_way_a_link(root, "driver")
    ended = host.event(both, "release", "shutdown")
    assert f"{NIC} cannot be read" in ended.logged("not given back")[0]["reason"]
    assert host.records[-2:] == [f"stop {NIC} failed", f"stop {DISK} success"]
    assert host.driver(DISK) == "nvme"
    mend()
    recover(host)
    assert wrong(host) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_guest_whose_device_cannot_be_looked_at_keeps_no_other_guest(root: str, first: bool) -> None:
    """Whichever is recovered first."""
    host = Host(root, workstation())
    host.begin(guest(NIC))
    host.begin(guest(DISK, name="other")._replace(uuid=("f" if first else "0") * 8 + OTHER[8:]))
    host.libvirt.restart()
    mend = _in_no_way_a_link(root, "iommu_group")
    said = recover(host)
    assert f"{root}/sys/bus/pci/devices/{NIC}/iommu_group: Invalid argument" in said
    assert (host.driver(NIC), host.driver(DISK)) == ("vfio-pci", "nvme")
    mend()
    recover(host)
    assert wrong(host) == []

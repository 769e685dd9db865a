# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures: guests that end with their test, and the proof after each test that the host is as before."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from amounts import SAMPLED
from calls import CONFIG
from choosing import choose
from guests import Device, Guest, Refused, iscsi, kill_libvirtd, start_libvirtd, virsh
from host import (
    PF,
    STATE,
    UNDER_SYSTEMD,
    HostState,
    driver_of,
    hand_over,
    host_state,
    netdev_of,
    override_of,
    settled,
    wait_for,
)
from service import logind_runs, systemctl

pytest_plugins = ["outcomes"]
NEED_SYSTEMD = (
    "test_apparmor.py",
    "test_commands.py",
    "test_everything.py",
    "test_holders.py",
    "test_host_actions.py",
    "test_host_ends.py",
    "test_hotplug_settings.py",
    "test_imported.py",
    "test_mounts.py",
    "test_old_scripts.py",
    "test_own_handlers.py",
    "test_recipes.py",
    "test_recover_service.py",
    "test_service.py",
    "test_shared.py",
)
# What needs systemd has a machine of its own (tests/lab/run --systemd), where only that runs.
collect_ignore = [
    path.name for path in Path(__file__).parent.glob("test_*.py") if (path.name in NEED_SYSTEMD) != UNDER_SYSTEMD
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A sample has one variant of each test."""
    choose(config, items, lambda _: len(items) if SAMPLED else 1)


MakeGuest = Callable[..., Guest]
Configure = Callable[[str], None]


@pytest.fixture(autouse=True)
def host_as_before() -> Iterator[None]:
    """Fail a test after which the host is not as it was, and put it right for the tests that follow."""
    before = host_state()
    yield
    try:
        left = _destroy_all()
    finally:
        # A release hook may still be at work when virsh has its answer.
        differences = settled(lambda: before.differences(host_state()), 200)
        if differences:
            _put_right(before)
    differences += [f"left running: {uuid}" for uuid in left]
    assert not differences, "the host is not as before: " + "; ".join(differences)


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[MakeGuest]:
    """Makes guests named after the test; those still running when a test fails are destroyed."""
    made: list[Guest] = []

    def make(
        *devices: Device, name: str | None = None, more_devices: str = "", more: str = "", machine: str = "q35"
    ) -> Guest:
        own_name = f"{request.node.originalname.removeprefix('test_')[:40]}-{len(made)}"
        made.append(Guest(devices, name or own_name, more_devices, more, machine))
        return made[-1]

    yield make
    for one in made:
        _destroy(one.uuid)


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Writes /etc/libhook/config.toml, which the lab has not, for the test."""

    def write(text: str) -> None:
        CONFIG.parent.mkdir(exist_ok=True)
        CONFIG.write_text(text)
        CONFIG.chmod(0o644)

    yield write
    CONFIG.unlink(missing_ok=True)


@pytest.fixture
def logind() -> Iterator[None]:
    """It runs."""
    with logind_runs():
        yield


@pytest.fixture
def handed_over() -> Iterator[Callable[[str, str | None, str | None], None]]:
    """Leaves a device on a driver (or on none) with an override, as an administrator might, for the test."""
    before: dict[str, tuple[str | None, str | None]] = {}

    def leave(address: str, driver: str | None, override: str | None) -> None:
        before[address] = (driver_of(address), override_of(address))
        hand_over(address, driver, override)

    yield leave
    try:
        _destroy_all()  # unbinding a device under a guest that a failed test has left running would never return
    finally:
        for address, (driver, override) in before.items():
            hand_over(address, driver, override)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[None]:
    """A network that hands out VFs, the lowest free one first."""
    forward = f"<forward mode='hostdev' managed='yes'><pf dev='{netdev_of(PF)}'/></forward>"
    (tmp_path / "pool.xml").write_text(f"<network><name>pool</name>{forward}</network>")
    virsh("net-create", str(tmp_path / "pool.xml"))
    yield
    virsh("net-destroy", "pool")


@pytest.fixture
def iscsi_disk(tmp_path: Path) -> Iterator[Device]:
    """A disk out of a file behind an iSCSI target of this machine."""
    target, disk = "iqn.2011-02.org.example:lab", tmp_path / "iscsi"
    disk.write_bytes(bytes(1 << 20))
    with subprocess.Popen(["tgtd", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            wait_for("tgtd", lambda: _tgtadm("--op", "show", "--mode", "sys") == 0)
            for step in (
                ("--op", "new", "--mode", "target", "--tid", "1", "--targetname", target),
                ("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--backing-store", str(disk)),
                ("--op", "bind", "--mode", "target", "--tid", "1", "--initiator-address", "ALL"),
            ):
                assert _tgtadm(*step) == 0, step
            yield iscsi(f"{target}/1")
            _destroy_all()  # a QEMU whose target is gone does not end before it has tried for long
        finally:
            daemon.kill()


def _tgtadm(*arguments: str) -> int:
    return subprocess.run(["tgtadm", "--lld", "iscsi", *arguments], capture_output=True, timeout=600).returncode


def _destroy(uuid: str) -> None:
    with suppress(Refused):  # it has ended, as it should
        virsh("destroy", uuid)


def _destroy_all() -> list[str]:
    """Destroy whatever runs. A libvirtd that does not answer is started anew, without a guest, and is a failure."""
    try:
        left = virsh("list", "--all", "--uuid").split()
        for uuid in left:
            _destroy(uuid)
    except (Refused, subprocess.TimeoutExpired) as error:
        _start_libvirtd_anew()
        raise AssertionError(f"libvirtd did not answer, and was started anew: {error}") from None
    return left


def _start_libvirtd_anew() -> None:
    subprocess.run(["pkill", "-KILL", "qemu-system"], check=False)
    if UNDER_SYSTEMD:
        systemctl("kill", "--signal=KILL", "libvirtd")
        systemctl("restart", "libvirtd")
    else:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has died by itself
            kill_libvirtd()
        start_libvirtd()


def _put_right(before: HostState) -> None:
    for name in ("domains", "claims", "shared"):
        shutil.rmtree(STATE / name, ignore_errors=True)
    now = host_state()
    for address, (driver, override) in before.devices.items():
        if now.devices.get(address, (driver, override)) != (driver, override):
            hand_over(address, driver, override)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once why a test failed: a run that hangs later never gets to pytest's own summary."""
    if report.failed:
        print(f"\n{report.longreprtext}\n", file=sys.__stderr__, flush=True)

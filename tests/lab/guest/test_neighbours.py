# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users of the host without any right to a device, while a guest is given it and gives it back."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from conftest import MakeGuest
from guests import pci
from host import GPU, NIC, PCI, driver_of, override_of, wait_for
from test_in_use import said_in_log
from trail import expect_given, expect_returned

NOBODY = 65534
MILLION = 1_000_000
NAMES_IT = """
import os, sys, time
held = os.open(sys.argv[1], os.O_PATH)
try:
    os.open(sys.argv[1], os.O_RDONLY)
except PermissionError:
    print("ready", flush=True)
time.sleep(3600)
"""
OWN_DEV = """
set -e
mount -n -t tmpfs none /mnt
mkdir -p "/mnt/$(dirname "${1#/dev/}")"
: >"/mnt/${1#/dev/}"
mount -n --move /mnt /dev
exec 3<>"$1"
test -f "$1"
echo ready
exec sleep 3600
"""
DESCRIPTORS = """
import os, sys, time
for descriptor in range(10, int(sys.argv[1])):
    os.dup2(0, descriptor)
print("ready", flush=True)
time.sleep(3600)
"""


@contextmanager
def _nobodys(*command: str) -> Iterator[None]:
    """A process that has said that it is ready; it ends with the block."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, user=NOBODY, group=NOBODY, extra_groups=[]
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def names_it(path: str) -> AbstractContextManager[None]:
    """Has the node open by O_PATH; it may not open it for use."""
    return _nobodys(sys.executable, "-c", NAMES_IT, path)


def has_a_dev_of_its_own(path: str) -> AbstractContextManager[None]:
    """Has a regular file of that path open, in a user namespace where it may mount."""
    return _nobodys("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", OWN_DEV, "sh", path)


def _group(address: str) -> str:
    return f"/dev/vfio/{(PCI / 'devices' / address / 'iommu_group').resolve().name}"


def _card() -> str:
    node = f"/dev/dri/{next((PCI / 'devices' / GPU / 'drm').glob('card[0-9]')).name}"
    wait_for(node, Path(node).exists)
    Path(node).chmod(0o600)
    return node


@pytest.mark.rest
@pytest.mark.parametrize("neighbour", [names_it, has_a_dev_of_its_own])
def test_who_may_not_open_a_device_keeps_no_start(
    guest: MakeGuest, neighbour: Callable[[str], AbstractContextManager[None]]
) -> None:
    """The GPU is handed over, and recorded so: whoever counts as its holder would have the start refused."""
    one = guest(pci(GPU))
    with neighbour(_card()):
        one.start()
    expect_given(one)
    one.destroy()
    assert driver_of(GPU) == "bochs-drm"
    expect_returned(one)


@pytest.mark.rest
@pytest.mark.parametrize("neighbour", [names_it, has_a_dev_of_its_own])
def test_who_may_not_open_a_device_keeps_none_from_coming_back(
    guest: MakeGuest, neighbour: Callable[[str], AbstractContextManager[None]]
) -> None:
    """The NIC comes back, and is recorded so: whoever counts as its holder would leave it with vfio-pci."""
    one = guest(pci(NIC)).start()
    expect_given(one)
    with neighbour(_group(NIC)):
        one.destroy()
        wait_for("the way home", lambda: driver_of(NIC) == "e1000e")
        one.wait_until_gone()
        assert override_of(NIC) is None
    expect_returned(one)


@pytest.mark.rest
def test_a_million_descriptors_beside_a_start(guest: MakeGuest) -> None:
    """Whoever has them costs the start no refusal; they are passed over, which the log says."""
    one = guest(pci(GPU))
    _card()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MILLION, MILLION))
    try:
        with _nobodys(sys.executable, "-c", DESCRIPTORS, str(MILLION)):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            one.start()
            expect_given(one)
            wait_for("the line in the log", lambda: said_in_log("not looked at", "1 processes that may not open"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    one.destroy()
    expect_returned(one)

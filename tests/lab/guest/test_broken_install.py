# SPDX-License-Identifier: LGPL-2.1-or-later
"""What install.sh has installed breaks, or its folder in /run does: guests that run go on, none is half started."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import MakeGuest
from guests import Guest, kill_libvirtd, pci, start_libvirtd
from host import NIC, NIC2, STATE, SysfsWrites, driver_of, override_of
from trail import expect_failed, expect_given, expect_returned, records

PYTHON = Path("/usr/bin/python3")
LXML = Path("/usr/lib/python3/dist-packages/lxml")
HOOK = Path("/etc/libvirt/hooks/qemu")
(PACKAGE,) = Path("/usr/local/lib/libhook/versions").glob("*/libhook")
BUNDLE = PACKAGE.with_name("bundle")
"""With it, a hook reads no other file of libhook's."""
BROKEN = "libhook itself does not run (python3 ended with status "
REMEDY = "): libhook status shows why, install.sh repairs it"
NO_LXML = "libhook itself failed at prepare: ModuleNotFoundError: \"No module named 'lxml'\": run install.sh again"


@contextmanager
def away(*paths: Path) -> Iterator[None]:
    """While it lasts, nothing is found under these names. What was written there meanwhile is gone afterwards."""
    with ExitStack() as stack:
        for path in paths:
            hidden = path.rename(path.with_name(f"{path.name}.away"))
            stack.callback(hidden.rename, path)
        yield


@contextmanager
def syntax_error() -> Iterator[None]:
    """One file of libhook's is no Python."""
    file = PACKAGE / "run.py"
    text = file.read_text()
    with away(file, BUNDLE):
        file.write_text(f"{text}def broken(:\n")
        yield


@contextmanager
def read_only() -> Iterator[None]:
    """Nobody can write to /run/libhook."""
    mount("-o", "remount,ro", str(STATE))
    try:
        yield
    finally:
        mount("-o", "remount,rw", str(STATE))


@contextmanager
def full() -> Iterator[None]:
    """There is no room for another byte in /run/libhook."""
    filler = STATE / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4096"], capture_output=True, timeout=600)
    assert os.statvfs(STATE).f_bavail == 0
    try:
        yield
    finally:
        filler.unlink()


def mount(*arguments: str) -> None:
    """mount(8)."""
    subprocess.run(["mount", *arguments], check=True, timeout=600)


@pytest.fixture
def small_state() -> Iterator[None]:
    """/run/libhook is a file system of its own with little room."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    mount("-t", "tmpfs", "-o", "size=128k,mode=700", "libhook", str(STATE))
    yield
    subprocess.run(["umount", str(STATE)], check=True, timeout=600)


def only_starts_with_devices_suffer(make: MakeGuest, one: Guest, *reason: str) -> Guest:
    """The guest lives through a new libvirtd, another without devices starts, one with a device is refused so."""
    pid = one.pid()
    kill_libvirtd()
    start_libvirtd()
    assert (one.running(), one.pid(), driver_of(NIC)) == (True, pid, "vfio-pci")
    make().start().destroy()
    refused = make(pci(NIC2))
    with SysfsWrites() as writes:
        line = refused.start_refused().partition("unexpected exit status 1: ")[2]
        assert writes.seen() == []
    assert [part for part in reason if part not in line] == [], line
    assert "\n" not in line
    assert "Traceback" not in line
    assert (driver_of(NIC2), override_of(NIC2)) == ("e1000e", None)
    return refused


@pytest.mark.rest
def test_a_part_is_missing(guest: MakeGuest) -> None:
    """Files of libhook's, then lxml, without which a guest that ends still has its device given back and recorded."""
    one = guest(pci(NIC)).start()
    expect_given(one)
    with away(BUNDLE, PACKAGE / "facts/plan.py", PACKAGE / "story/giveback.py", PACKAGE / "handlers"):
        only_starts_with_devices_suffer(guest, one, BROKEN, "1, ", "Error: ", "libhook", REMEDY)
    with away(LXML):
        only_starts_with_devices_suffer(guest, one, NO_LXML)
        one.destroy()
        assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    expect_returned(one)


@pytest.mark.rest
def test_nothing_of_it_runs(guest: MakeGuest) -> None:
    """A syntax error, then no Python; what such a guest leaves when it ends comes back once that is mended."""
    one = guest(pci(NIC)).start()
    expect_given(one)
    with syntax_error():
        only_starts_with_devices_suffer(guest, one, BROKEN, "1, SyntaxError: ", REMEDY)
    with away(PYTHON):
        only_starts_with_devices_suffer(guest, one, BROKEN, "127, ", REMEDY)
        one.destroy()
        assert (driver_of(NIC), records(one, "stop")) == ("vfio-pci", [])
    recover(one)
    expect_returned(one)
    guest(pci(NIC2)).start().destroy()


@pytest.mark.rest
@pytest.mark.usefixtures("small_state")
def test_the_state_cannot_be_written(guest: MakeGuest) -> None:
    """A full or read-only /run/libhook refuses a start and holds nothing back, and what it keeps there goes later."""
    one = guest(pci(NIC)).start()
    with full():
        refused = only_starts_with_devices_suffer(
            guest,
            one,
            f"the journal in {STATE} cannot be written (No space left on device): "
            "make room there, then start the guest again",
        )
        expect_failed(refused)
        one.destroy()
        assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    expect_given(one)
    expect_returned(one)
    one = guest(pci(NIC)).start()
    with read_only():
        refused = only_starts_with_devices_suffer(
            guest, one, f"{STATE}/", "cannot be written (Read-only file system): "
        )
        expect_failed(refused)
        one.destroy()
        assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)
    expect_given(one)
    expect_returned(one)
    recover(one)  # nobody could note what was done, so it is done again
    assert {record.result for record in records(one, "stop", ours=True)} == {"success"}
    guest(pci(NIC), pci(NIC2)).start().destroy()


def test_the_doctor_sees_what_is_broken() -> None:
    """Nothing fails as it is installed; a hook that libvirtd would pass over, and one that does not run, are named."""
    code, said = doctor()
    assert (code, [line for line in said if line.startswith("fail")]) == (0, [])
    for well in ("/etc/libvirt/hooks/qemu answers", "the kernel has vfio-pci", "auditing is on, and auditd runs"):
        assert f"ok    {well}" in said
    assert [line for line in said if line.startswith("ok    the IOMMU is on; number of groups: ")]
    text = HOOK.read_text()
    with away(HOOK):
        HOOK.write_text(text.replace("lib=/", "lib=/nowhere/"))
        HOOK.chmod(0o644)
        code, said = doctor()
        assert code == 1
        assert f"fail  {HOOK} is not executable, so libvirtd skips it: chmod 755 {HOOK}" in said
        HOOK.chmod(0o755)
        code, said = doctor()
        assert code == 1
        assert [line for line in said if line.startswith(f"fail  {HOOK} does not work: {BROKEN}1, ")]


def doctor() -> tuple[int, list[str]]:
    """`libhook doctor`: its exit code and lines."""
    done = subprocess.run(["libhook", "doctor"], capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines()


def recover(one: Guest) -> None:
    """`libhook recover` has something of this guest to give back, and does."""
    done = subprocess.run(["libhook", "recover"], capture_output=True, text=True, timeout=600)
    assert f"{one.name}: given back\n" in done.stdout, done.stdout + done.stderr
    assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/recipes.md on a real systemd and logind: each recipe as the page has it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from calls import call
from conftest import Configure, MakeGuest
from guests import pci
from host import GPU, NIC, PATIENCE, driver_of, wait_for
from service import systemctl
from sessions import NUMBER, USER, log_in_works, node_of_card, session, sessions

PAGE = Path("/src/docs/recipes.md")
IMAGES, UNITS = Path("/srv/images"), Path("/run/systemd/system")


def recipe(heading: str) -> str:
    """The settings below a heading of the page."""
    (text,) = (part for part in PAGE.read_text().split("\n## ") if part.startswith(f"{heading}\n"))
    return text.split("```toml\n")[1].split("```")[0]


@pytest.mark.usefixtures("logind")
def test_the_host_is_kept_awake(guest: MakeGuest, configure: Configure) -> None:
    """As long as the guest lives."""
    configure(recipe("The host kept awake"))
    one = guest(pci(NIC), name="win11").start()
    wait_for("the lock", lambda: "win11 runs" in _locks())
    one.destroy()
    wait_for("its end", lambda: "win11 runs" not in _locks())


def _locks() -> str:
    return subprocess.run(["systemd-inhibit", "--list"], capture_output=True, text=True, timeout=600).stdout


@pytest.mark.rest
def test_a_session_is_ended(guest: MakeGuest, configure: Configure) -> None:
    """It has the card open. Where there is none, the guest starts all the same."""
    configure(recipe("A session ended"))
    one = guest(pci(GPU), name="win11")
    with log_in_works():
        with session(node_of_card()):
            one.start()
            assert (driver_of(GPU), sessions()) == ("vfio-pci", [])
        one.destroy()
        wait_for("the card", lambda: driver_of(GPU) not in (None, "vfio-pci"))
        one.start().destroy()


@pytest.mark.rest
def test_a_program_is_ended(guest: MakeGuest, configure: Configure) -> None:
    """It has the card open. Where it does not run, the guest starts all the same."""
    configure(recipe("A program ended"))
    one, program = guest(pci(GPU), name="win11"), Path("/usr/bin/sunshine")
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen(["/bin/sh", "-c", f"exec 3<{node_of_card()}; exec {program} 602"]) as process:
        wait_for("the program", lambda: os.readlink(f"/proc/{process.pid}/exe") == str(program))
        one.start()
        assert (driver_of(GPU), process.wait(PATIENCE)) == ("vfio-pci", -15)
    one.destroy()
    wait_for("the card", lambda: driver_of(GPU) not in (None, "vfio-pci"))
    one.start().destroy()
    program.unlink()


@pytest.mark.rest
def test_a_users_own_unit_is_down(guest: MakeGuest, configure: Configure) -> None:
    """By the user's own systemd."""
    configure(recipe("A user's own unit"))
    unit = Path("/etc/systemd/user/pipewire.service")
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    with log_in_works(), session(node_of_card(), with_manager=True):
        _as_user("start", "pipewire.service")
        one = guest(pci(NIC), name="win11").start()
        assert _as_user("is-active", "pipewire.service") == "inactive"
        one.destroy()
        wait_for("the unit", lambda: _as_user("is-active", "pipewire.service") == "active")
    unit.unlink()


def _as_user(*arguments: str) -> str:
    command = ["runuser", "-u", USER, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{NUMBER}", "systemctl", "--user"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=600).stdout.strip()


@contextmanager
def _all_is_so() -> Iterator[None]:
    hosts, before = Path("/etc/hosts"), Path("/etc/hosts").read_text()
    IMAGES.mkdir()
    (UNITS / "backup.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", IMAGES], check=True, timeout=600)
    (IMAGES / "win11.img").touch()
    hosts.write_text(f"{before}\n127.0.0.1 nas.lan\n")
    try:
        yield
    finally:
        hosts.write_text(before)
        systemctl("stop", "backup.service")
        subprocess.run(["umount", IMAGES], check=False, timeout=600)
        shutil.rmtree(IMAGES)
        (UNITS / "backup.service").unlink()


@pytest.mark.rest
def test_something_must_be_so(guest: MakeGuest, configure: Configure) -> None:
    """Each of four things, with its reason; and the guest starts where all is so."""
    configure(recipe("Something that must be so"))
    one = guest(pci(NIC), name="win11")

    def said() -> str:
        begun, ended = call(one, "prepare"), call(one, "release", "failed")
        assert ended.code == 0
        return begun.said if begun.code else ""

    with _all_is_so():
        assert said() == ""
        (IMAGES / "win11.img").unlink()
        assert "copy the image to /srv/images" in said()
        subprocess.run(["umount", IMAGES], check=True, timeout=600)
        (IMAGES / "win11.img").touch()
        assert "mount /srv/images" in said()
        subprocess.run(["mount", "--bind", IMAGES, IMAGES], check=True, timeout=600)
        systemctl("start", "backup.service")
        assert "wait until the backup is done" in said()
        systemctl("stop", "backup.service")
        Path("/etc/hosts").write_text("127.0.0.1 localhost\n")
        assert "wake the NAS" in said()


@pytest.mark.rest
def test_each_guest_has_a_unit_of_its_own(guest: MakeGuest, configure: Configure) -> None:
    """It knows whose it is."""
    template, said = UNITS / "my-thing@.service", Path("/run/lab-thing")
    template.write_text(f'[Service]\nExecStart=/bin/sh -c \'printf %%s "$1" >{said}; exec sleep infinity\' sh "%I"\n')
    configure(recipe("One unit for each of several guests"))
    one = guest(pci(NIC), name="win-11 b").start()
    wait_for("the unit", lambda: said.exists() and said.read_text() == "win-11 b")
    one.destroy()
    unit = r"my-thing@win\x2d11\x20b.service"
    wait_for("its end", lambda: systemctl("show", "--value", "--property", "ActiveState", unit) == "inactive")
    template.unlink()
    said.unlink()

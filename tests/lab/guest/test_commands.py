# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own on a host with a real systemd: ``run`` in the settings."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import libhook, pci
from host import NIC, driver_of, wait_for
from service import systemctl

SCRIPT = Path("/usr/local/bin/lab-command")
NOTES = Path("/run/lab-notes")
TEXT = f"""#!/bin/sh
printf '%s|' "$(id -un)" "$1" "$LIBHOOK_OPERATION" "$LIBHOOK_GUEST" "$LIBHOOK_DEVICES" >>{NOTES}/$2
sed -n 's/.*<name>/<name>/p' | head -n 1 >>{NOTES}/$2
echo "said by the command"
case $1 in
fail) exit 7 ;;
slow) sleep 900 ;;
spawn) setsid sleep 901 </dev/null >/dev/null 2>&1 & ;;
leave) setsid sh -c 'sleep 901 & exit' </dev/null >/dev/null 2>&1; exec sleep 900 ;;
esac
"""


@pytest.fixture(autouse=True)
def script() -> Iterator[None]:
    """The command, and a folder in which it notes what it was given."""
    SCRIPT.write_text(TEXT)
    SCRIPT.chmod(0o755)
    NOTES.mkdir(mode=0o777)
    NOTES.chmod(0o777)
    yield
    SCRIPT.unlink()
    shutil.rmtree(NOTES)
    left = systemctl("list-units", "--all", "--plain", "--no-legend", "libhook-*-????????-*")
    subprocess.run(["pkill", "-f", "sleep 90[01]"], check=False)
    assert left == ""


def _notes(name: str) -> list[str]:
    path = NOTES / name
    return path.read_text().splitlines() if path.exists() else []


def _run(name: str, *argv: str, more: str = "") -> str:
    texts = ", ".join(f'"{text}"' for text in (SCRIPT, *argv))
    return f"[run.{name}]\ncommand = [{texts}]\n{more}\n"


def _undo(*argv: str) -> str:
    return "undo = [" + ", ".join(f'"{text}"' for text in (SCRIPT, *argv)) + "]\n"


@pytest.mark.rest
def test_commands_are_run_and_undone(guest: MakeGuest, configure: Configure) -> None:
    """What systemd would put variables and specifiers into arrives as it was written; so does the guest's name."""
    settings = _run("first", "$HOME %n \\\\", "a", more=_undo("back", "a"))
    settings += _run("second", "as", "b", more=f'user = "nobody"\n{_undo("back", "b")}')
    settings += _run("third", "late", "c", more=f'at = "started"\n{_undo("back", "c")}')
    configure(settings)
    name = "a guest's $HOME %n"
    one = guest(pci(NIC), name=name).start()
    xml = "<name>a guest&apos;s $HOME %n</name>"  # as libvirt writes it
    assert _notes("a") == [f"root|$HOME %n \\|prepare|{name}|{NIC}|{xml}"]
    assert _notes("b") == [f"nobody|as|prepare|{name}|{NIC}|{xml}"]
    wait_for("the command once it runs", lambda: _notes("c") == [f"root|late|started|{name}|{NIC}|{xml}"])
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    for file, user in (("a", "root"), ("b", "nobody"), ("c", "root")):
        assert _notes(file)[1:] == [f"{user}|back|release|{name}|{NIC}|{xml}"]
    said = subprocess.run(
        ["journalctl", "-o", "cat", "-u", "libhook-run-*"], capture_output=True, text=True, timeout=600
    )
    assert "said by the command" in said.stdout


@pytest.mark.rest
def test_in_the_background(guest: MakeGuest, configure: Configure) -> None:
    """It lives as long as the guest, and goes with all that it started."""
    configure(_run("show", "slow", "a", more="background = true"))
    one = guest(pci(NIC)).start()
    wait_for("it", lambda: _lives("sleep 900"))
    one.destroy()
    wait_for("its end", lambda: not _lives("sleep 900"))


def test_what_has_left_its_session_and_its_parent_goes_too(guest: MakeGuest, configure: Configure) -> None:
    """Of a command that runs and of one that has ended, and of an undo."""
    background = f"background = true\n{_undo('spawn', 'a')}"
    configure(_run("one", "leave", "a", more=background) + _run("two", "spawn", "b", more=_undo("spawn", "b")))
    one = guest(pci(NIC)).start()
    wait_for("it", lambda: _lives("sleep 900") and _lives("sleep 901"))
    one.destroy()
    wait_for("both undos", lambda: len(_notes("a")) == len(_notes("b")) == 2)
    wait_for("the end of all", lambda: not _lives("sleep 90[01]"))


@pytest.mark.rest
@pytest.mark.parametrize(
    ("argv", "more", "said"),
    [
        (("fail", "b"), "", "the command second has ended with status 7"),
        (("slow", "b"), "seconds = 2", "the command second has not ended within 2 s"),
    ],
)
def test_a_command_that_fails_in_the_middle(
    guest: MakeGuest, configure: Configure, argv: tuple[str, ...], more: str, said: str
) -> None:
    """What was run before is undone, the refusal says what to read, and nothing is left that runs."""
    configure(_run("first", "spawn", "a", more=_undo("back", "a")) + _run("second", *argv, more=more))
    refusal = guest(pci(NIC)).start_refused()
    assert said in refusal
    assert [line.split("|")[1] for line in _notes("a")] == ["spawn", "back"]
    assert not _lives("sleep 90[01]")
    assert driver_of(NIC) == "e1000e"
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
def test_a_user_who_is_not_there(guest: MakeGuest, configure: Configure) -> None:
    """The start is refused before anything is run."""
    configure(_run("first", "as", "a") + _run("second", "as", "b", more='user = "no-such-user"'))
    said = "the command second: there is no user no-such-user: correct the user in the settings"
    assert said in guest(pci(NIC)).start_refused()
    assert _notes("a") == []


@pytest.mark.rest
def test_the_names_of_the_taps(guest: MakeGuest, configure: Configure) -> None:
    """By `start` libvirt has made the interface, and named it. The undo is told the same."""
    text = f"for tap in $LIBHOOK_TAPS; do test -e /sys/class/net/$tap && echo $tap; done >{NOTES}/taps"
    undo = f'undo = ["/bin/sh", "-c", "echo $LIBHOOK_TAPS >{NOTES}/untapped"]'
    configure(f'[run.tap]\nat = "start"\ncommand = ["/bin/sh", "-c", "{text}"]\n{undo}\n')
    one = guest(more_devices="<interface type='ethernet'><model type='virtio'/></interface>").start()
    assert [name.rstrip("0123456789") for name in _notes("taps")] == ["vnet"]
    one.destroy()
    wait_for("the undo", lambda: _notes("untapped") == _notes("taps"))


@pytest.mark.rest
def test_again_for_a_new_libvirtd(guest: MakeGuest, configure: Configure) -> None:
    """Once for each, in order, and undone once at the end."""
    configure(_run("rules", "as", "a", more=f"reconnect = true\n{_undo('back', 'a')}") + _run("once", "as", "b"))
    one = guest(pci(NIC)).start()
    systemctl("restart", "libvirtd")
    wait_for("libvirtd to know the guest again", lambda: len(_notes("a")) == 3 and one.running())
    one.destroy()
    wait_for("the undo", lambda: len(_notes("a")) == 4)
    told = [line.split("|")[1:3] for line in _notes("a")]
    assert told == [["as", "prepare"], ["back", "reconnect"], ["as", "reconnect"], ["back", "release"]]
    assert len(_notes("b")) == 1


@pytest.mark.rest
def test_a_program_that_others_may_change(guest: MakeGuest, configure: Configure) -> None:
    """Root does not run it."""
    SCRIPT.chmod(0o777)
    configure(_run("first", "as", "a"))
    assert f"others may write to {SCRIPT}" in guest(pci(NIC)).start_refused()
    assert _notes("a") == []


@pytest.mark.rest
def test_what_a_dead_guest_left_is_undone(guest: MakeGuest, configure: Configure) -> None:
    """QEMU is killed while no libvirtd runs."""
    configure(_run("first", "slow", "a", more=f"background = true\n{_undo('back', 'a')}"))
    one = guest(pci(NIC)).start()
    systemctl("stop", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd")
    one.kill_qemu()
    systemctl("start", "libvirtd.socket", "libvirtd")
    one.wait_until_gone()
    wait_for("its end", lambda: not _lives("sleep 900") and len(_notes("a")) == 2)
    assert driver_of(NIC) == "e1000e"


def _lives(pattern: str) -> bool:
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).returncode == 0

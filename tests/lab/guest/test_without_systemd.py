# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands of the administrator's own, and old scripts, on a host without systemd: in real process groups."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import HOOK, call
from conftest import Configure, MakeGuest
from guests import Guest, libhook, pci, why_it_ended
from host import NIC, PATIENCE, driver_of, wait_for
from killing import kill_hook

SCRIPT, OLD = Path("/usr/local/bin/lab-command"), Path("/etc/libvirt/old-hooks/qemu")
NOTES, TODO = Path("/run/lab-notes"), Path("/run/lab-todo")
TEXT = f"""#!/bin/sh
printf '%s|' "$(id -un)" "$1" "$LIBHOOK_OPERATION" "$LIBHOOK_GUEST" "$LIBHOOK_DEVICES" >>{NOTES}/$2
sed -n 's/.*<name>/<name>/p' | head -n 1 >>{NOTES}/$2
echo "said by the command"
case $1 in
fail) exit 7 ;;
slow) sleep 900 ;;
spawn) sleep 901 </dev/null >/dev/null 2>&1 & ;;
spread) sh -c 'trap "" TERM HUP; sleep 901 & sleep 902 & exit' </dev/null >/dev/null 2>&1 & sleep 900 ;;
esac
"""
OLD_TEXT = f"""#!/bin/sh
xml=$(cat)
printf '%s\\n' "$2|$3|$4|$(pwd)|$(umask)|$LC_ALL|$(expr "$xml" : '\\(.......\\)')" >>{NOTES}/calls
echo "printed at $2"
. {TODO}
"""


@pytest.fixture(autouse=True)
def scripts() -> Iterator[None]:
    """What is run, and a folder in which it notes what it was given."""
    OLD.parent.mkdir()
    for path, text in ((SCRIPT, TEXT), (OLD, OLD_TEXT)):
        path.write_text(text)
        path.chmod(0o755)
    TODO.write_text("")
    NOTES.mkdir(mode=0o777)
    NOTES.chmod(0o777)
    yield
    SCRIPT.unlink()
    TODO.unlink()
    shutil.rmtree(OLD.parent)
    shutil.rmtree(NOTES)
    subprocess.run(["pkill", "-KILL", "-f", "sleep 90[0-9]"], check=False)


def _notes(name: str) -> list[str]:
    path = NOTES / name
    return path.read_text().splitlines() if path.exists() else []


def _lives(pattern: str) -> bool:
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).returncode == 0


def _log(tag: str) -> str:
    done = subprocess.run(["journalctl", "-t", tag, "-o", "cat"], capture_output=True, text=True, timeout=600)
    return done.stdout


def _run(name: str, *argv: str, more: str = "") -> str:
    texts = ", ".join(f'"{text}"' for text in (SCRIPT, *argv))
    return f"[run.{name}]\ncommand = [{texts}]\n{more}\n"


def _undo(*argv: str) -> str:
    return "undo = [" + ", ".join(f'"{text}"' for text in (SCRIPT, *argv)) + "]\n"


@pytest.mark.rest
def test_commands_are_run_and_undone(guest: MakeGuest, configure: Configure) -> None:
    """By root and by another user, before the guest and once it runs. The log has what they print."""
    settings = _run("first", "$HOME %n", "a", more=_undo("back", "a"))
    settings += _run("second", "as", "b", more=f'user = "nobody"\n{_undo("back", "b")}')
    settings += _run("third", "late", "c", more=f'at = "started"\n{_undo("spawn", "c")}')
    configure(settings)
    name = "a guest's $HOME %n"
    one = guest(pci(NIC), name=name).start()
    xml = "<name>a guest&apos;s $HOME %n</name>"  # as libvirt writes it
    assert _notes("a") == [f"root|$HOME %n|prepare|{name}|{NIC}|{xml}"]
    assert _notes("b") == [f"nobody|as|prepare|{name}|{NIC}|{xml}"]
    wait_for("the command once it runs", lambda: _notes("c") == [f"root|late|started|{name}|{NIC}|{xml}"])
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    for file, user, word in (("a", "root", "back"), ("b", "nobody", "back"), ("c", "root", "spawn")):
        assert _notes(file)[1:] == [f"{user}|{word}|release|{name}|{NIC}|{xml}"]
    for command in ("run", "undo"):
        tag = f"libhook-{command}-{one.uuid}-first"
        wait_for("the log", lambda tag=tag: _log(tag) == "said by the command\n")  # type: ignore[misc]
    wait_for("the end of what the undo left", lambda: not _lives("sleep 901"))


@pytest.mark.rest
def test_nothing_runs_in_the_background(guest: MakeGuest, configure: Configure) -> None:
    """The start is refused before anything is run."""
    configure(_run("first", "as", "a") + _run("show", "slow", "b", more="background = true"))
    assert "it would run in the background, which needs systemd" in guest(pci(NIC)).start_refused()
    assert (_notes("a"), driver_of(NIC)) == ([], "e1000e")


@pytest.mark.rest
@pytest.mark.parametrize(
    ("argv", "more", "said"),
    [
        (("fail", "b"), "", "the command second has ended with status 7: see the system's log for libhook-run-"),
        (("spread", "b"), "seconds = 4", "the command second has not ended within 4 s"),
    ],
)
def test_a_command_that_fails_in_the_middle(
    guest: MakeGuest, configure: Configure, argv: tuple[str, ...], more: str, said: str
) -> None:
    """What was run before is undone, and nothing of its group is left that runs, whatever it did to its signals."""
    configure(_run("first", "spawn", "a", more=_undo("back", "a")) + _run("second", *argv, more=more))
    assert said in guest(pci(NIC)).start_refused()
    assert [line.split("|")[1] for line in _notes("a")] == ["spawn", "back"]
    assert not _lives("sleep 90[0-9]")
    assert driver_of(NIC) == "e1000e"
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
def test_a_user_who_is_not_there(guest: MakeGuest, configure: Configure) -> None:
    """The start is refused before anything is run."""
    configure(_run("first", "as", "a") + _run("second", "as", "b", more='user = "no-such-user"'))
    said = "the command second: there is no user no-such-user: correct the user in the settings"
    assert said in guest(pci(NIC)).start_refused()
    assert _notes("a") == []


def _kill_at(guest: Guest, pattern: str) -> None:
    """Kill the hook at prepare, once this runs."""
    order = [HOOK, guest.name, "prepare", "begin", "-"]
    with subprocess.Popen(order, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as hook:
        assert hook.stdin
        hook.stdin.write(guest.xml.encode())
        hook.stdin.close()
        wait_for("it", lambda: _lives(pattern))
        kill_hook(guest, "prepare")
        assert hook.wait(PATIENCE) != 0
    assert _lives(pattern)


@pytest.mark.race
def test_a_hook_that_is_killed_in_the_middle(guest: MakeGuest, configure: Configure) -> None:
    """Whoever comes next waits until the command has ended at its deadline, and undoes it."""
    configure(_run("first", "spread", "a", more=f"seconds = 15\n{_undo('back', 'a')}"))
    one = guest(pci(NIC))
    _kill_at(one, "sleep 902")
    said = libhook("recover")
    if "is starting the guest" in said:
        assert call(one, "release", "failed").code == 0
    assert not _lives("sleep 90[0-9]")
    assert [line.split("|")[1] for line in _notes("a")] == ["spread", "back"]
    assert driver_of(NIC) == "e1000e"
    assert libhook("status") == "nothing is held\n"


def _legacy(more: str = "") -> str:
    return f'[legacy]\npath = "{OLD}"\n{more}\n'


@pytest.mark.rest
def test_an_old_script(guest: MakeGuest, configure: Configure) -> None:
    """It is called as libvirt would call it, and what it leaves goes on beyond the guest's end."""
    TODO.write_text("case $2 in prepare) setsid sleep 908 & ;; esac\n")
    configure(_legacy())
    begun = time.monotonic()
    one = guest(pci(NIC)).start()
    assert time.monotonic() - begun < 300, "the child sleeps for longer"
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    assert _notes("calls") == [
        f"{operation}|{when}|/|0022|C|<domain"
        for operation, when in (
            *(("prepare", "begin|-"), ("start", "begin|-"), ("started", "begin|-")),
            *(("stopped", "end|-"), ("release", f"end|{why_it_ended('destroyed')}")),
        )
    ]
    wait_for("the log", lambda: "printed at release" in _log("libhook"))
    assert _lives("sleep 908")


@pytest.mark.rest
@pytest.mark.parametrize(
    ("todo", "said"),
    [
        ("echo 'the card is busy' >&2; exit 3", "has ended with status 3 (prepare): see the system's log for libhook"),
        (
            "(trap '' TERM HUP; sh -c 'sleep 902; sleep 903' & ); sleep 904 & sleep 905",
            "and was ended",
        ),
        ("spin() { sleep 906 & spin2 & }; spin2() { spin & }; spin; sleep 907", "and was ended"),
    ],
    ids=["failed", "deaf", "forking"],
)
def test_an_old_script_that_refuses_or_is_late(guest: MakeGuest, configure: Configure, todo: str, said: str) -> None:
    """Nothing of its group is left, also of one that forks on and on."""
    TODO.write_text(f'[ "$2" = prepare ] || return 0\n{todo}\n')
    configure(_legacy("seconds = 4"))
    assert said in guest(pci(NIC)).start_refused()
    assert not _lives("sleep 90[0-9]")
    assert driver_of(NIC) == "e1000e"
    assert libhook("status") == "nothing is held\n"
    assert [line.split("|")[0] for line in _notes("calls")] == ["prepare", "stopped", "release"]


@pytest.mark.race
@pytest.mark.rest
def test_an_old_script_whose_hook_is_killed(guest: MakeGuest, configure: Configure) -> None:
    """It has its deadline before it is called with what comes next."""
    TODO.write_text('[ "$2" = prepare ] || return 0\nsleep 908 & sleep 909\n')
    configure(_legacy("seconds = 15"))
    one = guest(pci(NIC))
    _kill_at(one, "sleep 909")
    assert call(one, "release", "failed").code == 0
    assert not _lives("sleep 90[0-9]")
    assert driver_of(NIC) == "e1000e"
    assert [line.split("|")[0] for line in _notes("calls") if "|" in line] == ["prepare", "release"]


@pytest.mark.rest
@pytest.mark.parametrize(
    ("todo", "code", "printed"),
    [("echo '<domain/>'; echo no >&2", 0, "printed at restore\n<domain/>\n"), ("exec yes", 1, "")],
    ids=["another", "endless"],
)
def test_a_filter(guest: MakeGuest, configure: Configure, todo: str, code: int, printed: str) -> None:
    """What it prints is for libvirt. One that prints for ever is ended by its limit."""
    TODO.write_text(todo)
    configure(_legacy("filter = true"))
    one = guest()
    order = [HOOK, one.name, "restore", "begin", "-"]
    done = subprocess.run(order, input=one.xml, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (code, printed)

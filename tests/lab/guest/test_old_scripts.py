# SPDX-License-Identifier: LGPL-2.1-or-later
"""Old hook scripts under a real libvirtd and systemd: ``legacy`` in the settings."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import Refused, libhook, pci, virsh, why_it_ended
from host import NIC, driver_of, wait_for
from service import systemctl

FOLDER = Path("/etc/libvirt/old-hooks")
SCRIPT, NOTES, TODO = FOLDER / "qemu", Path("/run/lab-calls"), Path("/run/lab-todo")
UNIT = Path("/run/systemd/system/lab-old.service")
TEXT = f"""#!/bin/bash
name=$1 unit=$(basename "$(cat /proc/self/cgroup)")
xml=$(cat)
printf '%s\\n' "$1|$2|$3|$4|$(pwd)|$(umask)|$LC_ALL|${{xml:0:7}}" >>{NOTES}
echo "printed at $2"
. {TODO}
"""


@pytest.fixture(autouse=True)
def script() -> Iterator[None]:
    """The script, which notes how it is called, and does what the test wants."""
    (FOLDER / "qemu.d").mkdir(parents=True)
    SCRIPT.write_text(TEXT)
    SCRIPT.chmod(0o755)
    TODO.write_text("")
    NOTES.write_text("")
    UNIT.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    systemctl("start", UNIT.name)
    yield
    systemctl("stop", UNIT.name)
    shutil.rmtree(FOLDER)
    for path in (TODO, NOTES, UNIT):
        path.unlink()
    subprocess.run(["pkill", "-KILL", "-f", "sleep 90[0-9]"], check=False)
    systemctl("reset-failed")


def _calls(name: str = "") -> list[str]:
    """OPERATION SUBOPERATION EXTRA of each call so far."""
    notes = [line.split("|") for line in NOTES.read_text().splitlines()]
    return [" ".join(note[1:4]) for note in notes if not name or note[0] == name]


def _settings(path: Path = SCRIPT, more: str = "") -> str:
    return f'[legacy]\npath = "{path}"\n{more}\n'


def _journal() -> str:
    done = subprocess.run(["journalctl", "-t", "libhook", "-o", "cat"], capture_output=True, timeout=600, check=True)
    return done.stdout.decode("utf-8", "replace")


def _lives(pattern: str) -> bool:
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).returncode == 0


@pytest.mark.rest
def test_a_life(guest: MakeGuest, configure: Configure) -> None:
    """As libvirt calls it: its words, folder, umask, environment and XML. What it prints is in the log."""
    properties = "KillMode,IgnoreSIGPIPE,IgnoreOnIsolate"
    TODO.write_text(f"systemctl show --property={properties} $unit >/run/lab-shown; env >/run/lab-env; /bin/false\n:\n")
    configure(_settings())
    name = "a guest's $HOME %n"
    one = guest(pci(NIC), name=name).start()
    assert _calls(name) == ["prepare begin -", "start begin -", "started begin -"]
    assert {line.split("|", 4)[4] for line in NOTES.read_text().splitlines()} == {"/|0022|C|<domain"}
    assert sorted(Path("/run/lab-shown").read_text().split()) == [
        "IgnoreOnIsolate=yes", "IgnoreSIGPIPE=no", "KillMode=process"
    ]  # fmt: skip
    path = next(line for line in Path("/run/lab-env").read_text().splitlines() if line.startswith("PATH="))
    pid = systemctl("show", "--value", "--property", "MainPID", "libvirtd").strip()
    assert path in Path(f"/proc/{pid}/environ").read_text().split("\0")
    systemctl("restart", "libvirtd")
    wait_for("reconnect", lambda: _calls(name)[-1] == "reconnect begin -")
    wait_for("libvirtd to know the guest", one.running)
    one.destroy()
    wait_for("its end", lambda: _calls(name)[-2:] == ["stopped end -", f"release end {why_it_ended('destroyed')}"])
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    assert "printed at release" in _journal()
    for file in ("/run/lab-shown", "/run/lab-env"):
        Path(file).unlink()


def test_a_script_that_fails_in_the_middle(guest: MakeGuest, configure: Configure) -> None:
    """It has stopped a service. Its own release starts it again, once, though libvirt calls that after libhook, too."""
    TODO.write_text(f"""
case $2 in
prepare) systemctl stop {UNIT.name}; printf 'the card is \\033busy\\n' >&2; echo more; exit 3 ;;
release) systemctl start {UNIT.name} ;;
esac
""")
    configure(_settings())
    said = guest(pci(NIC)).start_refused()
    assert f"{SCRIPT} has ended with status 3 (prepare): the card is \\x1bbusy: see journalctl -t libhook" in said
    assert _calls() == ["prepare begin -", "stopped end -", "release end failed"]
    assert systemctl("show", "--value", "--property", "ActiveState", UNIT.name).strip() == "active"
    assert driver_of(NIC) == "e1000e"
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
def test_a_failure_once_the_guest_runs(guest: MakeGuest, configure: Configure) -> None:
    """libvirt would kill the guest. It is logged, and the device comes back at the end."""
    TODO.write_text("case $2 in started | reconnect | release) exit 4 ;; esac\n")
    configure(_settings())
    one = guest(pci(NIC)).start()
    systemctl("restart", "libvirtd")
    wait_for("reconnect", lambda: "reconnect begin -" in _calls())
    wait_for("libvirtd to know the guest", one.running)
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    wait_for("the log", lambda: "has ended with status 4 (started)" in _journal())


@pytest.mark.rest
@pytest.mark.parametrize(
    "todo",
    [
        "trap '' TERM; sleep 900; sleep 901\n",
        "(trap '' TERM HUP; setsid bash -c 'trap \"\" TERM; sleep 902; sleep 903' & ); setsid sleep 904 & sleep 905\n",
        "spin() { sleep 906 & spin2 & }; spin2() { spin & }; spin; sleep 907\n",
        'virsh dominfo "$name"\n',
    ],
    ids=["deaf", "escaped", "forking", "deadlock"],
)
def test_a_script_that_is_late_is_ended_with_all_that_it_started(
    guest: MakeGuest, configure: Configure, todo: str
) -> None:
    """Whatever it did to its signals and sessions. One that asks libvirt for its own guest waits for itself."""
    TODO.write_text(f'[ "$2" = prepare ] || return 0\n{todo}')
    configure(_settings(more="seconds = 3"))
    begun = time.monotonic()
    said = guest(pci(NIC)).start_refused()
    assert f"{SCRIPT} has not ended within 3 s (prepare), and was ended" in said
    assert time.monotonic() - begun < 300
    assert not _lives("sleep 90[0-9]")
    assert not _lives("virsh dominfo")
    assert driver_of(NIC) == "e1000e"


@pytest.mark.rest
def test_what_a_script_leaves_goes_on(guest: MakeGuest, configure: Configure) -> None:
    """As it did, also beyond the guest's end. That it has the script's output open keeps nobody waiting any more."""
    TODO.write_text("case $2 in prepare) sleep 908 & ;; release) (sleep 3; touch /run/lab-later) & ;; esac\n")
    configure(_settings())
    begun = time.monotonic()
    one = guest(pci(NIC)).start()
    assert time.monotonic() - begun < 300, "the child sleeps for longer"
    one.destroy()
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")
    wait_for("what release left", Path("/run/lab-later").exists)
    Path("/run/lab-later").unlink()
    assert _lives("sleep 908")
    one.start()
    one.destroy()


@pytest.mark.rest
def test_a_script_that_says_much(guest: MakeGuest, configure: Configure) -> None:
    """100 MB without a line feed, and what is no text. None of it goes to libvirtd, or stays in memory."""
    TODO.write_text(
        "[ $2 = prepare ] || return 0\nhead -c 100000000 /dev/zero | tr '\\0' x\n"
        "printf '\\377\\376\\n' >&2; printf 'at \\377last' >&2; exit 1\n"
    )
    configure(_settings())
    said = guest(pci(NIC)).start_refused()
    assert "has ended with status 1 (prepare)" in said
    assert len(said) < 2000
    subprocess.run(["journalctl", "--rotate", "--vacuum-size=16M"], check=True, capture_output=True)  # the lab keeps it


@pytest.mark.rest
def test_a_tree(guest: MakeGuest, configure: Configure) -> None:
    """Also of a guest with a strange name, and scripts that only bash takes for some."""
    name = "--help x"
    folder = FOLDER / "qemu.d" / name / "prepare" / "begin"
    folder.mkdir(parents=True)
    (folder / "10 one").write_text(f'# a remark\n[[ $1 == --help* ]] && echo "$2 $BASH" >>{NOTES}\n')
    (folder / "20-two").write_text(f"#!/bin/sh\necho two >>{NOTES}\n")
    (folder / "30-not").write_text(f"#!/bin/sh\necho not >>{NOTES}\n")
    for script in ("10 one", "20-two"):
        (folder / script).chmod(0o755)
    configure(_settings(FOLDER / "qemu.d"))
    guest(pci(NIC), name=name).start().destroy()
    assert NOTES.read_text() == "prepare /bin/bash\ntwo\n"
    wait_for("the device", lambda: driver_of(NIC) == "e1000e")


@pytest.mark.rest
def test_a_saved_guest(guest: MakeGuest, configure: Configure) -> None:
    """A script may refuse that it is restored. What it prints is not taken for the guest's XML."""
    configure(_settings())
    one, saved = guest().start(), "/run/lab-saved"
    virsh("save", one.uuid, saved)
    TODO.write_text("[ $2 != restore ] || { echo 'not today' >&2; exit 2; }\n")
    with pytest.raises(Refused, match=r"has ended with status 2 \(restore\): not today"):
        virsh("restore", saved)
    TODO.write_text("")
    virsh("restore", saved)
    assert one.running()
    Path(saved).unlink()
    assert _calls()[-4:] == ["restore begin -", "prepare begin -", "start begin -", "started begin -"]
    one.destroy()


@pytest.mark.rest
def test_a_name_with_a_line_feed(guest: MakeGuest, configure: Configure) -> None:
    """libvirt defines no such guest, but may create one."""
    configure(_settings())
    xml = guest().xml
    done = subprocess.run(
        ["/etc/libvirt/hooks/qemu", "a\nb", "stopped", "end", "-"], input=xml.encode(), capture_output=True, timeout=600
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert NOTES.read_text().startswith("a\nb|stopped|end|-|/|")


@pytest.mark.rest
@pytest.mark.parametrize(
    ("todo", "code", "printed", "said"),
    [
        ("echo '<domain/>'; echo no >&2\n", 0, "printed at restore\n<domain/>\n", ""),
        ("echo '<domain/>'; echo no >&2; exit 5\n", 1, "", "has ended with status 5 (restore): no"),
        ("exec yes\n", 1, "", "has ended with status 255 (restore)"),
    ],
    ids=["another", "refused", "endless"],
)
def test_a_filter(guest: MakeGuest, configure: Configure, todo: str, code: int, printed: str, said: str) -> None:
    """What it prints is for libvirt, what it says for the log. One that prints for ever is ended by its limit."""
    TODO.write_text(todo)
    configure(_settings(more="filter = true"))
    one = guest()
    done = subprocess.run(
        ["/etc/libvirt/hooks/qemu", one.name, "restore", "begin", "-"],
        input=one.xml,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (code, printed)
    assert said in done.stderr
    assert done.stderr.count("\n") == code

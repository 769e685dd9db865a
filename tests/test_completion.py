# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person at a prompt is told: --help, and by TAB every command and option, guest and file, in three shells."""

import argparse
import os
import subprocess
import time
from pathlib import Path

import pytest
import reference
from family import until
from scenario import reap
from shells import INSTALLED, PATIENT, ROOT, define, prepare, typed

from libhook.command import completing, parsing, virsh
from libhook.facts.machine import Machine
from libhook.look.linux import LinuxKernel

OFFERED = ("win 11", "x:1=2@y", "50%", "a,b", "lin+win", "_under", "größe")
REFUSED = (
    "a;touch evil",
    "a$(touch evil)b",
    "a`touch evil`b",
    "{a,b}",
    "[x]",
    "~root",
    "=ls",
    "#a",
    "lin & win",
    'say "hi"',
    "it's",
    "back\\slash",
    "wow!touch",
    "tab\ttouch evil",
    "cr\rtouch evil",
    "\033[31m",
    "--help",
    "",
)


COMMANDS = reference.commands()


@pytest.mark.parametrize("width", [80, 40])
def test_the_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """In lines that do not wrap, but for one option of a usage that is longer; and no word is broken at a hyphen."""
    monkeypatch.setenv("COLUMNS", str(width))
    for name, parser in {"": parsing.parser(), **COMMANDS}.items():
        lines = parser.format_help().splitlines()
        assert [line for line in lines if len(line) > width and not line.lstrip().startswith("[-")] == [], name
        assert [line for line in lines if line.endswith("-") and not line.endswith(" -")] == [], name
        assert lines[0].startswith(f"usage: libhook {name}".rstrip())
        assert len(lines) > 4, name


def test_help_is_a_word_too_and_names_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what each does beside it, in few lines."""
    monkeypatch.setenv("COLUMNS", "80")
    for words in ("help", "--help", "help devices", "devices --help"):
        command = ["/usr/bin/python3", "-m", "libhook", *words.split()]
        said = subprocess.check_output(command, cwd=ROOT, text=True, timeout=600)
        assert said == (COMMANDS["devices"] if "devices" in words else parsing.parser()).format_help()
    lines = parsing.parser().format_help().splitlines()
    assert [name for name in COMMANDS if not any(line.startswith(f"    {name} ") for line in lines)] == []
    assert len(lines) < 45


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What install.sh puts in place, and a folder to work in with files."""
    folder = tmp_path_factory.mktemp("completion")
    prepare(folder)
    define(folder, OFFERED + REFUSED)
    for name in ("guest.xml", "my file.xml", ".hidden", *[name for name in REFUSED if "/" not in name and name]):
        (folder / "work" / name).touch()
    (folder / "work/logs").mkdir()
    (folder / "work/logs/audit.log").touch()
    return folder


def offered(folder: Path, line: str) -> list[str]:
    """What libhook answers the shell when the last word of this line is being typed, unquoted as for fish."""
    answer, end = os.pipe()
    command = (
        f'exec 8>&{end} 9>/dev/null; exec /usr/bin/python3 -c \'import sys; sys.path.insert(0, "{ROOT}");'
        f" {PATIENT}; from libhook.cli import main; main()'"
    )
    environment = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "LIBHOOK_ROOT": f"{folder}/host",
        "LC_ALL": "C.UTF-8",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "fish",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
    }
    subprocess.run(
        ["/bin/bash", "-c", command], cwd=folder / "work", env=environment, pass_fds=[end], timeout=600, check=False
    )
    os.close(end)
    with open(answer, encoding="utf-8") as told:
        return [word.strip() for word in told.read().split("\013") if word]


def test_every_command_and_option_is_offered(folder: Path) -> None:
    """Each command with its own options, and nothing for a command that does not exist."""
    assert offered(folder, "libhook ") == list(COMMANDS)
    assert offered(folder, "libhook de") == ["devices", "detach", "demo"]
    for name, parser in COMMANDS.items():
        if any(action.nargs == argparse.REMAINDER for action in parser._actions):
            continue  # hook: every word is libvirt's, --help too
        options = [option for action in parser._actions for option in action.option_strings]
        assert offered(folder, f"libhook {name} -") == options
    assert offered(folder, "libhook frob -") == ["-h", "--help", "--version"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plan --event sta", ["start", "started"]),
        ("plan --event=rel", ["--event=release"]),
        ("plan g", ["größe", "guest.xml"]),
        ("plan --json m", ["my file.xml"]),
        ("plan .", [".hidden"]),
        ("inspect logs/", ["logs/audit.log"]),
        ("attach lin", ["lin+win"]),
        ("attach --timeout 5 win11 l", ["logs/"]),
        ("attach --timeout ", []),
        ("history -if lo", ["logs/"]),
        ("history -d ", []),
        ("history --result f", ["failed"]),
        ("history --vm 5", ["50%"]),
        ("config wi", ["win 11"]),
        ("status ", []),
        ("hook ", []),
        ("detach ", sorted(OFFERED)),
        ("plan ", [*sorted(OFFERED), "guest.xml", "logs/", "my file.xml"]),
    ],
)
def test_what_belongs_at_each_place(folder: Path, line: str, words: list[str]) -> None:
    """Choices after their option, files where XML is read, guests for a guest, nothing where nothing can be known.

    And no name on which a shell acts, or that libhook would take for an option.
    """
    assert offered(folder, f"libhook {line}") == words


@pytest.fixture(name="user")
def _user(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Who asks is not root, and may not read libvirt's files on the host itself."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    return Machine("", LinuxKernel())


def _virsh(folder: Path, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "virsh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "virsh").chmod(0o755)


def test_others_than_root_ask_virsh(user: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only, and never a virsh of their own: nor does root, whose PATH may begin with a user's folder."""
    _virsh(tmp_path / "theirs", f"touch {tmp_path}/ran")
    _virsh(tmp_path / "system", f'echo "$*" >{tmp_path}/asked; echo win 11; echo "a;b"')
    monkeypatch.setenv("PATH", f"{tmp_path}/theirs:{os.environ['PATH']}")
    completing._completer(user, "GUEST")("w")
    assert not (tmp_path / "ran").exists()
    monkeypatch.setitem(virsh._ENVIRONMENT, "PATH", f"{tmp_path}/system:/usr/bin:/bin")
    assert completing._completer(user, "GUEST")("w") == ["win 11"]
    assert (tmp_path / "asked").read_text() == "-q -c qemu:///system -r list --all --name\n"


def test_what_does_not_answer_costs_its_patience(
    user: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it libvirt or a file server: the shell has the prompt again."""
    go = tmp_path / "go"
    monkeypatch.setattr(completing, "_PATIENCE", 0.5)
    _virsh(tmp_path, f"until [ -e {go} ]; do sleep 0.1; done; echo late")
    monkeypatch.setitem(virsh._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    begun = time.monotonic()
    assert completing._completer(user, "GUEST")("") == []
    monkeypatch.setattr("os.scandir", lambda _: until(go.exists))
    assert completing._completer(user, "DEVICE-XML")("/mnt/") == []
    assert time.monotonic() - begun > 0.9
    go.touch()
    assert reap(60)


@pytest.mark.parametrize("shell", INSTALLED)
@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("plan --event rec\t", "<plan><--event><reconnect>"),
        ("plan my\t", "<plan><my file.xml>"),
        ("detach win\t", "<detach><win 11>"),
        ('detach "win\t', "<detach><win 11>"),
        ("detach 'win\t", "<detach><win 11>"),
        ("detach x\t", "<detach><x:1=2@y>"),
    ],
)
def test_what_is_completed_is_what_the_command_gets(folder: Path, shell: str, line: str, given: str) -> None:
    """In a real shell, typed at its prompt, by what install.sh has put in place."""
    typed(shell, folder, f"libhook {line}", given)

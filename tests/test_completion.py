# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tab completion: every command and option in bash, zsh and fish, guests and files where one may stand."""

import argparse
import os
import subprocess
import time
from pathlib import Path

import pytest
import reference
from shells import INSTALLED, ROOT, prepare, typed

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


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What install.sh puts in place, and a folder to work in with files."""
    folder = tmp_path_factory.mktemp("completion")
    prepare(folder)
    (folder / "names").write_text("".join(f"{name}\n" for name in OFFERED + REFUSED))
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
        f" from libhook.cli import main; main()'"
    )
    environment = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "fish",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
    }
    subprocess.run(
        ["/bin/bash", "-c", command], cwd=folder / "work", env=environment, pass_fds=[end], timeout=60, check=False
    )
    os.close(end)
    with open(answer, encoding="utf-8") as told:
        return [word.strip() for word in told.read().split("\013") if word]


def test_every_command_and_option_is_offered(folder: Path) -> None:
    """Each command with its own options, and nothing for a command that does not exist."""
    commands = reference.commands()
    assert offered(folder, "libhook ") == list(commands)
    assert offered(folder, "libhook de") == ["devices", "detach", "demo"]
    for name, parser in commands.items():
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
    ],
)
def test_what_belongs_at_each_place(folder: Path, line: str, words: list[str]) -> None:
    """Choices after their option, files where XML is read, guests for a guest, nothing where nothing can be known."""
    assert offered(folder, f"libhook {line}") == words


def test_guests_are_asked_for_read_only(folder: Path) -> None:
    """Each name on which no shell acts is offered, and no other."""
    (folder / "asked").unlink(missing_ok=True)
    assert offered(folder, "libhook detach ") == list(OFFERED)
    assert (folder / "asked").read_text() == "-r -q -c qemu:///system list --all --name\n"


def test_no_file_is_offered_on_which_a_shell_acts(folder: Path) -> None:
    """Nor one that libhook would take for an option."""
    assert offered(folder, "libhook plan ") == [*OFFERED, "guest.xml", "logs/", "my file.xml"]


def test_a_libvirt_that_does_not_answer_costs_two_seconds(tmp_path: Path) -> None:
    """And one that is not there, nothing."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "bin/virsh").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "bin/virsh").chmod(0o755)
    begun = time.monotonic()
    assert offered(tmp_path, "libhook attach ") == []
    assert 1.5 < time.monotonic() - begun < 40
    (tmp_path / "bin/virsh").write_text("#!/nonexistent\n")
    assert offered(tmp_path, "libhook attach ") == []


@pytest.mark.parametrize("shell", INSTALLED)
@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("pl\t", "<plan>"),
        ("plan --js\t", "<plan><--json>"),
        ("plan --event rec\t", "<plan><--event><reconnect>"),
        ("plan gu\t", "<plan><guest.xml>"),
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

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tab completion in bash: it has every command and option that the parser has, and evaluates no guest's name.

``python3 -m pytest tests/test_completion.py --libhook-regenerate`` writes its table anew from the parser.
"""

import argparse
import os
import pty
import re
import select
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libhook.command import parsing

SCRIPT = Path(__file__).parent.parent / "packaging" / "libhook.bash"
OFFERED = ("win 11", "a;touch evil", "x:1=2@y", "{a,b}", "[x]", "~root", "lin & win (2)")
REFUSED = (
    "a$(touch evil)b",
    "a`touch evil`b",
    'say "hi"',
    "it's",
    "back\\slash",
    "wow!touch",
    "tab\ttouch evil",
    "\033[31m",
    "--help",
)
_BOUNDS = re.compile(r"(?<=\n_libhook_table=')\n.*?(?='\n)", re.S)


def _parsers() -> dict[str, argparse.ArgumentParser]:
    top = parsing.parser()
    found = next(one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    return {"libhook": top, **dict(sorted(found.choices.items()))}


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """What one line of the table says of a parser."""
    arguments: list[str] = []
    options: list[str] = []
    if any(action.nargs == argparse.REMAINDER for action in parser._actions):
        return []  # hook: every word is libvirt's, --help too
    for action in parser._actions:
        value = "|".join(map(str, action.choices or ())) or str(action.metavar or action.dest.upper())
        value = "" if action.nargs == 0 else f"={value}"
        if isinstance(action, argparse._SubParsersAction):
            arguments += sorted(action.choices)
        elif action.option_strings:
            options += [option + value for option in action.option_strings]
        else:
            arguments.append(str(action.metavar or action.dest))
    return arguments + sorted(options)


def test_the_table_is_that_of_the_parser(request: pytest.FixtureRequest) -> None:
    """No command and no option is missing, and none is there that the command line does not have."""
    table = "".join(f"\n{name}: {' '.join(_words(parser))}".rstrip() for name, parser in _parsers().items()) + "\n"
    text = SCRIPT.read_text()
    if request.config.getoption("--libhook-regenerate"):
        SCRIPT.write_text(_BOUNDS.sub(lambda _: table, text, count=1))
    found = _BOUNDS.search(SCRIPT.read_text())
    assert found
    assert found[0] == table


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A folder to work in, with a virsh that knows guests of every kind of name."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "names").write_text("".join(f"{name}\n" for name in OFFERED + REFUSED) + "\n")
    virsh = tmp_path / "bin/virsh"
    virsh.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\ncat {tmp_path}/names\n')
    virsh.chmod(0o755)
    return tmp_path


def _complete(folder: Path, *words: str) -> list[str]:
    """What is offered when the last of these words is being typed; ``default`` where bash shall offer files."""
    quoted = " ".join(map(shlex.quote, words))
    script = f"""
        compopt() {{ echo default; }}
        source {SCRIPT}
        COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}
        _libhook
        [ ${{#COMPREPLY[@]}} -eq 0 ] || printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/bash", "-uec", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_commands_and_options_are_offered(folder: Path) -> None:
    """Each command with its own options, those of the top for no command, and nothing for one that does not exist."""
    parsers = _parsers()
    assert _complete(folder, "libhook", "") == sorted(parsers.keys() - {"libhook"})
    assert _complete(folder, "libhook", "de") == ["demo", "detach", "devices"]
    assert _complete(folder, "libhook", "--v") == ["--version"]
    for name, parser in parsers.items():
        known = [word.split("=")[0] for word in _words(parser) if word.startswith("-")]
        words = ("libhook",) if name == "libhook" else ("libhook", name)
        assert _complete(folder, *words, "-") == known
    assert _complete(folder, "libhook", "frob", "-") == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("plan", "--event", "sta"), ["start", "started"]),
        (("plan", "--event", "=", "rel"), ["release"]),
        (("plan", "--event", "="), ["prepare", "start", "started", "release", "reconnect"]),
        (("plan", "file.xml", ""), []),
        (("devices", ""), []),
        (("attach", "win11", ""), ["default"]),
        (("attach", "--timeout", "5", "win11", "de"), ["default"]),
        (("attach", "-c", "qemu", ":", "///system", "win11", ""), ["default"]),
        (("attach", "win11", "-", ""), []),
        (("attach", "--timeout", ""), []),
        (("status", ""), []),
        (("history", "--input", ""), ["default"]),
        (("history", "-d", ""), []),
        (("history", "--result", "f"), ["failed"]),
        (("hook", ""), []),
    ],
)
def test_what_belongs_at_each_place(folder: Path, words: tuple[str, ...], offered: list[str]) -> None:
    """Choices after their option, files where XML is read, nothing where nothing can be known."""
    assert _complete(folder, "libhook", *words) == offered
    assert not (folder / "asked").exists(), "libvirt is asked only for guests"


def test_guests_are_asked_for_read_only_and_offered_quoted(folder: Path) -> None:
    """Each name as a shell reads it back; none is evaluated, and none offered on which a shell acts within quotes."""
    offered = _complete(folder, "libhook", "detach", "")
    assert (folder / "asked").read_text() == "-r -q -c qemu:///system list --all --name\n"
    assert [shlex.split(word) for word in offered] == [[name] for name in OFFERED]
    assert not (folder / "evil").exists()
    assert _complete(folder, "libhook", "attach", "win\\ 1") == ["win\\ 11"]
    assert _complete(folder, "libhook", "config", "win\\ 1") == ["win\\ 11"]
    assert _complete(folder, "libhook", "attach", "'lin") == ["lin & win (2)"]
    assert _complete(folder, "libhook", "attach", '"a;') == ["a;touch evil"]
    assert _complete(folder, "libhook", "attach", '"a$') == []
    assert _complete(folder, "libhook", "history", "-vm", "wi") == ["win\\ 11"]
    assert _complete(folder, "libhook", "attach", "x") == ["x\\:1\\=2\\@y"]


@pytest.mark.parametrize("words", [("plan", "--event", "start", "win"), ("plan", "--json", "win"), ("inspect", "win")])
def test_guests_are_offered_and_files_where_there_is_none(folder: Path, words: tuple[str, ...]) -> None:
    """Where either may stand."""
    assert _complete(folder, "libhook", *words) == ["default", "win\\ 11"]
    assert _complete(folder, "libhook", *words[:-1], "./f") == ["default"]


def test_a_libvirt_that_does_not_answer_costs_two_seconds(folder: Path) -> None:
    """And one that is not there, nothing."""
    (folder / "bin/virsh").write_text("#!/bin/sh\nexec sleep 30\n")
    begun = time.monotonic()
    assert _complete(folder, "libhook", "attach", "") == []
    assert 1.5 < time.monotonic() - begun < 20
    (folder / "bin/virsh").unlink()
    assert _complete(folder, "libhook", "attach", "") == []


def until(terminal: int, wanted: str, seconds: float = 30) -> str:
    """What the terminal shows, up to and with ``wanted``."""
    shown, until = "", time.monotonic() + seconds
    while wanted not in shown:
        assert time.monotonic() < until, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


@contextmanager
def bash_in_a_terminal(folder: Path) -> Iterator[int]:
    """A bash that a person might sit at, with the completion and a ``libhook`` that says what it was given."""
    (folder / "bin/libhook").write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    (folder / "bin/libhook").chmod(0o755)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = {
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "PS1": "ready> ",
            "PS2": "more> ",
            "TERM": "dumb",
            "HISTFILE": "",
        }
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    until(terminal, "ready> ")
    os.write(terminal, f"source {SCRIPT}\n".encode())
    until(terminal, "ready> ")
    try:
        yield terminal
    finally:
        os.write(terminal, b"\x03\x04")
        os.close(terminal)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("detach a\\;\t", "<detach><a;touch evil>"),
        ('detach "a;\t', "<detach><a;touch evil>"),
        ("detach win\t", "<detach><win 11>"),
        ("detach 'lin\t", "<detach><lin & win (2)>"),
        ("detach \\{\t", "<detach><{a,b}>"),
        ("detach x\t", "<detach><x:1=2@y>"),
    ],
)
def test_what_is_completed_is_what_the_command_gets(folder: Path, typed: str, given: str) -> None:
    """In a real shell, typed at its prompt: the guest's name whole, and never a command."""
    with bash_in_a_terminal(folder) as terminal:
        os.write(terminal, f"libhook {typed}\n".encode())
        assert given in until(terminal, given)
    assert not (folder / "evil").exists()

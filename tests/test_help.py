# SPDX-License-Identifier: LGPL-2.1-or-later
"""--help, in a wide terminal and in a narrow one."""

import subprocess
from pathlib import Path

import pytest
from reference import commands

ROOT = Path(__file__).parent.parent
COMMANDS = list(commands())


def _help(width: int, *words: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": str(width)}
    command = ("/usr/bin/python3", "-m", "libhook", *words, "--help")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_fits_the_terminal(command: str, width: int) -> None:
    """In lines that do not wrap, but for one option of a usage that is longer; and no word is broken at a hyphen."""
    lines = _help(width, *filter(None, [command])).splitlines()
    assert [line for line in lines if len(line) > width and not line.lstrip().startswith("[-")] == []
    assert [line for line in lines if line.endswith("-") and not line.endswith(" -")] == []
    assert lines[0].startswith(f"usage: libhook {command}".rstrip())
    assert len(lines) > 4


@pytest.mark.parametrize("command", [(), ("devices",)])
def test_help_is_a_word_too(command: tuple[str, ...]) -> None:
    """As many programs have it."""
    words = ("/usr/bin/python3", "-m", "libhook", "help", *command)
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "80"}
    assert subprocess.check_output(words, cwd=ROOT, env=environment, text=True, timeout=60) == _help(80, *command)


def test_the_help_names_every_command() -> None:
    """With what it does beside it, in few lines."""
    lines = _help(80).splitlines()
    for command in COMMANDS:
        assert [line for line in lines if line.startswith(f"    {command} ")], command
    assert len(lines) < 45


def test_the_command_line_imports_no_command() -> None:
    """Each is imported when it is called, or every command would wait for all of them. The arguments come first."""
    words = "import sys; from libhook.command.parsing import parser; parser(); print(*sys.modules)"
    loaded = set(subprocess.check_output(["/usr/bin/python3", "-c", words], cwd=ROOT, text=True, timeout=60).split())
    assert "libhook.command.parsing" in loaded
    assert loaded & {"lxml", "libhook.command.commands", "libhook.command.looking", "libhook.history.command"} == set()
    assert [
        name for name in loaded if name.startswith(("libhook.story", "libhook.kinds", "libhook.hotplug.plug"))
    ] == []

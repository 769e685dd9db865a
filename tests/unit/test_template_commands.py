# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's name in the arguments of commands."""

import pytest
from settings_reading import parse

from libhook.errors import BadInput
from libhook.facts.written import quoted

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def _command(key: str, argument: str, name: str) -> str:
    (_, found) = parse(f"run.a.{key} = ['/usr/bin/sh', {quoted(argument)}]\n", name, UUID).actions["run"]["a"][key]
    return str(found)


@pytest.mark.parametrize("key", ["command", "undo"])
@pytest.mark.parametrize(
    ("argument", "name", "found"),
    [
        ("{name}", "win-11.a_b", "win-11.a_b"),
        ("--to=/srv/{name}/{uuid}", "win11", f"--to=/srv/win11/{UUID}"),
        ("{uuid}", "a b; reboot", UUID),
        ("{print} {{.ID}} {nmae} {", "a b", "{print} {{.ID}} {nmae} {"),  # awk's and docker's own
    ],
)
def test_a_command_has_the_name_in_its_argument(key: str, argument: str, name: str, found: str) -> None:
    """Only these two are filled in. Another brace is the command's own."""
    assert _command(key, argument, name) == found


@pytest.mark.parametrize("name", ["a b", "-rf", "..", ".", "$(reboot)", "a;b", "a=b", "a:b", "a/b", "ä", "x" * 256])
def test_a_name_that_a_shell_could_take_for_something_else_refuses_the_guest(name: str) -> None:
    """A command may be a shell, or may give its arguments to one."""
    with pytest.raises(BadInput, match=r"run\.a cannot be for the guest ") as refused:
        _command("command", "tell {name}", name)
    assert refused.value.hint == "use {uuid}, or let the command read LIBHOOK_GUEST in its environment"


def test_a_name_that_makes_an_argument_too_long_refuses_the_guest() -> None:
    """What the settings say of an argument's length is said of what it becomes."""
    with pytest.raises(BadInput, match=r"an argument gets too long$"):
        _command("command", "{name}" * 600, "x" * 200)


def test_a_command_that_is_asked_has_the_name_in_its_argument() -> None:
    """As ``run`` has."""
    config = parse("require.a.command = ['/usr/bin/test', '-e', '/srv/{name}']\n", "win11", UUID)
    assert config.actions["require"]["a"]["command"] == ["/usr/bin/test", "-e", "/srv/win11"]


@pytest.mark.parametrize("key", ["run.a.command", "run.a.undo", "require.a.command"])
def test_a_program_has_no_placeholder(key: str) -> None:
    """Who names a guest would choose what root executes."""
    with pytest.raises(BadInput, match=r"a\.(command|undo) is wrong$") as refused:
        parse(f"{key} = ['/srv/{{name}}', 'hello']\n", "win11", UUID)
    assert "the first a program's whole path without $ or {name}" in refused.value.hint

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an entry of ``run`` may say."""

import pytest

from libhook.errors import BadInput, TooNew
from libhook.facts import keys
from libhook.facts.command import Command, from_journal, parse, unit
from libhook.kinds.run import Run, read

TRUE = ["/usr/bin/true"]
WRONG = [
    ("two words", {"command": TRUE}, "named with at most 40 letters, digits, _ and -"),
    ("a" * 41, {"command": TRUE}, "named with at most 40"),
    ("", {"command": TRUE}, "named with at most 40"),
    ("a", "true", "with some of command, undo, at, user, seconds, background, on_failure"),
    ("a", {"command": TRUE, "name": "b"}, "with some of"),
    ("a", {"comand": TRUE}, "with some of"),
    ("a", {}, "with a command or an undo"),
    ("a", {"command": []}, "a list of texts"),
    ("a", {"command": "/usr/bin/true"}, "a list of texts"),
    ("a", {"command": ["true"]}, "a program's whole path"),
    ("a", {"command": ["/usr/bin/true", 1]}, "a list of texts"),
    ("a", {"command": ["/usr/bin/true", "a\0b"]}, "a list of texts"),
    ("a", {"command": ["/usr/bin/true"] * 257}, "a list of texts"),
    ("a", {"command": ["/" + "a" * 4096]}, "a list of texts"),
    ("a", {"undo": ["true"]}, "in undo"),
    ("a", {"command": TRUE, "at": "release"}, '"prepare" or "start" or "started" in at'),
    ("a", {"command": TRUE, "user": "-root"}, "the name of a user other than root in user"),
    ("a", {"command": TRUE, "user": ""}, "the name of a user other than root in user"),
    ("a", {"command": TRUE, "user": 0}, "other than root in user"),
    ("a", {"command": TRUE, "user": "root"}, "other than root in user"),
    ("a", {"command": TRUE, "user": "0"}, "other than root in user"),
    ("a", {"command": ["/usr/$x"]}, "a program's whole path"),
    ("a", {"command": TRUE, "seconds": 0}, "0.1 to 600 seconds"),
    ("a", {"command": TRUE, "seconds": 601}, "0.1 to 600 seconds"),
    ("a", {"command": TRUE, "seconds": True}, "0.1 to 600 seconds"),
    ("a", {"command": TRUE, "seconds": float("nan")}, "0.1 to 600 seconds"),
    ("a", {"command": TRUE, "background": 1}, "true or false in background"),
    ("a", {"undo": TRUE, "background": True}, "with a command, if background is true"),
    ("a", {"command": TRUE, "on_failure": "ignore"}, '"refuse" or "log" in on_failure'),
    ("a", {"command": TRUE, "after": "modules"}, '"units" in after'),
    ("a", {"command": TRUE, "after": "units", "at": "start"}, "without after at start"),
    ("a", {"command": TRUE, "reconnect": "yes"}, "true or false in reconnect"),
    ("a", {"undo": TRUE, "reconnect": True}, "without reconnect = true, which needs a command"),
    ("a", {"command": TRUE, "background": True, "reconnect": True}, "a command that is not in the background"),
    ("a", {"command": TRUE, "reason": ""}, "a line of text in reason"),
    ("a", {"command": TRUE, "at": "started", "on_failure": "refuse"}, "a guest that runs is refused nothing"),
]


@pytest.mark.parametrize(("name", "table", "said"), WRONG)
def test_what_is_wrong_is_said(name: str, table: object, said: str) -> None:
    """And the settings say it, too."""
    with pytest.raises(BadInput) as raised:
        parse(name, table)
    assert said in raised.value.message
    (wrong,) = keys.wrong_entries("run", {name: table})
    wanted = f"{wrong.wanted} in {wrong.at[1]}" if len(wrong.at) == 2 else f"a section {raised.value.message}"
    assert said in wanted or wrong.near
    assert wrong.at[0] == name


def test_settings_that_are_no_sections() -> None:
    """The form is shown."""
    assert "[run.NAME]" in keys.expectation("run", ["/usr/bin/true"])
    assert keys.expectation("run", {"a": {"command": TRUE}}) == ""


def test_what_an_entry_says() -> None:
    """All of it, and the defaults."""
    assert parse("a", {"command": TRUE}) == Command("a", ("/usr/bin/true",))
    table = {
        "command": ["/usr/bin/a", "$HOME", "%n", ""],
        "undo": ["/usr/bin/b"],
        "at": "started",
        "user": "tim.s",
        "seconds": 5,
        "background": True,
        "on_failure": "log",
    }
    found = parse("A-1_b", table)
    argv = ("/usr/bin/a", "$HOME", "%n", "")
    assert found == Command("A-1_b", argv, ("/usr/bin/b",), "started", "tim.s", 5.0, True, "log")
    assert found.programs == ("/usr/bin/a", "/usr/bin/b")


@pytest.mark.parametrize("at", ["prepare", "started"])
@pytest.mark.parametrize(
    "more",
    [{}, {"command": TRUE, "reconnect": True, "reason": "x"}, {"command": TRUE, "background": True, "user": "tim"}],
)
def test_the_journal_gives_back_what_it_was_given(at: str, more: dict[str, object]) -> None:
    """Field by field."""
    one = parse("a", {"undo": ["/usr/bin/b", "", "x"], "at": at, "seconds": 2, **more})
    assert from_journal({"kind": "run", **one.to_json()}) == one


@pytest.mark.parametrize(
    "field",
    ["command", "undo", "at", "user", "seconds", "background", "on_failure", "reason", "reconnect", "after", "name"],
)
def test_a_journal_that_somebody_wrote_is_not_believed(field: str) -> None:
    """Each field is checked as in the settings."""
    with pytest.raises(BadInput):
        from_journal({**parse("a", {"command": TRUE, "undo": TRUE}).to_json(), field: ["x y", 1]})


@pytest.mark.parametrize("taps", [[], ["vnet3", "vnet4"]])
def test_the_journal_gives_back_the_taps(taps: list[str]) -> None:
    """The undo is told them."""
    one = Run(parse("a", {"command": TRUE}), taps=tuple(taps))
    assert read(one.to_json()) == one


@pytest.mark.parametrize("taps", ["vnet3", [3], None])
def test_taps_that_somebody_wrote_are_not_believed(taps: object) -> None:
    """They go into a command's environment."""
    with pytest.raises(BadInput):
        read({**Run(parse("a", {"command": TRUE})).to_json(), "taps": taps})


def test_the_units_of_a_command() -> None:
    """One for the command, one for its undo."""
    assert unit("u", "a") == "libhook-run-u-a.service"
    assert unit("u", "a", undo=True) == "libhook-undo-u-a.service"


def test_a_command_of_a_later_version_is_left_to_it() -> None:
    """What has its default is not written, so that an earlier version reads what it knows."""
    written = parse("a", {"command": TRUE}).to_json()
    assert written == {"name": "a", "command": TRUE}
    with pytest.raises(TooNew, match="a command that has colour"):
        from_journal({"kind": "run", **written, "colour": "red"})

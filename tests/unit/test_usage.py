# SPDX-License-Identifier: LGPL-2.1-or-later
"""A wrong command line is answered with what was probably meant."""

import pytest

from libhook.command import parsing
from libhook.command.usage import meant

RATHER = "; libhook status shows all guests, and libhook inspect {} the devices of one"
ACTING = "prepare, start, started, release or reconnect"


@pytest.mark.parametrize(
    ("words", "usage", "said"),
    [
        ("devcies", "libhook [-h]", "libhook: there is no command devcies: did you mean devices?"),
        ("devices --jsn", "libhook devices ", "libhook devices: there is no option --jsn: did you mean --json?"),
        ("plan --evnt=start x", "libhook plan ", "libhook plan: there is no option --evnt: did you mean --event?"),
        (
            "status --frobnicate",
            "libhook status ",
            "libhook status: there is no option --frobnicate; there are -h, --help, --json",
        ),
        ("--bogus", "libhook [-h]", "libhook: there is no option --bogus; there are -h, --help, --version"),
        ("--verson", "libhook [-h]", "libhook: there is no option --verson: did you mean --version?"),
        (
            "--json status",
            "libhook [-h]",
            "libhook: there is no option --json; an option of a command stands after it: libhook COMMAND --json",
        ),
        (
            "status x\033[31m y",
            "libhook status ",
            f'libhook status: too many arguments: "x\\x1b[31m" y{RATHER.format("GUEST")}',
        ),
        ("status win11", "libhook status ", f"libhook status: too many arguments: win11{RATHER.format('win11')}"),
        ("doctor x y", "libhook doctor ", "libhook doctor: too many arguments: x y"),
        (
            "plan x --event prepar",
            "libhook plan ",
            f"libhook plan: --event takes {ACTING}, not prepar: did you mean prepare?",
        ),
        (
            "history --result held",
            "libhook history ",
            "libhook history: --result takes success or failed, not held",
        ),
        (
            "history --result failure",
            "libhook history ",
            "libhook history: --result takes success or failed, not failure: did you mean failed?",
        ),
        (
            "handlers enabel x",
            "libhook handlers ",
            "libhook handlers: it takes enable or disable, not enabel: did you mean enable?",
        ),
    ],
)
def test_what_was_meant_is_said(words: str, usage: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the usage of the very command, and nothing of it reaches the terminal as it is."""
    with pytest.raises(SystemExit) as ended:
        parsing.parser().parse_args(words.split(" "))
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith(f"usage: {usage}")
    assert err.splitlines()[-1] == said


def test_where_nothing_is_near_all_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The usage does not have them."""
    with pytest.raises(SystemExit):
        parsing.parser().parse_args(["zzz"])
    assert "there is no command zzz; there are inspect, plan, devices, " in capsys.readouterr().err


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """All are named. It is a wrong usage, and no program's fault."""
    with pytest.raises(SystemExit) as ended:
        parsing.parser().parse_args([])
    assert ended.value.code == 2
    assert "libhook: a command is missing; there are inspect, plan, devices, " in capsys.readouterr().err


def test_nobody_is_asked_whether_a_word_means_itself() -> None:
    """It may be known elsewhere: a guest that never had a device, a graphics card where there is none."""
    assert meant("web", ["web"]) == ""
    assert meant("web", ["web", "web1"]) == ": did you mean web1?"

# SPDX-License-Identifier: LGPL-2.1-or-later
"""A wrong command line is answered with what was probably meant."""

import pytest

from libhook.command import parsing

ACTING = ("prepare", "start", "started", "release", "reconnect")


@pytest.mark.parametrize(
    ("words", "usage", "said"),
    [
        ("devcies", "libhook [-h]", "libhook: there is no command devcies: did you mean devices?"),
        ("devices --jsn", "libhook devices ", "libhook devices: there is no option --jsn: did you mean --json?"),
        ("plan --evnt=start x", "libhook plan ", "libhook plan: there is no option --evnt: did you mean --event?"),
        ("history --frobnicate", "libhook history ", "libhook history: there is no option --frobnicate"),
        ("status x\033[31m y", "libhook status ", "libhook status: too many arguments: x\\x1b[31m y"),
        (
            "plan x --event prepar",
            "libhook plan ",
            f"libhook plan: --event is one of {', '.join(ACTING)}, not prepar: did you mean prepare?",
        ),
        (
            "handlers enabel x",
            "libhook handlers ",
            "libhook handlers: enable|disable is one of enable, disable, not enabel: did you mean enable?",
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

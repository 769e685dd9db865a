# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts leave in the background, wait for, and end."""

from pathlib import Path

from test_carried import fates, imported


def test_what_stays_behind_by_itself_is_told(tmp_path: Path) -> None:
    """The script ends it by its name. libhook ends what a command leaves, when it has ended."""
    found = imported(tmp_path, begin="barrierc 192.0.2.1", end="killall barrierc")
    assert any("barrierc seems to stay behind when its command has ended" in line for line in found.lines)
    found = imported(tmp_path, begin="barrierc 192.0.2.1 &", end="killall barrierc")
    assert not any("seems to stay behind" in line for line in found.lines)
    assert fates(found)["killall barrierc"] == {"undone"}


def test_the_background_is_where_it_is_called(tmp_path: Path) -> None:
    """A function that is called there, and a list; whoever ends it is in order."""
    found = imported(tmp_path, running="""
as() { sudo -u tim "$@"; }
as foo one &
as foo two
( foo three; foo four ) &""")  # fmt: skip
    entries = {text.partition("]")[0]: text for text in found.text.split("[run.")[1:]}
    assert {name for name, text in entries.items() if "background" in text} == {"foo-one", "foo-three", "foo-four"}
    assert list(entries).index("foo-three") < list(entries).index("foo-four")


def test_a_wait_for_a_process_ends(tmp_path: Path) -> None:
    """It is there at first, and what comes after the wait is known."""
    found = imported(tmp_path, begin="while pgrep -x Hyprland; do sleep 1; done\nfoo after")
    assert fates(found)["foo after"] == {"kept"}
    assert not any("did not end" in line for line in found.lines)


def test_a_lock_against_sleep_is_one(tmp_path: Path) -> None:
    """Whatever it is held by."""
    found = imported(tmp_path, begin="systemd-inhibit --what=sleep --why=x sleep infinity &")
    assert 'sleep = "inhibit"' in found.text


def test_a_delay_in_the_background_is_told(tmp_path: Path) -> None:
    """It is no wait for the next step."""
    found = imported(tmp_path, begin="(sleep 10; foo a) &\nsleep 5")
    assert fates(found)["(sleep 10; foo a) &"] == {"kept", "left"}
    assert fates(found)["sleep 5"] == {"needless"}

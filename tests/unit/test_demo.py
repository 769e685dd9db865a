# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo plays a life through the real launcher, shows it in 80 columns, and leaves nothing."""

import io
from pathlib import Path

import pytest
from scenario import LAUNCHER

from libhook.simulation import demo

PAGE = Path(__file__).parents[2] / "docs/installing.md"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """It does."""
        return True


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the demo's host is made."""
    folder = tmp_path / "host"
    monkeypatch.setattr(demo, "scratch", lambda: str(folder))
    return folder


def test_it_plays_a_life_and_a_refusal_and_cleans_up(scratch: Path) -> None:
    """Exit 0, every part there as the page shows it, under 80 columns, no colour in a file, the host's folder gone."""
    out = io.StringIO()
    assert demo.play_demo(str(LAUNCHER), out) == ""
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) < 80
    assert [line.split()[2] for line in text.splitlines() if line.startswith("hooks/qemu win11")] == [
        "prepare", "start", "started", "stopped", "release",
    ]  # fmt: skip
    assert text.count("none differs") == 2
    assert text.count("res=success") == 6
    assert "refused  0000:03:00.0 shares IOMMU group 14 with 0000:03:00.1" in text
    assert "\033" not in text
    assert not scratch.exists()
    shown = PAGE.read_text().split("From its output:\n\n```text\n")[1].split("\n```")[0].splitlines()
    assert [line for line in shown if line not in (*text.splitlines(), "...")] == []


@pytest.mark.usefixtures("scratch")
def test_colour_on_a_terminal_only_and_not_against_the_readers_will(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colour, unless NO_COLOR is set."""
    terminal = Terminal()
    demo.play_demo("/nonexistent", terminal)
    assert "\033[31m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    demo.play_demo("/nonexistent", terminal)
    assert "\033" not in terminal.getvalue()


def test_a_hook_that_does_not_work_is_seen(scratch: Path, tmp_path: Path) -> None:
    """A launcher that binds nothing fails the demo, which says why and cleans up all the same."""
    launcher = tmp_path / "qemu"
    launcher.write_text("#!/bin/sh\nexit 0\n")
    launcher.chmod(0o755)
    out = io.StringIO()
    assert "must be manually" in demo.play_demo(str(launcher), out)
    assert "error    internal error: Unmanaged" in out.getvalue()
    assert not scratch.exists()

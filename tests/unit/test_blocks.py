# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each command that a page shows is run on a simulated host, and prints what the page says; or here is said why not."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from page_stage import Stage

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

SYSTEMD = "needs systemd as process 1: the lab with systemd runs it"
PLAYED = "tests/unit/test_handler_example.py runs it as it is printed"
WHEEL = "tests/test_outside.py makes such a venv, and runs the page's tests in it"
FOLLOWS = "goes on until it is ended: tests/unit/test_history_follow.py"
PACKAGES = "installs packages"
DEMO = "tests/unit/test_demo.py plays it"
NOT_RUN = {
    ("README.md", "./install.sh --demo"): DEMO,
    ("README.md", "tests/run"): "this is it",
    ("CONTRIBUTING.md", "sudo tests/run --quick"): "this is it",
    ("compliance.md", "systemctl enable --now libhook-watch"): SYSTEMD,
    ("crashes.md", "systemctl enable libhook-recover"): SYSTEMD,
    (
        "decisions.md",
        "python3 -c",
    ): "makes 50 MB: tests/attacks/test_launcher_growth.py has the like",
    ("decisions.md", "time LIBHOOK_ROOT=/tmp/none bash hooks/qemu g prepare begin - <big.xml"): "the same",
    ("follow.md", "libhook history --follow"): FOLLOWS,
    ("follow.md", "libhook history --follow --json --cursor /var/lib/libhook-follow/cursor"): FOLLOWS,
    ("follow.md", "journalctl -u libhook-follow -o cat | jq 'select(.event == \"failed\")'"): "needs the reader's own "
    "service, and jq: no test runs it",
    ("handlers.md", "/usr/bin/python3 -m pytest -q tests/unit/test_reserved.py"): PLAYED,
    ("handlers.md", "/usr/bin/python3 -m libhook.simulation /tmp/host"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook devices"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook plan win11"): PLAYED,
    ("handlers.md", "/usr/bin/python3 -m libhook.simulation /tmp/host /tmp/host/win11.xml"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook status"): PLAYED,
    ("handlers.md", "LIBHOOK_ROOT=/tmp/host /usr/bin/python3 -m libhook recover"): PLAYED,
    ("handlers.md", "/usr/bin/python3 -m libhook.simulation /tmp/host /tmp/host/other.xml"): PLAYED,
    ("hotplug.md", "systemctl enable --now libhook-watch"): SYSTEMD,
    ("installing.md", "./install.sh --demo"): DEMO,
    ("testing.md", "/usr/bin/python3 -m venv --system-site-packages venv"): WHEEL,
    ("testing.md", "venv/bin/pip install --no-deps PATH-OF-A-CLONE-OF-LIBHOOK"): WHEEL,
    ("testing.md", "venv/bin/python -m pytest"): WHEEL,
    ("tutorial.md", "apt-get install virt-manager libvirt-daemon-system ovmf swtpm-tools auditd"): PACKAGES,
}
"""Commands that are not run here, each with its page and the reason. What they say of libhook is still held to its
parser (tests/test_docs.py)."""
ENDS_WITH = {"libhook detach win11 nic.xml --timeout 10": 1}
"""Commands that do not end with 0."""
BEFORE = {
    "history-page.md": Stage.rotated,
    "identity.md": Stage.card_changed,
    "old-scripts.md": Stage.old_hooks,
}
"""What has happened on the host of a page's reader."""


class Shown(NamedTuple):
    """A command of a page, and the lines that the page shows below it; "..." stands for any."""

    page: str
    command: str
    printed: tuple[str, ...]
    at_terminal: bool
    """Shown with a prompt: what a person sees in a terminal of 120 columns, but for the colours."""

    @property
    def key(self) -> tuple[str, str]:
        """Its name in NOT_RUN: without a comment, and only the first line of a program that it holds."""
        words = re.sub(r"\s+#\s.*", "", self.command).strip()
        return self.page, "python3 -c" if words.startswith("python3 -c") else words


def shown(page: Path) -> Iterator[Shown]:
    """The commands in the blocks of a page, in order. A block without a language is one of a shell's, if indented."""
    text = page.read_text()
    blocks = [(found[1], found[2]) for found in re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S)]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    blocks += [("sh", found[1]) for found in re.finditer(r"(?:^|\n\n)((?:    [^\s*-].*\n)+)", rest)]
    for language, block in blocks:
        assert language, f"{page.name}: a block without a language: {block[:60]}"
        if language == "sh":
            for line in block.replace(" |\n", " | ").splitlines():
                yield Shown(page.name, line.strip(), (), at_terminal=False)
        if language == "console":
            for part in re.split(r"^[#$] ", block, flags=re.M)[1:]:
                command, *printed = part.splitlines()
                yield Shown(page.name, command, tuple(line for line in printed if line), at_terminal=True)


def is_shown(printed: str, shown: tuple[str, ...]) -> bool:
    """Whether a page shows what was printed, all of it or nothing, but for colours, and for what "..." stands for."""
    lines = [line.rstrip() for line in re.sub(r"\033\[[\d;]*m", "", printed).splitlines()]
    wanted = "".join("(?:.*\n)*" if line == "..." else f"{re.escape(line)}\n" for line in shown)
    return not shown or bool(re.fullmatch(wanted, "".join(f"{line}\n" for line in lines if line)))


EVERYTHING = [one for page in PAGES for one in shown(page)]


def test_what_is_not_run_is_listed_and_nothing_else_is() -> None:
    """No command is passed over silently, and no reason stands here for what no page shows any more."""
    here = [one.key for one in EVERYTHING]
    assert [key for key in NOT_RUN if key not in here] == []
    assert len(set(here) - set(NOT_RUN)) > 15


@pytest.mark.parametrize("page", sorted({one.page for one in EVERYTHING if one.key not in NOT_RUN}))
def test_the_commands_of_a_page_do_what_it_shows(page: str, root: str, tmp_path: Path) -> None:
    """From its first to its last, on one host: each ends as it should, and each line that is shown is printed."""
    stage = Stage(root, tmp_path)
    try:
        if page in BEFORE:
            BEFORE[page](stage)
        for one in EVERYTHING:
            if one.page == page and one.key not in NOT_RUN:
                code, printed = stage.run(one.command, at_terminal=one.at_terminal)
                assert code == ENDS_WITH.get(one.key[1], 0), (one.command, printed)
                assert is_shown(printed, one.printed), (one.command, printed)
    finally:
        stage.libvirt.end()
        shutil.rmtree(tmp_path / "work")
